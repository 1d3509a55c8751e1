"""MapInWild: 1,018 sites all over the world, weakly labelled by the World Database of Protected Areas.

Ekim, Stomberg, Roscher, Schmitt: "MapInWild: A Remote Sensing Dataset to Address the Question of What Makes
Nature Wild", IEEE GRSM 11 (2023). Two layouts are read. As published (and as torchgeo unpacks it)::

    split_IDs.csv                   train,validation,test: ragged columns of WDPA ids; or split_IDs/split_IDs.csv
    mask/<id>.tif                   1920 x 1920, 0 unprotected, 1..3 kinds of protected areas
    s2_temporal_subset/<id>.tif     10 bands, uint16 reflectance x 10000; also s2_spring, s2_summer, ...

and as its authors cut it for ASOS::

    tile_infos/file_infos.csv       relative path; season, category, label, subset, dataset, area_id, quality
    tiles/<True|False>/s2_<season>/<id>_<n>.tif     256 x 256, all of it inside or outside of a mask
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.datasets.splits import SPLITS, subsample
from spacex.datasets.tiles import READERS, Chips, Problem, inspect, read_bands, usable
from spacex.errors import DataError
from spacex.grid import CHIP

Season = Literal["subset", "autumn", "spring", "summer", "winter"]
"""Which picture of a site: the authors' choice of one season for each, or one season for all."""

SPLIT_FILES = ("split_IDs.csv", "split_IDs/split_IDs.csv")
"""As published by its authors, and on Hugging Face."""

SIDE = 1920
"""Side of a published scene in pixels."""

STEP = 8
"""Chips start at multiples of this many pixels of a scene, as in the authors' tiling."""


class MapInWild(Chips):
    """One split of MapInWild in either layout.

    `group` is the site. `grouped` has no effect, since the official split never divides a site, and `target` is
    refused, since there are two classes only.

    Args:
        args: those of `Chips`, like `settings`.
        season: which picture of each site.
        side: side of a scene in pixels, where it is not the published one.
        settings: by keyword.
    """

    split_origin = "official, by site"

    def __init__(self, *args: Any, season: Season = "subset", side: int = SIDE, **settings: Any) -> None:
        self._season, self._scene_side = season, side
        super().__init__(*args, **settings)

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        if target:
            raise DataError(f"{self.root} tells two classes apart", got=f"target {target}", do="Leave --target out.")
        if self._season not in get_args(Season):
            raise DataError("unknown season", got=self._season, expected=", ".join(get_args(Season)))
        tiled = (self.root / "tile_infos" / "file_infos.csv").is_file()
        return _tile_table(self.root, self._season) if tiled else _scene_table(self.root, self._season)

    def _select(self, rows: pd.DataFrame, limit: int | None) -> tuple[pd.DataFrame, list[Problem], int]:
        tiled = "label" in rows  # a scene has no label of its own
        side = CHIP if tiled else self._scene_side
        rows, problems = usable(self.root, rows, lambda path: inspect(path, len(self.known_bands), side))
        if not tiled:
            rows, unreadable = _cut_chips(self.root, rows, side)
            problems += unreadable
        checked = len(problems) + rows["path"].nunique()
        return subsample(rows.reset_index(drop=True), limit), problems, checked


def read_split_ids(file: Path) -> dict[int, str]:
    """Split of each site from the ragged `split_IDs.csv`; its `validation` is `val` here."""
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        do = "Give the folder with split_IDs.csv, mask/ and s2_*/, or with tile_infos/ and tiles/."
        raise DataError(f"{file} cannot be read", got=error, do=do) from error
    columns = ("train", "validation", "test")
    if missing := [column for column in columns if column not in table]:
        raise DataError(f"{file} lacks columns", got=", ".join(table.columns), expected=", ".join(missing))
    # columns of different length are padded with NaN, which makes the ids floats
    pairs = [(int(site), name) for name in columns for site in table[name].dropna()]
    splits = {site: "val" if name == "validation" else name for site, name in pairs}
    if len(splits) < len(pairs):
        raise DataError(f"{file} puts a site into two splits", got=f"{len(pairs) - len(splits)} sites")
    return splits


