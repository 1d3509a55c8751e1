"""A land-cover raster of our own in CORINE's nomenclature: a settled plain of the embedded country, 100 m cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.transform import from_origin

from spacex.synthetic.landscape import Landscape
from spacex.synthetic.region import DEMO_SEED

LEVEL_3 = np.array([112, 122, 211, 231, 311, 312, 313, 324, 332, 333, 412, 511, 512], np.uint16)
"""The embedded country's classes, as in AnthroProtect."""
GRID_CODE = np.array([2, 4, 12, 18, 23, 24, 25, 29, 31, 32, 36, 40, 41], np.uint8)
"""The same in the EEA's raster: rows of its legend."""
SIDE, LEFT, TOP = 240, 510_000.0, 7_275_000.0
"""In EPSG:32634, so that a cell of the raster is none of the grid's."""


def write_land_cover(path: Path, grid_codes: bool) -> NDArray[np.uint16]:
    """Write it as the EEA does (grid codes, 255 where unknown) or as AnthroProtect (codes, 0); gives the codes."""
    middles = (np.arange(SIDE) + 0.5) * 100
    x, y = Transformer.from_crs(32634, 3035, always_xy=True).transform(*np.meshgrid(LEFT + middles, TOP - middles))
    codes = Landscape(DEMO_SEED).paint(x, y).corine
    codes[:10] = 0
    stored = np.where(codes > 0, GRID_CODE[np.searchsorted(LEVEL_3, codes)], 255) if grid_codes else codes
    profile = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8" if grid_codes else "uint16"}
    place = {"crs": "EPSG:32634", "transform": from_origin(LEFT, TOP, 100, 100), "nodata": 255 if grid_codes else 0}
    with rasterio.open(path, "w", driver="GTiff", **profile, **place) as target:
        target.write(stored.astype(profile["dtype"]), 1)
    return codes


@pytest.fixture(scope="session", params=["grid codes", "level 3", pytest.param("real", marks=pytest.mark.real)])
def land_cover(
    request: pytest.FixtureRequest, real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Ours in either numbering, and CORINE of a part of Switzerland where it is at hand."""
    if request.param == "real":
        return real_data("corine/ls100_12.tif")
    path = tmp_path_factory.mktemp("cover") / "cover.tif"
    write_land_cover(path, request.param == "grid codes")
    return path
