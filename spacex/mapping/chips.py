"""Extract chips from a tile, and blend chip maps into one seamless tile.

A pixel's value is the weighted mean over the chips that cover it. A weight depends only on the pixel's position in its
chip, and chips lie on the global lattice (`spacex.grid.chip_windows`), so the value is the same in every tile and
region. It has the same bits too, because chips are summed in lattice order, in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from spacex.errors import RequestError
from spacex.grid import Window

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ChipPixels:
    """The pixels of one chip or window, as the networks take them."""

    window: Window
    """The chip's pixels on the global grid."""
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


def check_stride(stride: int, frame: int, size: int) -> None:
    """Refuse strides that leave pixels without weight, or that are not divisible by the generators' pooling.

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
    """Cut chips, or windows of any size, out of an image; skip those with too little data.

    Args:
        reflectance: (bands, height, width) float32, NaN where there is no data.
        inside: the image's window; it must contain every chip.
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
            if share == 1:
                extracted.append(ChipPixels(window, pixels))
                continue
            # each band's mean is the most neutral fill value: it adds little contrast
            means = pixels[:, valid].mean(axis=1, dtype=np.float64).astype(np.float32)
            extracted.append(ChipPixels(window, np.where(valid, pixels, means[:, None, None]), valid))
    return extracted


def mosaic(window: Window, parts: Mapping[Window, Array], bands: int | None = None, fill: float = 0.0) -> Array:
    """Assemble arrays that lie side by side.

    Args:
        window: the pixels of the result.
        parts: arrays (..., height, width) by the window they cover; they do not overlap.
        bands: number of leading bands; None for (height, width) alone.
        fill: value of pixels outside all parts.

    Returns:
        (bands, height, width) or (height, width) float32.
    """
    whole = np.full((*([] if bands is None else [bands]), *window.shape), fill, np.float32)
    for part, values in parts.items():
        shared = part.intersect(window)
        if not shared.empty:
            whole[(..., *shared.slices(window))] = values[(..., *shared.slices(part))]
    return whole


def sensitivity_field(cells: NDArray[Any], size: int) -> NDArray[np.float64]:
    """A checkpoint's sensitivity (cells, cells) as (size, size) float64, with the mean 1 under a chip's weights."""
    field = np.asarray(zoom(cells.astype(np.float64), size / len(cells), order=1, mode="nearest", grid_mode=True))
    weights = taper(size, 0)[:, None] * taper(size, 0)
    level: float = (field * weights).sum() / weights.sum()
    return field / level


class Blend:
    """The running weighted mean of chip maps over one window.

    With a `field` it is their weighted sum over that of the field: what a classifier gives a place of a chip on
    average shows no longer, and a chip that is `field` times a number gives that number everywhere.

    Add chips in lattice (row-major) order: only then a pixel has the same bits in every tile.

    Args:
        window: the pixels of the result.
        frame: pixels at a chip's edge that have no weight.
        size: side of a chip.
        bands: number of bands of the maps; None for maps (size, size).
        field: (size, size) positive: sensitivity by place in a chip; None for 1 everywhere.
    """

    def __init__(
        self,
        window: Window,
        frame: int,
        size: int,
        bands: int | None = None,
        field: NDArray[np.float64] | None = None,
    ) -> None:
        side = taper(size, frame)
        self.window, self._weights = window, side[:, None] * side[None, :]
        self._expected = self._weights if field is None else self._weights * field
        self._sum = np.zeros((*([] if bands is None else [bands]), *window.shape))
        self._weight = np.zeros(window.shape)

    def add(self, chip: Window, values: Array | float) -> None:
        """Add a chip's map ((…, size, size) float32) or its score to every pixel it shares with the window."""
        shared = chip.intersect(self.window)
        if shared.empty:
            return
        pixels, in_chip = shared.slices(self.window), shared.slices(chip)
        weights = self._weights[in_chip]
        shares = values[(..., *in_chip)] if isinstance(values, np.ndarray) else values
        self._sum[(..., *pixels)] += weights * shares
        self._weight[pixels] += self._expected[in_chip]

    def mean(self) -> Array:
        """The blended map, (…, height, width) float32; NaN where no chip has weight."""
        with np.errstate(invalid="ignore", divide="ignore"):
            blended: Array = (self._sum / self._weight).astype(np.float32)
        return blended
