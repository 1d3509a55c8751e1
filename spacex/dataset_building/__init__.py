"""Labelled sets of chips from any land: what is what, where to look, and the same pixels as a map's."""
