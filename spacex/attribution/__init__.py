"""Attribution: how maximised and minimised pictures differ, and which pixels make the classifier's logit change."""
