"""Writing chips in AnthroProtect's layout, so that what is made here is read like what is published."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

from spacex.grid import Grid, Window
from spacex.storage import atomic_path

FOLDERS = ("tiles/s2", "tiles/lcs", "tiles/s2_scl")
"""Where a chip's three files lie, all of one name: bands, land-cover maps, scene classification."""

COLUMNS = ("file", "lon", "lat", "category", "label", "dataset")
"""Of `infos.csv`."""


def write_tile(path: Path, array: NDArray[Any], grid: Grid, window: Window) -> None:
    """Write one tile, (bands, height, width) of the file's dtype with 0 = no data, as a GeoTIFF.

    The folder must be there; a file of that name is replaced in one step, so the name never stands for half a tile.
    """
    bands, height, width = array.shape
    profile = {
        **{"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": array.dtype},
        **{"crs": _crs(grid.crs), "transform": grid.transform(window), "nodata": 0},
        # planes apart, so that a reader of three bands does not pay for ten
        **{"compress": "zstd", "zstd_level": 1, "predictor": 2, "interleave": "band", "blockysize": height},
    }
    with atomic_path(path) as part, rasterio.open(part, "w", **profile) as file:
        file.write(array)


def remove_incomplete(root: Path) -> None:
    """Remove the temporary files that killed calls of `write_tile` left in a set; a call still running fails."""
    for folder in FOLDERS:
        for part in (root / folder).glob(".*.part"):
            part.unlink(missing_ok=True)


def digital_numbers(reflectance: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Reflectance as AnthroProtect stores it: uint16, times 10000, rounded; 0 for NaN and never for a valid pixel."""
    numbers = np.clip(np.rint(np.nan_to_num(reflectance, nan=0.0) * np.float32(10000)), 1, 65535)
    return np.where(np.isfinite(reflectance), numbers, 0).astype(np.uint16)


@lru_cache(maxsize=4)
def _crs(name: str) -> CRS:
    return CRS.from_user_input(name)
