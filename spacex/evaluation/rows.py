"""The rows of `chips.parquet`, one per chip and method: how well a map points at the regions of a chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.evaluation import masks, metrics
from spacex.evaluation.masks import Definition
from spacex.evaluation.samples import Samples

HARD_BELOW = 0.85
"""A chip is *hard* where brightness alone reaches less than this AUROC: there it says little."""


@dataclass(frozen=True)
class Region:
    """A definition applied to a batch: what is inside, and what counts."""

    definition: Definition
    inside: NDArray[np.bool_]
    """``(n, pixels)``."""
    valid: NDArray[np.bool_]
    """``(n, pixels)``; all False for chips the definition leaves out."""
    cells: NDArray[np.bool_] | None = None
    """With blocks: the valid pixels ``(n, h, w)`` over which maps are averaged first."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Chips the definition says something about, ``(n,)``."""
        return np.asarray(self.valid.any(axis=1))


def regions(samples: Samples, definitions: Sequence[Definition]) -> list[Region]:
    """Apply every definition to a batch."""
    return [_region(samples, definition) for definition in definitions]


def _region(samples: Samples, definition: Definition) -> Region:
    codes, cells = samples.codes[definition.source], None
    inside, valid = masks.region(codes, definition), masks.counted(codes, samples.seen, definition)
    if definition.block > 1:
        cells = valid
        share, valid = masks.blocks(inside.astype(np.float32), cells, definition.block)
        inside = share >= 0.5
    usable = masks.within_limits(inside, valid, definition)
    return Region(definition, _flat(inside), _flat(np.asarray(valid & usable[:, None, None])), cells)


def measure(maps: NDArray[np.float32], regions: Sequence[Region]) -> dict[str, NDArray[np.float64]]:
    """Every number for one method on a batch: column name -> ``(n,)``.

    The first region gives the plain columns; others carry `@definition`. Variants are compared by IoU and AUROC
    only; CORINE's published definition is always complete.
    """
    pixels = _flat(maps)
    sorted_pixels = metrics.sort(pixels)
    out: dict[str, NDArray[np.float64]] = {}
    for region in regions:
        flat, groups = pixels, sorted_pixels
        if region.cells is not None:
            means, _ = masks.blocks(maps, region.cells, region.definition.block)
            flat = _flat(means.astype(np.float32))
            groups = metrics.sort(flat)
        if region is regions[0] or region.definition == masks.CORINE_WB_V1:
            numbers = metrics.complete(flat, groups, region.inside, region.valid)
        else:
            numbers = metrics.essential(metrics.rank(groups, region.inside, region.valid))
        suffix = "" if region is regions[0] else f"@{region.definition.name}"
        out |= {f"{name}{suffix}": values for name, values in numbers.items()}
    return out


def is_hard(brightness: NDArray[np.float32], region: Region) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which chips brightness says little about, and its AUROC on each."""
    score = metrics.auroc(metrics.rank(metrics.sort(_flat(brightness)), region.inside, region.valid))
    return np.asarray(score < HARD_BELOW), score


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)
