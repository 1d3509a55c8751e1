"""Where chips lie, and splits that keep neighbouring chips together without knowing all chips.

A cell is 1 degree of latitude by 1.5 degrees of longitude, some 100 km a side in Europe. Its name alone decides the
split, so a chip stays in its split when others come and go, and two data sets of the same land can be joined.
"""

from __future__ import annotations

import hashlib
from math import floor
from pathlib import Path

import pandas as pd

from spacex.errors import DataError

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
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "test" if number < HELD_OUT else "val" if number < 2 * HELD_OUT else "train"


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
