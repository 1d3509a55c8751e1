"""The chips of a run: its splits and labels, and what is measured on them before training starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from spacex.errors import DataError
from spacex.grid import CHIP
from spacex.model_card import Scaling
from spacex.settings import Settings
from spacex.training.batches import shard
from spacex.training.distributed import SINGLE, Distributed

SAMPLE = 400
"""Chips, evenly evenly_spaced over the training split, from which means, spreads and margins are estimated."""
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class DatasetSettings(Settings):
    """Which chips to learn from."""

    root: str
    """Folder of an AnthroProtect or MapInWild data set as published, or of pictures by class, or ``demo`` for the
    embedded world's."""
    bands: tuple[str, ...]
    """Sentinel-2 bands in the order the networks see them; red, green, blue of pictures."""
    target: str = Field("", exclude_if=lambda name: not name)
    """The class to be scored and explained, where classes are told apart by name; empty: natural."""
    limit: int | None = None
    """Use only this many chips of each split."""
    grouped: bool = False
    """DatasetSplit by place instead of the official split, which puts neighbours into different splits."""
    strict: bool = False
    """Refuse a data set with a bad file instead of leaving the file out."""
    preload: bool = False
    """Keep all chips in memory (128 KiB per chip and band), for devices faster than the disk."""


@dataclass(frozen=True)
class DatasetSplit:
    """One split."""

    dataset: Dataset[Any]
    """Gives (chip (bands, side, side) float32 reflectance, label float32: 1 natural, or the class's number)."""
    labels: Tensor
    """(n,) bool, True for natural, or for the target class."""
    places: tuple[str, ...]
    """(n,) the place of each: a block of neighbouring chips."""
    digest: str
    """Names which file is in which split."""
    problems: tuple[str, ...] = ()
    """Files that were left out, and why."""
    side: int = CHIP
    """Of a chip, pixels."""
    classes: tuple[str, ...] = ()
    """Names of the classes by number, the target last; none for natural and not."""

    @property
    def natural(self) -> list[int]:
        """Indices of the natural chips."""
        found: list[int] = self.labels.nonzero()[:, 0].tolist()
        return found

    @property
    def unnatural(self) -> list[int]:
        """Indices of the others."""
        found: list[int] = (~self.labels).nonzero()[:, 0].tolist()
        return found

    @property
    def all(self) -> list[int]:
        """Indices of all chips."""
        return list(range(len(self.labels)))


def open_split(source: DatasetSettings, split: SplitName) -> DatasetSplit:
    """One split of the data set in `source.root`, whichever of the known ones it is.

    Raises:
        DataError: if the folder holds no known data set, or, with ``strict``, a bad file.
    """
    root = _root(source.root)
    settings = {"grouped": source.grouped, "strict": source.strict, "limit": source.limit, "target": source.target}
    dataset: Any = _opener(root)(root, source.bands, split, **settings)
    if source.preload:
        dataset.preload()
    last = max(len(dataset.classes) - 1, 1)
    labels = torch.tensor(dataset.infos["label"].to_numpy(dtype="float64") > last - 0.5)
    places, problems = tuple(map(str, dataset.infos["group"])), tuple(map(str, dataset.problems))
    return DatasetSplit(dataset, labels, places, dataset.split_hash, problems, dataset.side, dataset.classes)


def _root(name: str) -> Path:
    if name != "demo":
        return Path(name)
    from spacex.synthetic.dataset import demo_dataset

    return Path(demo_dataset())


def holds_pictures(root: Path) -> bool:
    """Whether a data set is a folder of ordinary pictures, whose bands are `PICTURE_BANDS`."""
    from spacex.datasets.pictures import Pictures

    return root.is_dir() and _found(root) is Pictures


def _opener(root: Path) -> Any:
    if (found := _found(root)) is not None:
        return found
    raise DataError(
        f"no data set in {root}",
        expected="infos.csv (AnthroProtect), split_IDs.csv or tile_infos/ (MapInWild), or pictures in train/CLASS/",
        do="Give the folder that holds it, or 'demo'.",
    )


def _found(root: Path) -> Any:
    if any((folder / "infos.csv").exists() for folder in (root, root / "anthroprotect")):
        from spacex.datasets.anthroprotect import AnthroProtect

        return AnthroProtect
    if any((root / name).exists() for name in ("split_IDs.csv", "split_IDs/split_IDs.csv", "tile_infos")):
        from spacex.datasets.mapinwild import MapInWild

        return MapInWild
    from spacex.datasets.pictures import Pictures, has_pictures

    return Pictures if has_pictures(root) else None


def band_statistics(chips: DatasetSplit, distributed: Distributed = SINGLE) -> Scaling:
    """Mean and standard deviation of each band's reflectance over a sample of all chips.

    Args:
        chips: the training split; `SAMPLE` chips at equal distances are read.
        distributed: shares the reading.
    """
    sums = torch.stack([_moments(x) for x, _ in shard(chips.dataset, evenly_spaced(chips.all), 16, distributed)]).mean(
        0
    )
    mean, square = distributed.gather_rows(sums[None]).mean(0)
    std = (square - mean.square()).clamp_min(1e-12).sqrt()
    return Scaling(mean=tuple(_rounded(mean)), std=tuple(_rounded(std)))


def evenly_spaced(indices: list[int], count: int = SAMPLE) -> list[int]:
    """At most `count` of the indices, at equal distances."""
    step = max(1, len(indices) / count)
    return [indices[int(i * step)] for i in range(min(count, len(indices)))]


def first_chips(chips: DatasetSplit, indices: Iterable[int], count: int) -> Tensor:
    """The first few of the given chips, (count, bands, side, side) float32 reflectance."""
    return torch.stack([torch.as_tensor(chips.dataset[i][0]) for i in islice(indices, count)])


def _moments(x: Tensor) -> Tensor:
    x = x.double()
    return torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]).cpu()


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
