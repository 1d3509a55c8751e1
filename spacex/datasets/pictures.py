"""Folders of ordinary pictures by class, for classifiers of anything.

::

    root/train/horse/*.jpg      splits as folders: train, and val and test if they exist;
    root/Forest/*.jpg           or classes alone (EuroSAT);
    root/trainA/*.jpg           or the two classes A and B of CycleGAN's data sets, with testA and testB

A split that does not exist is drawn class by class: about 15 % of the files each for val and test, at least one while
one is left for training. A file's name decides, so a file stays in its split when others come and go; files of one
scene do not stay together. Where a `root/places.csv` says where pictures lie (`spacex.datasets.places`), cells of land
are kept together instead. Names that begin with a dot and `__MACOSX` are ignored.

Pictures are PNG, JPEG or GeoTIFF of 8 bits, all of one size, square. Their bands are called red, green and blue and
lie in 0..1: brightness as shown, not reflectance, so a classifier trained on them cannot classify Sentinel-2 scenes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from torch import Tensor

from spacex.datasets import places
from spacex.datasets.classes import class_order
from spacex.datasets.splits import SPLITS, number_of_name, subsample
from spacex.datasets.tiles import Chips, Problem
from spacex.errors import DataError
from spacex.rasters import PICTURES, open_raster
from spacex.settings import PICTURE_BANDS

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Of picture files, in small or capital letters."""
HELD_OUT = 0.15
"""Share of the files in each split that is drawn."""
MAX_SIDE = 4096
"""Pixels a side of a picture that is opened."""


class Pictures(Chips):
    """One split of a folder of pictures by class.

    An item is the picture (3, side, side) float32 in 0..1 and the number of its class in `classes`, the target's last.
    `infos` also has `file` and `class`, and `lat` and `lon` where `places.csv` tells them. `bands` are `PICTURE_BANDS`,
    `grouped` needs that file, and `target` must be one of two or more classes.
    """

    known_bands = PICTURE_BANDS
    steps = 255
    advice = "Give more pictures of each class, or put them into folders train, val and test."

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        if self.bands != PICTURE_BANDS:
            got, expected = f"bands {','.join(self.bands)}", ",".join(PICTURE_BANDS)
            raise DataError(f"{self.root} holds pictures", got=got, expected=expected, do="Leave --bands out.")
        table = list_pictures(self.root)
        table, self.split_origin, self._unplaced = places.split(table, self.root, grouped)
        self.classes = class_order(table["class"], target, self.root)
        return table.assign(label=table["class"].map({name: number for number, name in enumerate(self.classes)}))

    def _select(self, rows: pd.DataFrame, limit: int | None) -> tuple[pd.DataFrame, list[Problem], int]:
        rows = subsample(rows, limit)
        self.side = most_frequent_side(self.root, rows["path"].tolist())
        rows, problems, checked = super()._select(rows, limit)
        return rows, self._unplaced + problems, checked

    def valid(self, index: int) -> NDArray[np.bool_]:
        """(side, side), True: pictures have no gaps."""
        return np.ones((self.side, self.side), dtype=bool)

    def _check(self, path: Path) -> str | None:
        try:
            with open_raster(path, formats=PICTURES) as source:
                return _problem_of(source, self.side)
        except RasterioError as error:
            return f"unreadable ({error})"

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        return read_picture(self.root / self._files[index])


def has_pictures(root: Path) -> bool:
    """Whether a folder holds pictures by class, in one of the three layouts."""
    return any(next(_pictures_in(folder), None) for *_, folder in _class_folders(root))


def list_pictures(root: Path, suffixes: Sequence[str] = SUFFIXES) -> pd.DataFrame:
    """A row per picture: `file` (its name), `path` below `root`, `class`, `split`, and `group`, which is the path.

    `given` says that a folder of a split decided, rather than the file's name.
    """
    folders = list(_class_folders(root))
    rows = [
        {"file": file.name, "path": file.relative_to(root).as_posix(), "class": name, "split": split}
        for split, name, folder in folders
        for file in _pictures_in(folder)
        if file.suffix.lower() in suffixes
    ]
    table = pd.DataFrame(rows, columns=["file", "path", "class", "split"])
    missing = [name for name in ("val", "test") if name not in {split for split, *_ in folders}]
    table["given"] = (table["split"] != "train") | (not missing)
    for _, members in table[table["split"] == "train"].groupby("class"):
        table.loc[members.index, "split"] = _draw_splits(members["path"].tolist(), missing)
    return table.assign(group=table["path"])


