"""Reads labelled chips from GeoTIFFs, and checks before training which of them can be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as PixelWindow
from torch import Tensor
from torch.utils.data import Dataset

from spacex.datasets.splits import rows_of_split, split_hash, subsample
from spacex.errors import DataError
from spacex.grid import CHIP
from spacex.rasters import open_raster
from spacex.settings import SENTINEL2_BANDS

log = logging.getLogger(__name__)

READERS = 16
"""Threads that read files before training."""


@dataclass(frozen=True)
class Problem:
    """A file of a data set that cannot be used, and why."""

    file: str
    """Path below the data set's root."""
    what: str
    """What is wrong with it."""

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def band_numbers(bands: Sequence[str], known: Sequence[str] = SENTINEL2_BANDS) -> list[int]:
    """Band numbers (from 1) of named bands in a tile of the `known` ones; DataError for an unknown name."""
    unknown = [band for band in bands if band not in known]
    if unknown or not bands:
        raise DataError("unknown bands", got=unknown or "none", expected=", ".join(known))
    return [list(known).index(band) + 1 for band in bands]


def read_bands(path: Path, numbers: int | Sequence[int], window: PixelWindow | None = None) -> NDArray[Any]:
    """Bands of a raster by number from 1, (bands, rows, columns), or of one (rows, columns); DataError if it fails."""
    try:
        with open_raster(path) as source:
            return np.asarray(source.read(numbers, window=window))
    except RasterioError as error:
        raise DataError(f"{path} cannot be read", got=error, do="Copy the file again.") from error


def read_chip(path: Path, bands: Sequence[str], window: PixelWindow | None = None) -> NDArray[np.float32]:
    """Reflectance of named bands of a tile, or of a part of it: (bands, rows, columns) float32 in 0..1, NaN = no data.

    The file has the ten land bands as uint16, reflectance x 10000, 0 for no data. DataError if it cannot be read.
    """
    return to_reflectance(read_bands(path, band_numbers(bands), window))


def to_reflectance(numbers: NDArray[np.integer]) -> NDArray[np.float32]:
    """Reflectance 0..1 of numbers that are reflectance x 10000; NaN where they are 0, no data."""
    reflectance = np.minimum(numbers.astype(np.float32) / 10000, 1)
    reflectance[numbers <= 0] = np.nan
    return np.asarray(reflectance, dtype=np.float32)


def inspect(path: Path, bands: int, side: int) -> str | None:
    """What is wrong with a tile, or None: missing, unreadable or cut short, of other bands or size."""
    if not path.exists():
        return "missing"
    try:
        with open_raster(path) as source:
            if source.count != bands:
                return f"{source.count} bands instead of {bands}"
            if source.shape != (side, side):
                return f"{source.width} x {source.height} pixels instead of {side} x {side}"
            # a copy that broke off lacks its end
            source.read(bands, window=PixelWindow(0, side - 1, side, 1))
    except RasterioError as error:
        return f"unreadable ({error})"
    return None


