"""AnthroProtect: 23,919 Sentinel-2 tiles of Fennoscandia, protected (WDPA Ia, Ib, II) or anthropogenic.

Stomberg, Stone, Leonhardt, Weber, Roscher: "Exploring Wilderness Using Explainable Machine Learning in
Satellite Imagery", arXiv 2203.00379 (2022). Layout as published::

    infos.csv                       file,lon,lat,category,label,dataset (or datasplit)
    tiles/s2/<file>                 10 bands, uint16 reflectance x 10000, 0 no data, 256 x 256
    tiles/lcs/<file>                4 bands: CORINE, MODIS, CGLS, GlobCover
    tiles/s2_scl/<file>             1 band, scene classification 0..11

For more than two classes there is a further table, `classes.csv` with file,class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.datasets.classes import class_order
from spacex.datasets.corine import corine_codes
from spacex.datasets.splits import SPLITS, assign_splits, blocks
from spacex.datasets.tiles import Chips, inspect, read_bands
from spacex.errors import DataError
from spacex.grid import CHIP

LAND_COVERS = ("CORINE", "MODIS", "CGLS", "GlobCover")
"""Bands of `tiles/lcs`."""


class AnthroProtect(Chips):
    """One split of AnthroProtect, or of anything laid out like it.

    `infos` also has `file`, `lon`, `lat` and `category`; `group` is the block of neighbouring tiles (see
    :mod:`spacex.datasets.splits`). `root` may be the folder above the one that holds `infos.csv`. A `target` tells
    apart the classes of `classes.csv`, and labels are then their numbers in `classes`.
    """

    hashed = "file"

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        self.root = _find(self.root)
        table = read_infos(self.root / "infos.csv", grouped=grouped)
        self.split_origin = "by place" if grouped else "official"
        if target:
            table, self.classes = _by_class(table, target, self.root / "classes.csv")
        return table


def read_infos(file: Path, *, grouped: bool = False) -> pd.DataFrame:
    """The index with its columns by name, whatever their order and whatever else there is.

    The split's column may be called `dataset` or `datasplit`; `grouped` replaces the official split by one that keeps
    neighbours together.

    Raises:
        DataError: if a column is missing, or a label or a split is none of the published ones.
    """
    try:
        table = pd.read_csv(file, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read", got=error, do="Unpack AnthroProtect again.") from error
    split = next((name for name in ("dataset", "datasplit") if name in table), "dataset")
    wanted = ["file", "lon", "lat", "category", "label", split]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise DataError(f"{file} lacks columns", got=", ".join(table.columns), expected=", ".join(wanted))
    table = table[wanted].rename(columns={split: "split"}).replace({"split": {"validation": "val"}})
    _check_values(table, file)
    table["path"] = "tiles/s2/" + table["file"]
    return _with_groups(table, grouped)


def read_land_cover(file: str | Path) -> NDArray[np.uint16]:
    """CORINE level-3 codes of one land-cover tile: (256, 256) uint16, 111..523, 0 for no data.

    Raises:
        DataError: if the tile cannot be read, does not have the four published bands, or holds no CORINE.
    """
    if problem := inspect(Path(file), len(LAND_COVERS), CHIP):
        raise DataError(f"{file} is no land-cover tile", got=problem, expected=", ".join(LAND_COVERS))
    return corine_codes(read_bands(Path(file), 1))


def _find(root: Path) -> Path:
    for folder in (root, root / "anthroprotect"):
        if (folder / "infos.csv").is_file():
            return folder
    do = "Give the folder that holds infos.csv and tiles/."
    raise DataError(f"{root} holds no AnthroProtect", got="no infos.csv", do=do)


def _by_class(table: pd.DataFrame, target: str, file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the number of each tile's class as its label, and the classes' names."""
    do = "Give each tile of infos.csv its class there, or leave --target out."
    try:
        listed = pd.read_csv(file, dtype=str, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read, so no classes are known", got=error, do=do) from error
    if not {"file", "class"} <= set(listed):
        raise DataError(f"{file} lacks columns", got=", ".join(listed), expected="file, class")
    names = table["file"].map(listed.dropna().drop_duplicates("file").set_index("file")["class"])
    if names.isna().any():
        raise DataError(f"{file} leaves tiles without a class", got=table["file"][names.isna()].iloc[0], do=do)
    classes = class_order(names, target, file.parent)
    return table.assign(label=names.map({name: number for number, name in enumerate(classes)})), classes


def _check_values(table: pd.DataFrame, file: Path) -> None:
    for column, allowed in (("label", {0, 1}), ("split", set(SPLITS))):
        strange = set(table[column].dropna()) - allowed
        if strange or table[column].isna().any():
            got = ", ".join(map(str, sorted(strange, key=str))) or "empty cells"
            raise DataError(f"unknown {column} in {file}", got=got, expected=", ".join(map(str, sorted(allowed))))
    for column, most in (("lon", 180), ("lat", 90)):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if not (numbers.abs() <= most).all():
            got = table[column][~(numbers.abs() <= most)].iloc[0]
            raise DataError(f"{column} in {file} is no longitude or latitude", got=got, expected="degrees")
    strange = table["file"][~table["file"].astype(str).str.fullmatch(r"[^/\\\\]+")]
    if len(strange):
        raise DataError(f"{file} lists files elsewhere", got=strange.iloc[0], expected="names within tiles/s2")
    twice = table["file"][table["file"].duplicated()]
    if len(twice):
        raise DataError(f"{file} lists files twice", got=", ".join(twice[:3]))


def _with_groups(table: pd.DataFrame, grouped: bool) -> pd.DataFrame:
    site = table["file"].str.replace(r"_[^_]*$", "", regex=True)  # a file's name is its site and a number
    group = blocks(table["lon"].to_numpy(), table["lat"].to_numpy(), site.tolist())
    table = table.assign(group=group)
    if not grouped:
        return table
    return table.assign(split=assign_splits(group, table["category"].tolist(), table["split"].tolist()))
