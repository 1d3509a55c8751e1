"""Extract chips from a tile, and blend chip maps back into one seamless tile.

A pixel's value is the weighted mean over the chips that cover it. A weight depends only on where the pixel
lies in its chip, and chips lie on the global lattice (`spacex.grid.chip_windows`), so the value does not
depend on the tile or the region that was asked for. Sums run in lattice order, in float64, so it is the
same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spacex.errors import RequestError
from spacex.grid import CHIP, Window

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ChipPixels:
    """One chip, ready for the network."""

    window: Window
    """Where the chip lies on the global grid."""
    pixels: Array
    """(bands, height, width) float32 reflectance without NaN: gaps hold the chip's mean of each band."""
    valid: NDArray[np.bool_] | None = None
    """(height, width) False in the gaps; None if there are none."""


@lru_cache(maxsize=16)
def taper(size: int, frame: int) -> NDArray[np.float64]:
    """Weights along one side of a chip: zero in the frame, then a Hann window, never zero inside.

    Args:
        size: side of the chip in pixels.
        frame: pixels at both ends that weigh nothing.

    Returns:
        (size,) float64; the weight of pixel (i, j) is ``taper[i] * taper[j]``.
    """
    inner = size - 2 * frame
    if frame < 0 or inner < 1:
        raise RequestError("the frame leaves nothing of the chip", got=frame, expected=f"0 to {size // 2 - 1} pixels")
    weights = np.zeros(size)
    # half-pixel offsets keep the ends above zero, so a pixel seen by one chip only still has a weight
    weights[frame : size - frame] = np.sin(np.pi * (np.arange(inner) + 0.5) / inner) ** 2
    weights.flags.writeable = False
    return weights


def check_stride(stride: int, frame: int, size: int = CHIP) -> None:
    """Refuse strides that leave pixels without a weighing chip, or that the generators' pooling cannot follow.

    Raises:
        RequestError: if the stride is not a multiple of 4 from 4 to ``size - 2 * frame``.
    """
    largest = size - 2 * frame
    if stride < 4 or stride > largest or stride % 4:
        raise RequestError(
            "the stride does not fit the chip",
            got=f"{stride} pixels",
            expected=f"a multiple of 4 up to {largest} (chips of {size} with a frame of {frame})",
        )


def extract_chips(reflectance: Array, inside: Window, chips: Iterable[Window], min_valid: float) -> list[ChipPixels]:
    """Cut chips, or windows of any size, out of an image, leaving out those with too little data.

    Args:
        reflectance: (bands, height, width) float32, NaN where there is no data.
        inside: where that image lies; every chip must be within it.
        chips: the chips to cut.
        min_valid: share of valid pixels, 0 to 1, below which a chip is left out.

    Returns:
        The chips with enough data, in the order given.
    """
    extracted = []
    for window in chips:
        rows, cols = window.slices(inside)
        pixels = reflectance[:, rows, cols]
        valid = np.asarray(np.isfinite(pixels).all(axis=0))
        share = valid.mean()
        if share > 0 and share >= min_valid:
            whole = share == 1
            extracted.append(
                ChipPixels(window, pixels, None) if whole else ChipPixels(window, _fill(pixels, valid), valid)
            )
    return extracted


def _fill(pixels: Array, valid: NDArray[np.bool_]) -> Array:
    means = pixels[:, valid].mean(axis=1, dtype=np.float64).astype(np.float32)
    filled: Array = np.where(valid, pixels, means[:, None, None])
    return filled


def mosaic(window: Window, parts: Mapping[Window, Array], bands: int | None = None, fill: float = 0.0) -> Array:
    """Put together what lies on parts side by side.

    Args:
        window: the pixels wanted.
        parts: arrays (..., height, width) by the window they cover; they do not overlap.
        bands: number of leading bands; None for (height, width) alone.
        fill: value where no piece lies.

    Returns:
        (bands, height, width) or (height, width) float32.
    """
    whole = np.full((*([] if bands is None else [bands]), *window.shape), fill, np.float32)
    for place, values in parts.items():
        shared = place.intersect(window)
        if not shared.empty:
            whole[(..., *shared.slices(window))] = values[(..., *shared.slices(place))]
    return whole


class Blend:
    """The running weighted mean of chip maps over one window.

    Chips must be added in lattice (row-major) order if the result is to be the same to the bit everywhere.

    Args:
        window: the pixels wanted.
        frame: pixels at a chip's edge that weigh nothing.
        size: side of a chip.
    """

    def __init__(self, window: Window, frame: int, size: int = CHIP) -> None:
        side = taper(size, frame)
        self.window, self._weights = window, side[:, None] * side[None, :]
        self._sum = np.zeros(window.shape)
        self._weight = np.zeros(window.shape)

    def add(self, chip: Window, values: Array | float) -> None:
        """Add a chip's map ((size, size) float32) or its one score to every pixel it shares with the window."""
        shared = chip.intersect(self.window)
        if shared.empty:
            return
        here, there = shared.slices(self.window), shared.slices(chip)
        weights = self._weights[there]
        self._sum[here] += weights * (values[there] if isinstance(values, np.ndarray) else values)
        self._weight[here] += weights

    def mean(self) -> Array:
        """The blended map, (height, width) float32; NaN where no chip weighed anything."""
        with np.errstate(invalid="ignore", divide="ignore"):
            blended: Array = (self._sum / self._weight).astype(np.float32)
        return blended
