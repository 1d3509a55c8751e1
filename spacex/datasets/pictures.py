"""Folders of ordinary pictures by class, for classifiers of anything.

::

    root/train/horse/*.jpg      splits as folders: train, and val and test where they are there;
    root/Forest/*.jpg           or classes alone (EuroSAT): 15 % of the files each go to val and to test

Splits that are not there are drawn from the files' names, so a file stays where it is when others come and go; files of
one place or scene do not stay together, so make folders where that matters.

Pictures are PNG, JPEG or GeoTIFF of 8 bits, all of one size, square. Their bands are called red, green and blue and
lie in 0..1: brightness as shown, not reflectance, so a classifier of theirs is no classifier of Sentinel-2 scenes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from torch import Tensor

from spacex.datasets.classes import ordered
from spacex.datasets.splits import SPLITS, split_hash
from spacex.datasets.tiles import Chips, Problem, find_problems, refuse_or_report, take
from spacex.errors import DataError
from spacex.rasters import PICTURES, open_raster
from spacex.settings import PICTURE_BANDS

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Of files that are taken for pictures, in small or capital letters."""
HELD_OUT = 0.15
"""Share of the files in each split that is drawn."""
LARGEST = 4096
"""Pixels a side of a picture that is opened."""


class Pictures(Chips):
    """One split of a folder of pictures by class.

    An item is the picture (3, side, side) float32 in 0..1 and the number of its class in `classes`, the target's last.
    `infos` holds `file`, `path`, `class`, `label`, `split` and `group`; `problems` lists files left out.

    Args:
        root: folder of the classes' folders, or of `train`.
        bands: `PICTURE_BANDS`.
        split: "train", "val" or "test".
        grouped: accepted and without effect: nothing says which pictures belong together.
        strict: refuse the data set if any picture of the split cannot be used.
        limit: use only that many pictures, all classes in proportion.
        target: the class to be scored and explained.

    Raises:
        DataError: if there are not two classes with pictures, the target is none of them, or the split is empty.
    """

    known_bands = PICTURE_BANDS
    steps = 255

    def __init__(
        self,
        root: str | Path,
        bands: Sequence[str] = PICTURE_BANDS,
        split: str = "train",
        *,
        grouped: bool = False,
        strict: bool = False,
        limit: int | None = None,
        target: str = "",
    ) -> None:
        folder = Path(root)
        if tuple(bands) != PICTURE_BANDS:
            got, expected = f"bands {','.join(bands)}", ",".join(PICTURE_BANDS)
            raise DataError(f"{folder} holds pictures", got=got, expected=expected, do="Leave --bands out.")
        table = list_pictures(folder)
        classes = ordered(table["class"], target, folder)
        self.split_hash = split_hash(table["path"], table["split"])
        rows = table[table["split"] == split]
        if rows.empty:
            raise DataError(f"the split {split!r} of {folder} is empty", got=f"{len(table)} pictures in all")
        rows = rows.assign(label=rows["class"].map({name: number for number, name in enumerate(classes)}))
        rows = take(rows.reset_index(drop=True), limit)
        self.side, problems = _usual_side(folder, rows["path"].tolist())
        problems += find_problems(folder, _without(rows, problems)["path"].tolist(), self._check)
        refuse_or_report(problems, len(rows), strict, folder)
        super().__init__(folder, _without(rows, problems), bands, problems, strict)
        self.classes = classes

    def valid(self, index: int) -> NDArray[np.bool_]:
        """(side, side), True: pictures have no gaps."""
        return np.ones((self.side, self.side), dtype=bool)

    def _check(self, path: Path) -> str | None:
        try:
            with open_raster(path, formats=PICTURES) as source:
                return _unfit(source, self.side)
        except RasterioError as error:
            return f"unreadable ({error})"

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        return read_picture(self.root / self._files[index])


def has_pictures(root: Path) -> bool:
    """Whether a folder holds pictures by class, in one of the two layouts."""
    folders = [root / "train", root]
    inner = (inner for folder in folders if folder.is_dir() for inner in sorted(folder.iterdir()) if inner.is_dir())
    return any(_is_picture(file) for folder in inner for file in folder.iterdir())


