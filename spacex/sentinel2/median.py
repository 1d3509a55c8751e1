"""An exact median over observations that may be missing, fast because it sorts whole pictures at once.

`numpy.nanmedian` sorts pixel by pixel in float and takes seconds per tile. Here every comparison of a sorting
network is one minimum and one maximum of two pictures of 16-bit numbers (Batcher's odd-even merge sort:
K. E. Batcher, "Sorting networks and their applications", 1968), which numpy runs at memory speed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spacex.sentinel2.reflectance import QUANTIFICATION

MISSING = 65_535
"""Marks a missing observation: sorts behind every DN."""

BLOCK = 32_768
"""Pixels sorted at a time, so that a block of all observations stays in the processor's cache."""


def median(stack: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Per-pixel median of the observations that are there; `stack` is left sorted.

    Args:
        stack: (n, y, x) DN, contiguous; 65535 = missing. Sorted in place along n.

    Returns:
        Reflectance (y, x) float32, with an even number the mean of the middle two, NaN where there are
        none; and the number of observations (y, x).
    """
    n, shape = stack.shape[0], stack.shape[1:]
    flat = stack.reshape(n, int(np.prod(shape)))
    value, count = np.empty(flat.shape[1], np.float32), np.empty(flat.shape[1], np.uint16)
    for start in range(0, flat.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        value[part], count[part] = _block(flat[:, part])
    return value.reshape(shape), count.reshape(shape)


def _block(rows: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    n, width = rows.shape
    count = np.count_nonzero(rows != MISSING, axis=0)
    if n == 0:
        return np.full(width, np.nan, np.float32), count.astype(np.uint16)
    spare = np.empty(width, np.uint16)
    for low, high in comparisons(n):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low] = spare
    middle = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, n - 1)
    lower, upper = (np.take_along_axis(rows, at[None], axis=0)[0].astype(np.float32) for at in middle)
    value = (lower + upper) / np.float32(2 * QUANTIFICATION)
    value[count == 0] = np.nan
    return value, count.astype(np.uint16)


def comparisons(n: int) -> Iterator[tuple[int, int]]:
    """The pairs (low, high) of Batcher's odd-even merge sort for any number of inputs, in order."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        yield i + j, i + j + k
            k //= 2
        p *= 2
