"""The command line: what each command may be told, what it calls, and the one door every command ends through.

`python jobs/map_region.py` and `spacex map` are the same function. Nothing here imports torch, Ray, rasterio or
Zarr before a request has passed its checks, so that `--help` and a refusal answer at once.
"""