def _class_folders(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Split, class and folder of pictures; the split is `train` where folders are of classes alone."""
    lettered = [(split, letter, root / f"{split}{letter}") for split in SPLITS for letter in "AB"]
    if all((root / f"train{letter}").is_dir() for letter in "AB"):
        yield from (entry for entry in lettered if entry[2].is_dir())
        return
    by_split = [(name, root / name) for name in SPLITS if (root / name).is_dir()]
    for split, parent in by_split if (root / "train").is_dir() else [("train", root)]:
        for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
            if folder.is_dir() and not _is_hidden(folder):
                yield split, folder.name, folder


def _pictures_in(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file() and not _is_hidden(file):
            yield file


def _is_hidden(path: Path) -> bool:
    """Left by notebooks, archives and file managers: `.ipynb_checkpoints`, `__MACOSX`, `._x.png`."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _draw_splits(paths: Sequence[str], missing: Sequence[str]) -> list[str]:
    """The split of each picture of one class: `train`, or with a chance of `HELD_OUT` each one of the missing ones."""
    # uniform in 0..1 and decided by the path alone; the missing splits are its first intervals
    numbers = [number_of_name(path) for path in paths]
    intervals = [int(number / HELD_OUT) for number in numbers]
    splits = [missing[interval] if interval < len(missing) else "train" for interval in intervals]
    # a small class may leave a split without a picture: the largest split gives it the one with the least number
    for name in (*missing, "train"):
        largest = max(("train", *missing), key=splits.count)
        if name not in splits and splits.count(largest) > 1:
            splits[min((n, i) for i, n in enumerate(numbers) if splits[i] == largest)[1]] = name
    return splits


def read_picture(path: str | Path) -> NDArray[np.float32]:
    """A picture as (3, rows, columns) float32 in 0..1: red, green, blue; grey is repeated, alpha left out."""
    try:
        with open_raster(path, formats=PICTURES) as source:
            if problem := _problem_of(source, None):
                raise DataError(f"{path} cannot be used", got=problem)
            bands = [1, 2, 3] if source.count >= 3 else [1, 1, 1]
            values: NDArray[np.uint8] = source.read(bands)
    except RasterioError as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a PNG, JPEG or GeoTIFF") from error
    return values.astype(np.float32) / np.float32(255)


def read_pictures(paths: Sequence[str | Path], side: int) -> Tensor:
    """Several pictures of one size, (n, 3, side, side) float32; DataError if one has another size."""
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape[1:] != (side, side):
            got = f"{picture.shape[2]} x {picture.shape[1]} pixels"
            raise DataError(f"{path} has another size", got=got, expected=f"{side} x {side}")
    return torch.from_numpy(np.stack(pictures))


def _problem_of(source: Any, side: int | None) -> str | None:
    width, height, count = source.width, source.height, source.count
    if set(source.dtypes) != {"uint8"}:
        return f"{source.dtypes[0]} instead of 8 bits"
    if bits := source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS"):
        return f"{bits} bits a pixel instead of 8"
    if count not in (1, 2, 3, 4) or ColorInterp.palette in source.colorinterp:
        return "a palette" if count == 1 else f"{count} bands instead of grey or red, green, blue"
    if max(width, height) > MAX_SIDE:
        return f"{width} x {height} pixels, more than {MAX_SIDE}"
    if side is not None and (width, height) != (side, side):
        return f"{width} x {height} pixels instead of {side} x {side}"
    return None


def most_frequent_side(root: Path, paths: Sequence[str]) -> int:
    """The most frequent width of the first pictures; 0 if none of them can be opened."""
    widths = Counter[int]()
    for path in paths[:20]:
        with suppress(RasterioError), open_raster(root / path, formats=PICTURES) as source:
            widths[source.width] += 1
    return widths.most_common(1)[0][0] if widths else 0
