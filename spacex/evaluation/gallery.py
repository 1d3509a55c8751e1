"""The few chips shown in the figures: the first ones of the seeded draw, and the first hard ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

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
    """Collects pictures while batches stream by; never more than 2 x `EACH` chips.

    Args:
        methods: methods whose maps are kept.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self.names = {method.name for method in methods}
        self.pictures: list[Picture] = []
        self._open: list[tuple[int, Picture]] = []

    def open(self, chips: ChipBatch, samples: Samples, region: Region, hard: Sequence[object]) -> None:
        """Choose among the chips of a new batch; :meth:`show` then adds their maps."""
        self._open = []
        for index in range(len(samples)):
            kept = sum(picture.hard == bool(hard[index]) for picture in self.pictures)
            if kept < EACH and region.usable[index]:
                picture = self._picture(chips, samples, region, index, bool(hard[index]))
                self.pictures.append(picture)
                self._open.append((index, picture))

    def show(self, method: Method, maps: torch.Tensor) -> None:
        """Keep a method's maps of the chosen chips."""
        for index, picture in self._open:
            picture.maps[method.name] = maps[index].cpu().numpy()

    def drop_unfinished(self) -> None:
        """Forget chips that not every method has drawn, after a run was stopped."""
        self.pictures = [picture for picture in self.pictures if set(picture.maps) == self.names]

    def _picture(self, chips: ChipBatch, samples: Samples, region: Region, index: int, hard: bool) -> Picture:
        inside = region.inside[index].reshape(samples.seen.shape[1:])
        picture = Picture(
            samples.files[index], hard, chips.bands, _array(chips.x, index), inside, float(chips.score[index])
        )
        if chips.checkpoint.minimiser is not None:
            picture.x_plus, picture.x_minus = _array(chips.x_plus, index), _array(chips.x_minus, index)
            picture.score_plus, picture.score_minus = (
                float(torch.sigmoid(logit[index])) for logit in (chips.logit_plus, chips.logit_minus)
            )
        return picture


def _array(values: torch.Tensor, index: int) -> Array:
    out: Array = values[index].detach().cpu().numpy()
    return out
