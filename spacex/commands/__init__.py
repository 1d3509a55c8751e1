"""The command line: one module for each command, and one entry point (`spacex.commands.app`) for all of them.

`python jobs/map_region.py` and `spacex map` are the same function. Nothing here imports torch, Ray, rasterio or
Zarr before a request has passed its checks, so that `--help` and a refusal answer at once.
"""
