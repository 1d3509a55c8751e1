"""The chips of a run: which data set, its splits and labels, and statistics measured before training starts."""

from __future__ import annotations

from dataclasses import dataclass
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
"""Chips, evenly spaced over the training split, from which means and standard deviations are estimated."""
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class DatasetSettings(Settings):
    """Which chips to learn from."""

    root: str
    """Folder of an AnthroProtect or MapInWild data set as published, or of pictures by class, or ``demo`` for that of
    the embedded synthetic country."""
    bands: tuple[str, ...]
    """Sentinel-2 bands in the order the networks see them; red, green, blue of pictures."""
    target: str = Field("", exclude_if=lambda name: not name)
    """The class to be scored and explained, where classes are told apart by name; empty: natural."""
    limit: int | None = None
    """Use only this many chips of each split."""
    grouped: bool = False
    """Split by place instead of the official split, which puts neighbours into different splits."""
    strict: bool = False
    """Refuse a data set with a bad file instead of leaving the file out."""
    preload: bool = False
    """Keep all chips in memory (128 KiB per chip and band), for devices faster than the disk."""


@dataclass(frozen=True)
class DatasetSplit:
    """One split of a data set."""

    dataset: Dataset[Any]
    """Gives (chip (bands, side, side) float32 reflectance, label float32: 1 natural, or the class's number)."""
    labels: Tensor
    """(n,) bool, True for natural, or for the target class."""
    places: tuple[str, ...]
    """(n,) the place of each chip: a block of neighbouring chips."""
    digest: str
    """Hash of which file is in which split."""
    origin: str = "official"
    """Who decided that."""
    problems: tuple[str, ...] = ()
    """Files that were left out, and why."""
    side: int = CHIP
    """Side of a chip, pixels."""
    classes: tuple[str, ...] = ()
    """Names of the classes by number, the target last; none for natural and not."""

    @property
    def natural(self) -> list[int]:
        """Indices of the natural chips."""
        indices: list[int] = self.labels.nonzero()[:, 0].tolist()
        return indices

    @property
    def unnatural(self) -> list[int]:
        """Indices of the others."""
        indices: list[int] = (~self.labels).nonzero()[:, 0].tolist()
        return indices

    @property
    def all(self) -> list[int]:
        """Indices of all chips."""
        return list(range(len(self.labels)))


def open_split(source: DatasetSettings, split: SplitName) -> DatasetSplit:
    """One split of the data set in `source.root`, whichever of the known ones it is.

    Raises:
        DataError: if the folder holds no known data set, or, with ``strict``, a bad file.
    """
    root = Path(source.root)
    if source.root == "demo":
        from spacex.synthetic.dataset import demo_dataset

        root = Path(demo_dataset())
    if (kind := _dataset_class(root)) is None:
        raise DataError(
            f"no data set in {root}",
            expected="infos.csv (AnthroProtect), split_IDs.csv or tile_infos/ (MapInWild), or pictures in train/CLASS/",
            do="Give the folder that holds it, or 'demo'.",
        )
    settings = {"grouped": source.grouped, "strict": source.strict, "limit": source.limit, "target": source.target}
    dataset: Any = kind(root, source.bands, split, **settings)
    if source.preload:
        dataset.preload()
    # of several classes the target has the last number; without names natural is 1
    last = max(len(dataset.classes) - 1, 1)
    labels = torch.tensor(dataset.infos["label"].to_numpy(dtype="float64") > last - 0.5)
    places, problems = tuple(map(str, dataset.infos["group"])), tuple(map(str, dataset.problems))
    hashed = dataset.split_hash, dataset.split_origin
    return DatasetSplit(dataset, labels, places, *hashed, problems, dataset.side, dataset.classes)


def holds_pictures(root: Path) -> bool:
    """Whether a data set is a folder of ordinary pictures, whose bands are `PICTURE_BANDS`."""
    from spacex.datasets.pictures import Pictures

    return root.is_dir() and _dataset_class(root) is Pictures


def _dataset_class(root: Path) -> Any:
    if any((folder / "infos.csv").exists() for folder in (root, root / "anthroprotect")):
        from spacex.datasets.anthroprotect import AnthroProtect

        return AnthroProtect
    if any((root / name).exists() for name in ("split_IDs.csv", "split_IDs/split_IDs.csv", "tile_infos")):
        from spacex.datasets.mapinwild import MapInWild

        return MapInWild
    from spacex.datasets.pictures import Pictures, has_pictures

    return Pictures if has_pictures(root) else None


def band_statistics(chips: DatasetSplit, distributed: Distributed = SINGLE) -> Scaling:
    """Mean and standard deviation of each band's reflectance over `SAMPLE` training chips at equal distances."""
    moments = []
    for batch, _ in shard(chips.dataset, evenly_spaced(chips.all), 16, distributed):
        x = batch.double()
        moments.append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]).cpu())
    # every process has as many chips (give or take one), so the mean of the processes' means will do
    mean, square = distributed.gather_rows(torch.stack(moments).mean(0)[None]).mean(0)
    std = (square - mean.square()).clamp_min(1e-12).sqrt()
    return Scaling(mean=tuple(round(v, 6) for v in mean.tolist()), std=tuple(round(v, 6) for v in std.tolist()))


def evenly_spaced(indices: list[int], count: int = SAMPLE) -> list[int]:
    """At most `count` of the indices, at equal distances."""
    step = max(1, len(indices) / count)
    return [indices[int(i * step)] for i in range(min(count, len(indices)))]