def usable(
    root: Path, rows: pd.DataFrame, check: Callable[[Path], str | None], column: str = "path"
) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows whose file, named in a column, passes the check, and the problems of the others, both in order."""
    files = rows[column].tolist()
    # several at a time: the threads mostly wait for the disk
    with ThreadPoolExecutor(READERS) as readers:
        answers = list(readers.map(lambda file: check(root / file), files))
    problems = [Problem(file, what) for file, what in zip(files, answers, strict=True) if what]
    return rows[[not what for what in answers]], problems


def refuse_or_report(problems: list[Problem], total: int, strict: bool, root: Path) -> None:
    """Raise DataError if `strict` or if no file is left, else log how many files are left out, and name some."""
    if not problems:
        return
    what = f"{len(problems)} of {total} files of {root} cannot be used"
    some = "; ".join(map(str, problems[:3])) + ("; ..." if len(problems) > 3 else "")
    if strict or len(problems) == total:
        usable = strict and len(problems) < total
        do = "Complete the data set" + (", or leave out --strict to skip such files." if usable else ".")
        raise DataError(what, got=some, do=do)
    log.warning("%s and are skipped: %s", what, some)


class Chips(Dataset[tuple[Tensor, Tensor]]):
    """One split of a set of labelled chips; subclasses say how the set is laid out.

    An item is the chip's reflectance (bands, 256, 256) float32 in 0..1 and its label, a float32 scalar, 1 for
    protected land; where `classes` are named, its class's number. Pixels without data are 0, as the authors feed them.

    `infos` has a row per chip: `path`, `label` (NaN: it has none), `split`, `group`, the number or name of the unit by
    which to bootstrap, and, for chips cut from a larger scene, `row` and `col`. `problems` lists the files left out,
    `split_hash` names the whole split.

    Args:
        root: folder of the set.
        bands: names of the bands wanted, in order; None for the first three.
        split: "train", "val" or "test".
        grouped: split by blocks of neighbours instead of officially; AnthroProtect's official split leaks.
        strict: refuse the set if any file of the split cannot be used, and raise when a chip proves unreadable during
            training, instead of taking the next one with the same label.
        limit: use only that many chips, all labels in proportion.
        target: the class that is scored and explained, where there are more than the published two.

    Raises:
        DataError: if the folder is not laid out as published, the split is unknown or empty, or (strict) a file is
            missing, unreadable, or of another size.
    """

    known_bands: tuple[str, ...] = SENTINEL2_BANDS
    """Bands there are."""
    steps = 10000
    """Steps of the stored numbers between 0 and 1."""
    side = CHIP
    """Of a chip, pixels."""
    classes: tuple[str, ...] = ()
    """Names of the classes by their number, the target last; none for natural and not."""
    split_origin = "official"
    """Who decided which chip is in which split, for the card."""
    hashed = "path"
    """Column that stands for a file in `split_hash`."""
    advice: str | None = None
    """What to do about an empty split."""
    meaning = ""
    """What the labels mean, for the card, where it is not what AnthroProtect's do."""
    _preloaded: Tensor | None = None

    def __init__(
        self,
        root: str | Path,
        bands: Sequence[str] | None = None,
        split: str = "train",
        *,
        grouped: bool = False,
        strict: bool = False,
        limit: int | None = None,
        target: str = "",
    ) -> None:
        self.root, self.bands, self.strict = Path(root), tuple(bands or self.known_bands[:3]), strict
        table = self._list(grouped, target)
        band_numbers(self.bands, self.known_bands)
        self.split_hash = split_hash(table[self.hashed], table["split"])
        rows, self.problems, checked = self._select(rows_of_split(table, split, self.root, self.advice), limit)
        refuse_or_report(self.problems, checked, strict, self.root)
        self.infos = rows.reset_index(drop=True)
        # plain lists, because a row of a table takes as long as reading a band
        self._files = [str(path) for path in self.infos["path"]]
        self._windows: list[PixelWindow | None] = [None] * len(self)
        if "row" in rows:
            self._windows = [PixelWindow(c, r, CHIP, CHIP) for r, c in zip(rows["row"], rows["col"], strict=True)]
        self._labels = torch.tensor(self.infos["label"].to_numpy(dtype=np.float32))

    def _list(self, grouped: bool, target: str) -> pd.DataFrame:
        """The chips or files of all splits."""
        raise NotImplementedError

    def _select(self, rows: pd.DataFrame, limit: int | None) -> tuple[pd.DataFrame, list[Problem], int]:
        """At most `limit` of a split's chips, without those of files that have problems, and how many were checked."""
        rows = subsample(rows, limit)
        return *usable(self.root, rows, self._check), len(rows)

    def _check(self, path: Path) -> str | None:
        return inspect(path, len(self.known_bands), self.side)

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        label = self._labels[index]
        if self._preloaded is not None:
            return self._preloaded[index].float() / self.steps, label
        for number in self._with_substitutes(index):
            try:
                return self._read(number), label
            except DataError as error:
                if self.strict:
                    raise
                self._leave_out(number, error)
        raise DataError(f"no chip of {self.root} can be read any more", do="Check the disk.")

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A batch, as `torch.utils.data` asks for it: chips (n, bands, side, side) float32 and labels (n,)."""
        if self._preloaded is None:
            chips, labels = zip(*(self[index] for index in indices), strict=True)
            return torch.stack(chips), torch.stack(labels)
        chosen = torch.as_tensor(indices)
        return self._preloaded[chosen].float() / self.steps, self._labels[chosen]

    @property
    def natural(self) -> list[int]:
        """Indices of the natural chips, of mosaics more than half natural, or of the chips of the target class."""
        # of several classes the target has the last number; without names natural is 1
        return np.flatnonzero(self._labels > max(len(self.classes) - 1, 1) - 0.5).tolist()

    @property
    def unnatural(self) -> list[int]:
        """Indices of the others."""
        return np.flatnonzero(self._labels <= max(len(self.classes) - 1, 1) - 0.5).tolist()

    @property
    def all(self) -> list[int]:
        """Indices of all chips that have a label."""
        return np.flatnonzero(~self._labels.isnan()).tolist()

    def _with_substitutes(self, index: int) -> Iterator[int]:
        """The chip itself, then those of the same label after it and from the start again."""
        yield index
        alike = (self._labels == self._labels[index]).nonzero().flatten()
        yield from alike.roll(-int((alike <= index).sum())).tolist()

    def preload(self) -> Self:
        """Read every chip now and keep it in memory that reader processes share: 128 KiB per chip and band.

        For devices faster than the disk and its decompression. Items stay the same, bit for bit.
        """
        if self._preloaded is not None:
            return self
        chips = torch.empty((len(self), len(self.bands), self.side, self.side), dtype=torch.int16)
        chips.share_memory_()  # type: ignore[no-untyped-call]

        def read(index: int) -> None:
            chips[index] = (self[index][0] * self.steps).round().to(torch.int16)

        with ThreadPoolExecutor(READERS) as readers:
            list(readers.map(read, range(len(self))))
        self._preloaded = chips
        return self

    def valid(self, index: int) -> NDArray[np.bool_]:
        """(256, 256), True where all of the data set's bands have data."""
        return np.asarray(~np.isnan(self._reflectance(index)).any(axis=0))

    def _read(self, index: int) -> Tensor:
        return torch.from_numpy(np.nan_to_num(self._reflectance(index), nan=0.0))

    def _reflectance(self, index: int) -> NDArray[np.float32]:
        return read_chip(self.root / self._files[index], self.bands, self._windows[index])

    def _leave_out(self, index: int, error: DataError) -> None:
        problem = Problem(self._files[index], error.what)
        if problem not in self.problems:
            self.problems.append(problem)
            log.warning("%s; the next chip of its kind takes its place", problem)
