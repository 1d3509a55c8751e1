"""The few chips shown in the figures: the first ones of the seeded draw, and the first hard ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacex.evaluation.methods.chip_batch import ChipBatch, Method
from spacex.evaluation.rows import Region
from spacex.evaluation.samples import Samples

EACH = 3
"""Chips as they come, and as many hard ones."""

Array = NDArray[np.float32]


@dataclass
class Picture:
    """One chip with everything the figures show of it."""

    file: str
    hard: bool
    bands: tuple[str, ...]
    x: Array
    """Reflectance ``(bands, h, w)``."""
    inside: NDArray[np.bool_]
    """The region, ``(h, w)``."""
    score: float
    x_plus: Array | None = None
    x_minus: Array | None = None
    score_plus: float = float("nan")
    score_minus: float = float("nan")
    maps: dict[str, Array] = field(default_factory=dict)
    """Maps ``(h, w)`` by method."""


class Gallery:
    """Collects pictures with the maps of `methods` while batches stream by; never more than 2 x `EACH` chips."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self.names = {method.name for method in methods}
        self.pictures: list[Picture] = []
        self._open: list[tuple[int, Picture]] = []

    def open(self, chips: ChipBatch, samples: Samples, region: Region, hard: Sequence[object]) -> None:
        """Choose among the chips of a new batch; :meth:`show` then adds their maps."""
        self._open = []
        for index in np.flatnonzero(region.usable).tolist():
            if sum(picture.hard == bool(hard[index]) for picture in self.pictures) < EACH:
                picture = _picture(chips, samples, region, index, bool(hard[index]))
                self.pictures.append(picture)
                self._open.append((index, picture))

    def show(self, method: Method, maps: Tensor) -> None:
        """Keep a method's maps of the chosen chips."""
        for index, picture in self._open:
            picture.maps[method.name] = maps[index].cpu().numpy()

    def drop_unfinished(self) -> None:
        """Forget chips that not every method has drawn, after a run was stopped."""
        self.pictures = [picture for picture in self.pictures if set(picture.maps) == self.names]


def _picture(chips: ChipBatch, samples: Samples, region: Region, index: int, hard: bool) -> Picture:
    def array(values: Tensor) -> Array:
        return np.asarray(values[index].detach().cpu().numpy())

    inside = region.inside[index].reshape(samples.seen.shape[1:])
    picture = Picture(samples.files[index], hard, chips.bands, array(chips.x), inside, float(chips.score[index]))
    if chips.checkpoint.minimiser is not None:
        picture.x_plus, picture.x_minus = array(chips.x_plus), array(chips.x_minus)
        picture.score_plus = float(torch.sigmoid(chips.logit_plus[index]))
        picture.score_minus = float(torch.sigmoid(chips.logit_minus[index]))
    return picture
