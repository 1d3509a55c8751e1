"""The chips of a run: which data set, its splits and labels, and statistics measured before training starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from spacex.datasets.kinds import split_kind
from spacex.errors import DataError
from spacex.model_card import Scaling
from spacex.settings import Settings
from spacex.training.batches import shard
from spacex.training.distributed import SINGLE, Distributed

if TYPE_CHECKING:  # rasterio and pandas take a moment to import
    from spacex.datasets.tiles import Chips

SAMPLE = 400
"""Chips, evenly spaced over the training split, from which means and standard deviations are estimated."""
SplitName = Literal["train", "val", "test"]
Season = Literal["autumn", "spring", "summer", "winter"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class DatasetSettings(Settings):
    """Which chips to learn from."""

    root: str
    """Folder of an AnthroProtect or MapInWild data set as published, or of pictures by class, or ``demo`` for that of
    the embedded synthetic country; with its kind in front: ``eurosat:FOLDER``, ``bigearthnet:FOLDER``,
    ``tiles:FOLDER``."""
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
    mosaic: int = Field(1, ge=1, exclude_if=lambda n: n == 1)
    """Chips are mosaics of so many smaller ones along a side (`spacex.datasets.mosaics`); 1: the chips themselves."""
    season: Season | None = Field(None, exclude_if=lambda season: season is None)
    """Which picture of each site of MapInWild; None: its authors' choice of one for each."""
    preload: bool = False
    """Keep all chips in memory (128 KiB per chip and band), for devices faster than the disk."""


def open_split(source: DatasetSettings, split: SplitName) -> Chips:
    """One split of the data set in `source.root`, whichever of the known ones it is.

    Raises:
        DataError: if the folder holds no known data set, or, with ``strict``, a bad file.
    """
    name, folder = split_kind(source.root)
    root = Path(folder)
    if source.root == "demo":
        from spacex.synthetic.dataset import demo_dataset

        root = Path(demo_dataset())
    if (kind := _dataset_class(root, name)) is None:
        raise DataError(
            f"no data set in {root}",
            expected="infos.csv (AnthroProtect), split_IDs.csv or tile_infos/ (MapInWild), or pictures in train/CLASS/",
            do=_advice(root),
        )
    settings: dict[str, Any] = source.model_dump(include={"grouped", "strict", "target"})
    if source.season is not None:
        from spacex.datasets.mapinwild import MapInWild

        if kind is not MapInWild:
            raise DataError(f"{root} has no seasons to choose from", got=source.season, do="Leave --season out.")
        settings["season"] = source.season
    chips = kind(root, source.bands, split, **settings, limit=source.limit if source.mosaic == 1 else None)
    chips = chips.preload() if source.preload else chips
    if source.mosaic == 1:
        return chips
    from spacex.datasets.mosaics import Mosaics

    return Mosaics(chips, source.mosaic, source.limit)


def _advice(root: Path) -> str:
    """What to give instead of a folder that is no data set: one of its own, if that is one."""
    inner = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    below = [folder for folder in inner if _dataset_class(folder) is not None]
    if below:
        return f"Give {' or '.join(map(str, below[:3]))}."
    return "Give the folder that holds it, or eurosat:FOLDER, bigearthnet:FOLDER, tiles:FOLDER, or 'demo'."


def holds_pictures(root: str | Path) -> bool:
    """Whether a data set is a folder of ordinary pictures, whose bands are `PICTURE_BANDS`."""
    from spacex.datasets.pictures import Pictures

    return Path(root).is_dir() and _dataset_class(Path(root)) is Pictures


def _dataset_class(root: Path, kind: str = "") -> type[Chips] | None:
    if kind == "eurosat":
        from spacex.datasets.eurosat import EuroSAT

        return EuroSAT
    if kind == "bigearthnet":
        from spacex.datasets.bigearthnet import BigEarthNet

        return BigEarthNet
    if kind == "tiles":
        from spacex.datasets.reflectance_tiles import ReflectanceTiles

        return ReflectanceTiles
    if any((folder / "infos.csv").exists() for folder in (root, root / "anthroprotect")):
        from spacex.datasets.anthroprotect import AnthroProtect

        return AnthroProtect
    if any((root / name).exists() for name in ("split_IDs.csv", "split_IDs/split_IDs.csv", "tile_infos")):
        from spacex.datasets.mapinwild import MapInWild

        return MapInWild
    from spacex.datasets.pictures import Pictures, has_pictures

    return Pictures if has_pictures(root) else None


def band_statistics(chips: Chips, distributed: Distributed = SINGLE) -> Scaling:
    """Mean and standard deviation of each band's reflectance over `SAMPLE` training chips at equal distances."""
    moments = []
    for batch, _ in shard(chips, evenly_spaced(chips.all), 16, distributed):
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
