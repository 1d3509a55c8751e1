"""From a region to a cube, in the order a tile goes: region, plan, chips, tile, cube."""