def pure_windows(mask: NDArray[np.bool_], inside: bool) -> list[tuple[int, int]]:
    """Corners (row, column) of chips that lie wholly inside, or wholly outside, of a mask and do not overlap.

    The first possible chip in reading order is taken, then the next that does not touch it, and so on.
    """
    # a summed-area table: a chip is pure where its sum is its area
    wanted = np.pad((mask == inside).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    full = wanted[CHIP:, CHIP:] - wanted[:-CHIP, CHIP:] - wanted[CHIP:, :-CHIP] + wanted[:-CHIP, :-CHIP]
    possible = full[::STEP, ::STEP] == CHIP * CHIP
    near = CHIP // STEP - 1
    corners = []
    while possible.any():
        row, col = np.unravel_index(int(possible.argmax()), possible.shape)
        corners.append((int(row) * STEP, int(col) * STEP))
        # what would overlap the chip just taken; rows above it have been searched
        possible[row : row + near + 1, max(0, col - near) : col + near + 1] = False
    return corners


def _scene_table(root: Path, season: Season) -> pd.DataFrame:
    name = "s2_temporal_subset" if season == "subset" else f"s2_{season}"
    # the published archives unpack into two folders, which torchgeo merges
    folders = [folder for folder in (name, f"{name}_part1", f"{name}_part2") if (root / folder).is_dir()]
    file = next((file for file in map(root.joinpath, SPLIT_FILES) if file.exists()), root / SPLIT_FILES[0])
    splits = read_split_ids(file)
    if not folders:
        there = ", ".join(sorted(folder.name for folder in root.glob("s2_*"))) or "none of any season"
        what, do = f"{root} has no pictures of this season", "Unpack it there, or name another with --season."
        raise DataError(what, got=f"no folder {name}, but {there}", do=do)
    where = {site: next((f for f in folders if (root / f / f"{site}.tif").exists()), folders[0]) for site in splits}
    rows = [(f"{folder}/{site}.tif", site, splits[site]) for site, folder in where.items()]
    return pd.DataFrame(rows, columns=["path", "group", "split"])


def _tile_table(root: Path, season: Season) -> pd.DataFrame:
    file = root / "tile_infos" / "file_infos.csv"
    table = pd.read_csv(file)
    wanted = ["season", "label", "subset", "dataset", "area_id"]
    path = next((name for name in table if table[name].astype(str).str.endswith(".tif").all()), None)
    if path is None or not set(wanted) <= set(table):
        expected = ", ".join(["a column of .tif paths", *wanted])
        raise DataError(f"{file} lacks columns", got=", ".join(map(str, table.columns)), expected=expected)
    chosen = table["subset"].astype(str) == "True" if season == "subset" else table["season"] == season
    table = table[chosen & table["dataset"].notna()]
    split = table["dataset"].replace("validation", "val")
    if strange := sorted(set(split) - set(SPLITS)):
        raise DataError(f"unknown split in {file}", got=strange, expected=", ".join(SPLITS))
    columns = {"path": "tiles/" + table[path], "label": table["label"], "group": table["area_id"], "split": split}
    return pd.DataFrame(columns)


def _cut_chips(root: Path, scenes: pd.DataFrame, side: int) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows of pure chips of these scenes, and the masks that could not be used."""
    scenes = scenes.assign(mask="mask/" + scenes["group"].astype(str) + ".tif")
    good, problems = usable(root, scenes, lambda path: inspect(path, 1, side), "mask")
    with ThreadPoolExecutor(READERS) as readers:
        corners = list(readers.map(lambda mask: _corners(root / mask), good["mask"]))
    rows = [
        (scene.path, scene.group, scene.split, label, row, col)
        for scene, chips in zip(good.itertuples(), corners, strict=True)
        for label, row, col in chips
    ]
    return pd.DataFrame(rows, columns=["path", "group", "split", "label", "row", "col"]), problems


def _corners(file: Path) -> list[tuple[int, int, int]]:
    """(label, row, column) of the pure chips of one mask."""
    mask = read_bands(file, 1) != 0
    return [(label, *corner) for label in (1, 0) for corner in pure_windows(mask, inside=bool(label))]
