"""Two statements over the small archive: reserves in two of its corners, fields in the others."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

SOUTH, NORTH, WEST, EAST = (67.902, 67.950), (68.000, 68.048), (23.812, 23.940), (24.060, 24.188)
NATURAL = [(WEST, SOUTH), (EAST, NORTH)]
HUMAN = [(WEST, NORTH), (EAST, SOUTH)]
"""Longitudes and latitudes of squares of 5 km, more than 5 km apart: four blocks of neighbours."""


@pytest.fixture(scope="session")
def statements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``natural.gpkg`` (IUCN_CAT II and V), ``human.geojson`` and ``corine.tif``."""
    return write_statements(tmp_path_factory.mktemp("statements"))


def write_statements(folder: Path) -> Path:
    """Write the statements into a folder."""
    table = {"WDPAID": [11, 12], "IUCN_CAT": ["II", "V"]}
    frame(degrees(NATURAL), table).to_file(folder / "natural.gpkg", engine="pyogrio")
    frame(degrees(HUMAN), {"ID": [1, 2]}).to_file(folder / "human.geojson", engine="pyogrio")
    # fields (211) in the west half of each 500 m, conifers (312) in the east half
    codes = np.tile(np.repeat(np.array([211, 312], np.uint16), 5), (400, 40))
    profile = {"width": 400, "height": 400, "count": 1, "dtype": "uint16", "nodata": 0, "crs": 3035}
    transform = from_origin(4_890_000, 5_060_000, 100, 100)
    with rasterio.open(folder / "corine.tif", "w", driver="GTiff", transform=transform, **profile) as file:
        file.write(codes, 1)
    return folder


def degrees(squares: list[tuple[tuple[float, float], tuple[float, float]]]) -> list[tuple[float, ...]]:
    """West, south, east, north of squares."""
    return [(lon[0], lat[0], lon[1], lat[1]) for lon, lat in squares]


def frame(boxes: list[tuple[float, ...]], table: dict[str, list[object]]) -> geopandas.GeoDataFrame:
    """Boxes of degrees with attributes."""
    return geopandas.GeoDataFrame(table, geometry=[shapely.box(*box) for box in boxes], crs=4326)


def words(folder: Path, items: str, output: Path, **changes: object) -> list[str]:
    """The command line of a set from the small archive; keywords replace or (None) drop options."""
    options = {
        "natural": folder / "natural.gpkg", "anthropogenic": folder / "human.geojson",
        "datetime": "2020-07-01/2020-08-30", "catalogue": "demo", "items": items, "bands": "B02,B03,B04", "share": 0.8,
        "output": output, **{name.replace("_", "-"): value for name, value in changes.items()},
    }  # fmt: skip
    found = ["--local"]
    for name, value in options.items():
        if value is not None:
            found += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return found
