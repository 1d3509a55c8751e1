"""The places of a set: where each chip lies, what it is called, and in which split it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from spacex.dataset_building.labels import NATURAL, Candidates, estate_window
from spacex.datasets.splits import assign, blocks
from spacex.errors import RequestError
from spacex.execution.tasks import TileTask
from spacex.grid import CHIP, Grid, Window
from spacex.storage import write_text
from spacex.vectors import Polygons

BLOCK = 1024
"""Pixels along a tile, the unit of work: neighbouring chips share what is read of the scenes."""
SHARES = (0.8, 0.1, 0.1)
"""Of train, val and test: AnthroProtect's 19,123, 2,392 and 2,404."""
BUNDLES = 400
"""Blocks of neighbours that are balanced one by one; of more, several go together."""
CATEGORY, SITE = ("iucn_cat",), ("wdpaid", "wdpa_id", "wdpa_pid", "site_id", "id")
"""Attributes, in lower case, that name a natural polygon's category and site, the first that is there."""


@dataclass(frozen=True)
class ChipLocation:
    """One chip of a set."""

    file: str
    """Name of the chip's files."""
    row: int
    """First row on the global grid."""
    col: int
    lon: float
    """Of the middle, degrees."""
    lat: float
    category: str
    label: int
    split: str

    @property
    def window(self) -> Window:
        """The chip's pixels on the global grid."""
        return Window(self.row, self.col, CHIP, CHIP)

    @property
    def task(self) -> TileTask:
        """The tile in which the chip begins."""
        return TileTask(0, self.row // BLOCK, self.col // BLOCK)


def name_places(
    drawn: Candidates, grid: Grid, natural: Polygons, human: NDArray[np.object_]
) -> tuple[ChipLocation, ...]:
    """Give drawn chips their names, in AnthroProtect's manner, and their splits.

    Natural ones are called ``wdpa-II_907_58.tif`` after category and site where the file has such attributes
    (`CATEGORY`, `SITE`), else ``natural_3_58.tif`` after the number of the polygon; the others
    ``anthropo_5.52111-59.46264_0.tif`` after where their polygon (or square of 20 km) lies.

    Args:
        drawn: the chips.
        grid: the global grid.
        natural: what states the natural class.
        human: polygons of the anthropogenic class in the grid's CRS.
    """
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    half, r = CHIP / 2, grid.resolution
    lon, lat = to_degrees.transform((drawn.col + half) * r, -(drawn.row + half) * r)
    sites, numbers, files, groups = _sites(natural.table), Counter[str](), [], []
    for label, owner in zip(drawn.label.tolist(), drawn.owner.tolist(), strict=True):
        group = sites[owner] if label == NATURAL else _spot(owner, grid, human, to_degrees)
        groups.append(group)
        files.append(f"{group}_{numbers[group]}.tif")
        numbers[group] += 1
    splits = split(np.asarray(lon), np.asarray(lat), groups, drawn.label)
    return tuple(
        ChipLocation(file, row, col, round(float(x), 6), round(float(y), 6), group.split("_")[0], label, str(part))
        for file, row, col, x, y, group, label, part in zip(
            files, drawn.row.tolist(), drawn.col.tolist(), lon, lat, groups, drawn.label.tolist(), splits, strict=True
        )
    )


def _sites(table: pd.DataFrame) -> list[str]:
    """Category and site of each natural polygon, fit for a file's name."""
    columns = {str(name).lower(): table[name].tolist() for name in table}
    category = next((columns[name] for name in CATEGORY if name in columns), None)
    site = next((columns[name] for name in SITE if name in columns), None)
    found = []
    for index in range(len(table)):
        kind = f"wdpa-{_plain(category[index])}" if category else "natural"
        found.append(f"{kind}_{_plain(site[index]) if site else index + 1}")
    return found


def _plain(value: object) -> str:
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60] or "unnamed"


def _spot(owner: int, grid: Grid, human: NDArray[np.object_], to_degrees: Transformer) -> str:
    if owner >= 0:
        middle = shapely.point_on_surface(human[owner])
        x, y = middle.x, middle.y
    else:
        square, r = estate_window(owner), grid.resolution
        x, y = (square.col + square.width / 2) * r, -(square.row + square.height / 2) * r
    lon, lat = to_degrees.transform(x, y)
    return f"anthropo_{lon:.5f}-{lat:.5f}"


def split(
    lon: NDArray[np.float64], lat: NDArray[np.float64], groups: list[str], label: NDArray[np.int8]
) -> NDArray[np.str_]:
    """The split of each chip: neighbours and chips of one polygon stay together (`spacex.datasets.splits`)."""
    block = blocks(lon, lat, groups)
    goal = np.full(len(label), "train", dtype="<U5")
    for kind in np.unique(label):
        members = np.flatnonzero(label == kind)
        few = max(round(SHARES[1] * len(members)), 1) if len(members) > 2 else 0
        goal[members[:few]], goal[members[few : 2 * few]] = "val", "test"
    bundle = block % BUNDLES
    found = assign(bundle, [str(kind) for kind in label.tolist()], goal.tolist())
    for part in ("val", "test"):
        left = np.unique(bundle[found == "train"])
        # a small set would rather have no validation than a large one; training needs some
        if not (found == part).any() and len(left) > 1:
            found[bundle == min(left, key=lambda number: int((bundle == number).sum()))] = part
    return found


def save_places(file: Path, places: tuple[ChipLocation, ...]) -> None:
    """Keep the places for the workers, and for a run that resumes."""
    write_text(file, json.dumps([asdict(place) for place in places]))


def load_places(file: Path) -> tuple[ChipLocation, ...]:
    """Read what `save_places` wrote.

    Raises:
        RequestError: if it is damaged.
    """
    try:
        return tuple(ChipLocation(**record) for record in json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        do = "Remove the set and its run folder, and begin anew."
        raise RequestError(f"the places of an earlier run are damaged: {file}", got=error, do=do) from error