def list_pictures(root: Path) -> pd.DataFrame:
    """A row per picture: `file` (its name), `path` below `root`, `class`, `split`, and `group`, which is the path."""
    split_folders = [name for name in SPLITS if (root / name).is_dir()] if (root / "train").is_dir() else []
    places = [(name, root / name) for name in split_folders] or [("", root)]
    rows = [
        {"file": file.name, "path": file.relative_to(root).as_posix(), "class": folder.name, "split": split}
        for split, place in places
        for folder in sorted(place.iterdir())
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if _is_picture(file)
    ]
    table = pd.DataFrame(rows, columns=["file", "path", "class", "split"])
    drawn = [name for name in ("val", "test") if name not in split_folders]
    table["split"] = [split if split not in ("", "train") else _drawn(path, drawn) for split, path in
                      zip(table["split"], table["path"], strict=True)]  # fmt: skip
    return table.assign(group=table["path"])


def read_picture(path: str | Path) -> NDArray[np.float32]:
    """A picture as (3, rows, columns) float32 in 0..1: red, green, blue; grey ones thrice the same, alpha left out.

    Raises:
        DataError: if it is no PNG, JPEG or GeoTIFF of 8 bits with one, three or four bands.
    """
    try:
        with open_raster(path, formats=PICTURES) as source:
            if wrong := _unfit(source, None):
                raise DataError(f"{path} cannot be used", got=wrong)
            bands = [1, 2, 3] if source.count >= 3 else [1, 1, 1]
            values: NDArray[np.uint8] = source.read(bands)
    except RasterioError as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a PNG, JPEG or GeoTIFF") from error
    return values.astype(np.float32) / np.float32(255)


def read_pictures(paths: Sequence[str | Path], side: int) -> Tensor:
    """Several pictures of one size, (n, 3, side, side) float32.

    Raises:
        DataError: as `read_picture`, or if one has another size.
    """
    found = [read_picture(path) for path in paths]
    for path, picture in zip(paths, found, strict=True):
        if picture.shape[1:] != (side, side):
            got = f"{picture.shape[2]} x {picture.shape[1]} pixels"
            raise DataError(f"{path} has another size", got=got, expected=f"{side} x {side}")
    return torch.from_numpy(np.stack(found))


def _unfit(source: Any, side: int | None) -> str | None:
    width, height, count = source.width, source.height, source.count
    if set(source.dtypes) != {"uint8"}:
        return f"{source.dtypes[0]} instead of 8 bits"
    if count not in (1, 2, 3, 4) or ColorInterp.palette in source.colorinterp:
        return "a palette" if count == 1 else f"{count} bands instead of grey or red, green, blue"
    if max(width, height) > LARGEST:
        return f"{width} x {height} pixels, more than {LARGEST}"
    if side is not None and (width, height) != (side, side):
        return f"{width} x {height} pixels instead of {side} x {side}"
    return None


def _usual_side(root: Path, paths: Sequence[str]) -> tuple[int, list[Problem]]:
    """The most frequent width of the first pictures, and what could not be opened among them."""
    widths, problems = Counter[int](), []
    for path in paths[:20]:
        try:
            with open_raster(root / path, formats=PICTURES) as source:
                widths[source.width] += 1
        except RasterioError as error:
            problems.append(Problem(path, f"unreadable ({error})"))
    return (widths.most_common(1)[0][0] if widths else 0), problems


def _without(rows: pd.DataFrame, problems: Sequence[Problem]) -> pd.DataFrame:
    return rows[~rows["path"].isin({problem.file for problem in problems})]


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS and file.is_file()


def _drawn(path: str, missing: Sequence[str]) -> str:
    """`train`, or with a chance of `HELD_OUT` each one of the missing splits."""
    number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") / 2**64
    place = int(number / HELD_OUT)
    return missing[place] if place < len(missing) else "train"
