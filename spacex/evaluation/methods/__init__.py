"""Attribution methods that the maps are compared with."""
