"""The chips of an evaluation, batch by batch: reflectance, land cover, and exact truth where it is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from torch import Tensor

from spacex.datasets.anthroprotect import AnthroProtect, read_land_cover
from spacex.datasets.mosaics import Mosaics
from spacex.datasets.tiles import Chips, read_chip
from spacex.errors import DataError
from spacex.evaluation import masks
from spacex.evaluation.masks import Definition
from spacex.grid import CHIP
from spacex.rasters import open_raster
from spacex.training.data import DatasetSettings, SplitName, open_split


@dataclass(frozen=True)
class Samples:
    """A batch of chips."""

    files: tuple[str, ...]
    places: tuple[str, ...]
    """The unit of the bootstrap: chips of one block of neighbours share it."""
    x: Tensor
    """Reflectance ``(n, bands, 256, 256)`` float32, 0 where there is no data."""
    seen: NDArray[np.bool_]
    """Pixels with data in every band, ``(n, 256, 256)``."""
    codes: dict[str, NDArray[np.integer]]
    """Per source (`corine`, `truth`) the codes of every pixel, ``(n, 256, 256)``."""

    def __len__(self) -> int:
        return len(self.files)

    def pick(self, keep: NDArray[np.bool_]) -> Samples:
        """The chips at which `keep (n,)` is True."""
        index = np.flatnonzero(keep)
        return Samples(
            tuple(self.files[i] for i in index),
            tuple(self.places[i] for i in index),
            self.x[torch.from_numpy(index)],
            self.seen[index],
            {source: values[index] for source, values in self.codes.items()},
        )


class ChipSource(ABC):
    """One split of a data set as batches of :class:`Samples`: those of the class that is explained, and the others.

    Args:
        root: folder of the data set.
        bands: bands of the checkpoint, in order.
        split: "test" unless a selection is being made.
        limit: use that many of the target class; None for all.
        seed: of the order in which they are used.
        target: the class that is explained; empty for label 1.

    Raises:
        DataError: if the data set is not laid out as published, or has nothing of the target class.
    """

    reads: Callable[..., Chips]
    """Opens the data set."""

    def __init__(
        self,
        root: str | Path,
        bands: Sequence[str],
        split: SplitName,
        limit: int | None = None,
        seed: int = 0,
        target: str = "",
    ) -> None:
        self.data, self.bands = self.reads(root, bands, split, target=target), tuple(bands)
        self._root, self._seed, self._target = root, seed, target
        infos = self.data.infos
        kinds = infos.loc[self.data.natural], infos.loc[self.data.unnatural]
        # shuffled even without a limit, so that a run that is stopped early is still a fair sample
        self.natural, self.other = (rows.sample(frac=1, random_state=seed) for rows in kinds)
        if limit is not None:
            self.natural = self.natural.head(limit)
        self._check(split)

    def _check(self, split: SplitName) -> None:
        if self.natural.empty:
            got = f"{len(self.other)} of others"
            raise DataError(f"the split {split!r} has no {self._target or 'natural'} chips", got=got)

    def beside(self, split: SplitName, limit: int) -> Self:
        """A few of another split of the same data set."""
        return type(self)(self._root, self.bands, split, limit, self._seed, self._target)

    def batches(self, size: int, *, natural: bool = True) -> Iterator[Samples]:
        """The target class, or the others, in batches of at most `size`; never more than one batch is held."""
        rows = self.natural if natural else self.other
        for start in range(0, len(rows), size):
            yield self._read(rows.iloc[start : start + size])

    @property
    @abstractmethod
    def definitions(self) -> list[Definition]:
        """What counts as inside, the primary definition first."""

    @abstractmethod
    def _read(self, rows: pd.DataFrame) -> Samples: ...


class LandCoverSource(ChipSource):
    """A split of a data set in AnthroProtect's layout.

    Raises:
        DataError: if it has no land cover and no truth, and as `ChipSource` does.
    """

    reads = AnthroProtect

    def _check(self, split: SplitName) -> None:
        super()._check(split)
        files = self.natural["file"]
        root = self.data.root
        self.sources = [
            name for name, folder in _FOLDERS.items() if any((root / folder / file).exists() for file in files)
        ]
        if not self.sources:
            raise DataError(
                f"{root} has no land cover, so there is nothing to compare maps with",
                expected="a land-cover tile per chip in tiles/lcs",
                do="Unpack the lcs archive of AnthroProtect as well.",
            )

    @property
    def definitions(self) -> list[Definition]:
        """Truth where it is known, then CORINE."""
        truth = [masks.TRUTH, *masks.TRUTH_VARIANTS] if "truth" in self.sources else []
        corine = [masks.CORINE_WB_V1, *masks.CORINE_VARIANTS] if "corine" in self.sources else []
        return truth + corine

    def _read(self, rows: pd.DataFrame) -> Samples:
        files = rows["file"].tolist()
        raw = np.stack([read_chip(self.data.root / path, self.bands) for path in rows["path"]])
        codes = {source: np.stack([self._codes(source, file) for file in files]) for source in self.sources}
        x = torch.from_numpy(np.nan_to_num(raw, nan=0.0))
        places = tuple(str(group) for group in rows["group"])
        return Samples(tuple(files), places, x, np.asarray(~np.isnan(raw).any(axis=1)), codes)

    def _codes(self, source: str, file: str) -> NDArray[np.integer]:
        path = self.data.root / _FOLDERS[source] / file
        if not path.exists():  # a chip without land cover has no pixel that counts, and is left out later
            return np.zeros((CHIP, CHIP), dtype=np.uint16)
        return read_land_cover(path) if source == "corine" else _read_truth(path)


def _open_chips(root: str | Path, bands: Sequence[str], split: SplitName, target: str = "", mosaic: int = 1) -> Chips:
    return open_split(DatasetSettings(root=str(root), bands=tuple(bands), target=target, mosaic=mosaic), split)


class UnmappedSource(ChipSource):
    """A split of any other data set, ordinary pictures among them: nothing says which pixels should matter."""

    reads = staticmethod(_open_chips)

    @property
    def definitions(self) -> list[Definition]:
        """Only `NO_REGION`."""
        return [masks.NO_REGION]

    def _read(self, rows: pd.DataFrame) -> Samples:
        x, _ = self.data.__getitems__(rows.index.tolist())
        unknown: NDArray[np.integer] = np.zeros((len(x), *x.shape[-2:]), np.uint8)
        seen = np.asarray((x != 0).any(dim=1))
        # several chips may be cut from one scene's file
        files = [f"{row.path}:{index}" if "row" in rows else row.path for index, row in rows.iterrows()]
        return Samples(tuple(files), tuple(rows["group"].astype(str)), x, seen, {masks.NO_REGION.source: unknown})


class MosaicSource(UnmappedSource):
    """Mosaics of `mosaic` x `mosaic` chips of a split: maps should point at the natural cells of mixed ones."""

    data: Mosaics

    def __init__(self, *args: Any, mosaic: int, **settings: Any) -> None:
        self.reads = partial(_open_chips, mosaic=mosaic)
        super().__init__(*args, **settings)

    def beside(self, split: SplitName, limit: int) -> Self:
        """A few of another split of the same data set."""
        place = self._root, self.bands, split, limit, self._seed, self._target
        return type(self)(*place, mosaic=self.data.n)

    @property
    def definitions(self) -> list[Definition]:
        """The natural cells."""
        return [masks.MOSAIC]

    def _read(self, rows: pd.DataFrame) -> Samples:
        truth = np.stack([self.data.truth(index) for index in rows.index]).astype(np.uint8)
        return replace(super()._read(rows), codes={masks.MOSAIC.source: truth})


def has_land_cover(root: str | Path) -> bool:
    """Whether a data set is AnthroProtect's or laid out like it, with land cover or truth beside the chips."""
    folders = (Path(root), Path(root) / "anthroprotect")
    return any(
        (folder / "infos.csv").is_file() and any((folder / n).is_dir() for n in _FOLDERS.values()) for folder in folders
    )


_FOLDERS = {"truth": "truth", "corine": "tiles/lcs"}


def _read_truth(path: Path) -> NDArray[np.integer]:
    try:
        with open_raster(path) as source:
            if source.shape != (CHIP, CHIP):
                got = f"{source.width} x {source.height} pixels"
                raise DataError(f"{path} is no truth of a chip", got=got, expected=f"{CHIP} x {CHIP}")
            values: NDArray[np.integer] = source.read(1)
            return values
    except RasterioError as error:
        raise DataError(f"{path} cannot be read", got=error) from error
