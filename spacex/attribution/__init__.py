"""Which pixels speak for naturalness: the patterns' own maps, and the baselines they are compared with."""
