"""Locations of a set's chips: where each chip lies, its file name, and its split."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from spacex.dataset_building.labels import NATURAL, Candidates, cover_block_window
from spacex.datasets.splits import assign_splits, blocks
from spacex.errors import RequestError
from spacex.execution.tasks import TileTask
from spacex.grid import CHIP, Grid, Window
from spacex.storage import write_text
from spacex.vectors import Polygons

TILE = 1024
"""Pixels along a tile, the unit of work: neighbouring chips share blocks of the scenes' files."""
SHARES = (0.8, 0.1, 0.1)
"""Of train, val and test: AnthroProtect's 19,123, 2,392 and 2,404."""
MAX_BLOCKS = 400
"""Blocks of neighbours that are assigned to splits one by one; of more, several go together."""
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
    share: float = math.nan
    """Of the chip in its class; NaN in sets made before it was kept."""

    @property
    def window(self) -> Window:
        """The chip's pixels on the global grid."""
        return Window(self.row, self.col, CHIP, CHIP)

    @property
    def task(self) -> TileTask:
        """The tile in which the chip begins."""
        return TileTask(0, self.row // TILE, self.col // TILE)


def name_locations(
    drawn: Candidates, grid: Grid, natural: Polygons, anthropogenic: NDArray[np.object_]
) -> tuple[ChipLocation, ...]:
    """Name chips in AnthroProtect's manner, and assign them to splits.

    Natural ones are called ``wdpa-II_907_58.tif`` after category and site where the file has such attributes
    (`CATEGORY`, `SITE`), else ``natural_3_58.tif`` after the number of the polygon; the others
    ``anthropo_5.52111-59.46264_0.tif`` after where their polygon in the grid's CRS (or square of 20 km) lies.
    """
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    half, r = CHIP / 2, grid.resolution
    # chips of one polygon or block form a group, whose name is the file's up to the chip's number in it
    lon, lat = to_degrees.transform((drawn.col + half) * r, -(drawn.row + half) * r)
    sites, numbers, files, groups = _site_names(natural.table), Counter[str](), [], []
    for label, polygon_id in zip(drawn.label.tolist(), drawn.polygon_id.tolist(), strict=True):
        if label == NATURAL:
            group = sites[polygon_id]
        else:
            x, y = _point_of(polygon_id, grid, anthropogenic)
            group = "anthropo_{:.5f}-{:.5f}".format(*to_degrees.transform(x, y))
        groups.append(group)
        files.append(f"{group}_{numbers[group]}.tif")
        numbers[group] += 1
    splits = split(np.asarray(lon), np.asarray(lat), groups, drawn.label)
    rows, cols, labels, shares = (part.tolist() for part in (drawn.row, drawn.col, drawn.label, drawn.share))
    columns = files, rows, cols, lon, lat, groups, labels, splits, shares
    return tuple(
        ChipLocation(
            file,
            row,
            col,
            round(float(x), 6),
            round(float(y), 6),
            group.split("_")[0],
            label,
            str(part),
            round(share, 3),
        )
        for file, row, col, x, y, group, label, part, share in zip(*columns, strict=True)
    )


def _site_names(table: pd.DataFrame) -> list[str]:
    """Category and site of each natural polygon, fit for a file's name."""
    columns = {str(name).lower(): table[name].tolist() for name in table}
    category = next((columns[name] for name in CATEGORY if name in columns), None)
    site = next((columns[name] for name in SITE if name in columns), None)
    prefixes = [f"wdpa-{_slug(value)}" for value in category] if category else ["natural"] * len(table)
    sites = map(_slug, site) if site else range(1, len(table) + 1)
    return [f"{prefix}_{name}" for prefix, name in zip(prefixes, sites, strict=True)]


def _slug(value: object) -> str:
    text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60] or "unnamed"


def _point_of(polygon_id: int, grid: Grid, anthropogenic: NDArray[np.object_]) -> tuple[float, float]:
    """A point in a polygon, or the middle of a block of land cover, in the grid's CRS."""
    if polygon_id >= 0:
        point = shapely.point_on_surface(anthropogenic[polygon_id])
        return point.x, point.y
    block, r = cover_block_window(polygon_id), grid.resolution
    return (block.col + block.width / 2) * r, -(block.row + block.height / 2) * r


def split(
    lon: NDArray[np.float64], lat: NDArray[np.float64], groups: list[str], label: NDArray[np.int8]
) -> NDArray[np.str_]:
    """The split of each chip: neighbours and chips of one polygon stay together (`spacex.datasets.splits`)."""
    # the numbers of chips wanted per class and split, as a split that ignores neighbours
    goal = np.full(len(label), "train", dtype="<U5")
    for kind in np.unique(label):
        members = np.flatnonzero(label == kind)
        held_out = max(round(SHARES[1] * len(members)), 1) if len(members) > 2 else 0
        goal[members[:held_out]], goal[members[held_out : 2 * held_out]] = "val", "test"
    # balancing is quadratic in the number of blocks, so of very many, several are moved together
    block = blocks(lon, lat, groups) % MAX_BLOCKS
    splits = assign_splits(block, [str(kind) for kind in label.tolist()], goal.tolist())
    for part in ("val", "test"):
        remaining = np.unique(block[splits == "train"])
        # rather a small validation split than none, as long as one block is left for training
        if not (splits == part).any() and len(remaining) > 1:
            splits[block == min(remaining, key=lambda number: int((block == number).sum()))] = part
    return splits


def save_locations(file: Path, locations: tuple[ChipLocation, ...]) -> None:
    """Store the locations for the workers, and for a run that resumes."""
    write_text(file, json.dumps([asdict(location) for location in locations]))


def load_locations(file: Path) -> tuple[ChipLocation, ...]:
    """Read what `save_locations` wrote; RequestError if it is damaged."""
    try:
        return tuple(ChipLocation(**record) for record in json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        do = "Remove the set and its run folder, and begin anew."
        raise RequestError(f"the chip locations of an earlier run are damaged: {file}", got=error, do=do) from error
