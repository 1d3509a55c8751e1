"""Where chips lie, and splits that keep neighbouring chips together without knowing all chips.

A cell is 1 degree of latitude by 1.5 degrees of longitude, some 100 km a side in Europe. Its name alone decides the
split, so a chip stays in its split when others come and go, and two data sets of the same land can be joined.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
from pyproj import Transformer
from rasterio.errors import RasterioError

from spacex.datasets.splits import number_of_name
from spacex.datasets.tiles import READERS, Problem
from spacex.errors import DataError
from spacex.rasters import open_raster

FILE = "places.csv"
"""Table with columns file, lat, lon (EPSG:4326, the middle of a chip), and class where files of classes share names."""
CELL_DEGREES = (1.0, 1.5)
"""Height and width of a cell."""
HELD_OUT = 0.15
"""Share of the cells that go to the test split, and as many to the validation split."""
ORIGIN = "by place: cells of 1 x 1.5 degrees are kept together"
"""What a card says of such a split."""


def cell_of(lat: float, lon: float) -> str:
    """Name of the cell that holds a place in degrees, e.g. ``65:17``."""
    return f"{floor(lat / CELL_DEGREES[0])}:{floor(lon / CELL_DEGREES[1])}"


def split_of_name(name: str) -> str:
    """The split of a cell, or of a chip without a place, by its name's SHA-256 digest: `test`, `val` or `train`."""
    number = number_of_name(name)
    return "test" if number < HELD_OUT else "val" if number < 2 * HELD_OUT else "train"


def split(
    table: pd.DataFrame, root: Path, grouped: bool, locate: Callable[[Path], tuple[float, float] | None] | None = None
) -> tuple[pd.DataFrame, str, list[Problem]]:
    """Split chips by place where places are known: from `FILE` in `root`, else from the files by `locate`.

    Args:
        table: a row per chip: `file`, `path`, `class`, `group` and `split`, which hold where places are unknown, and
            `given`, true where a folder decided the split. Where any did, nothing is changed unless `grouped`.
        root: folder of the set.
        grouped: refuse a set without places.
        locate: latitude and longitude of a file, or None.

    Returns:
        The chips with a place, or all; who made the split, for the card; what was left out.

    Raises:
        DataError: as `with_places`, and if `grouped` and no place is known.
    """
    given, named = table["given"], table.drop(columns="given")
    if given.any() and not grouped:
        return named, "by folder" if given.all() else "by file name", []
    if (root / FILE).exists():
        named = with_places(named, root)
    elif locate is not None:
        with ThreadPoolExecutor(READERS) as readers:
            middles = list(readers.map(locate, [root / path for path in named["path"]]))
        named[["lat", "lon"]] = np.array([place or (np.nan, np.nan) for place in middles]).reshape(-1, 2)
    known = named["lat"].notna() if "lat" in named else pd.Series(False, index=named.index)
    if not known.any():
        if grouped:
            do = f"Put a {FILE} with file, lat, lon (and class) there, or leave --grouped out."
            raise DataError(f"nothing says where the chips of {root} lie", got="--grouped", do=do)
        return named.drop(columns=["lat", "lon"], errors="ignore"), "by file name", []
    what = f"{(~known).sum()} of {len(named)} chips have no place and are left out"
    return with_cells(named[known]), ORIGIN, [] if known.all() else [Problem(FILE, what)]


def of_geotiff(path: str | Path) -> tuple[float, float] | None:
    """Latitude and longitude of the middle of a GeoTIFF; None if it has no CRS or cannot be read."""
    try:
        with open_raster(path) as source:
            if source.crs is None:
                return None
            middle = source.transform @ (source.width / 2, source.height / 2)
            return to_degrees(source.crs.to_wkt(), *middle)
    except RasterioError:
        return None


def to_degrees(crs: str, x: float, y: float) -> tuple[float, float]:
    """Latitude and longitude (EPSG:4326) of a place in any CRS."""
    lon, lat = _transformer(crs).transform(x, y)
    return lat, lon


@lru_cache(maxsize=64)
def _transformer(crs: str) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def with_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table, of which each row has `lat` and `lon`, with `group`, its cell, and `split`."""
    cells = [cell_of(lat, lon) for lat, lon in zip(table["lat"], table["lon"], strict=True)]
    return table.assign(group=cells, split=[split_of_name(cell) for cell in cells])


def with_places(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The table with `lat` and `lon` of each row from the `FILE` in `root`; NaN for chips it does not list.

    Rows are matched by `class` (if the file names classes) and `file`, whatever the file name's ending: chips of a
    place are the same as JPEG and as GeoTIFF.

    Raises:
        DataError: if the file lacks columns, lists a chip twice, or has a place that is none.
    """
    file = root / FILE
    try:
        places = pd.read_csv(file, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read", got=error) from error
    if not {"file", "lat", "lon"} <= set(places):
        raise DataError(f"{file} lacks columns", got=", ".join(places.columns), expected="file, lat, lon")
    degrees = places[["lat", "lon"]].apply(pd.to_numeric, errors="coerce")
    wrong = ~((degrees["lat"].abs() <= 90) & (degrees["lon"].abs() <= 180))
    if wrong.any():
        raise DataError(f"{file} has a place that is none", got=places[wrong].iloc[0].tolist(), expected="degrees")
    keys = ["class", "stem"] if "class" in places else ["stem"]
    degrees["stem"] = [Path(str(name)).stem for name in places["file"]]
    if "class" in places:
        degrees["class"] = places["class"]
    if (twice := degrees.duplicated(keys)).any():
        raise DataError(f"{file} lists a chip twice", got=places["file"][twice].iloc[0])
    stems = table.assign(stem=[Path(name).stem for name in table["file"]])
    return stems.merge(degrees, on=keys, how="left").drop(columns="stem").set_index(table.index)
