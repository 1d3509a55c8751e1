"""Makes labelled sets of chips of any land from polygons or land cover, with the same pixels as a map."""
