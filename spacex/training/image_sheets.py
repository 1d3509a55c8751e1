"""A sheet of chips: what came in, what the generators made of it, and where they differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spacex.settings import display_band_indices

Array = NDArray[np.float32]
GAP = 4
"""White pixels between pictures."""


def sheet(x: Tensor, plus: Tensor, minus: Tensor, bands: tuple[str, ...]) -> NDArray[np.uint8]:
    """One row per chip: x, x₊, x₋ and |x₊ − x₋|, all chips and columns with one stretch.

    Args:
        x: (n, bands, height, width) float32 reflectance.
        plus: maximised chips, same shape.
        minus: minimised chips, same shape.
        bands: band names in order; red, green, blue are shown if all are there, else the first band in grey.

    Returns:
        (rows, columns, 3) uint8.
    """
    pictures = [_colours(t.detach().float().cpu().numpy(), bands) for t in (x, plus, minus)]
    low, high = np.percentile(pictures[0], (2, 98))
    stretched = [np.clip((p - low) / max(high - low, 1e-6), 0, 1) for p in pictures]
    change = (plus - minus).detach().float().abs().mean(1).cpu().numpy()
    columns = [*stretched, _heat(change)]
    rows = [_joined([column[chip] for column in columns], axis=1) for chip in range(len(x))]
    whole: NDArray[np.uint8] = (_joined(rows, axis=0) * 255).astype(np.uint8)
    return whole


def _colours(values: Array, bands: tuple[str, ...]) -> Array:
    return values[:, display_band_indices(bands)].transpose(0, 2, 3, 1)


def _heat(change: Array) -> Array:
    from matplotlib import colormaps

    top = max(float(np.percentile(change, 99)), 1e-6)
    colours: Array = colormaps["cividis"](np.clip(change / top, 0, 1))[..., :3].astype(np.float32)
    return colours


def _joined(parts: list[Array], axis: int) -> Array:
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.ones(shape, np.float32)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=axis)
