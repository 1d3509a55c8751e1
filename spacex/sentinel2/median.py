"""An exact median over observations that may be missing, fast because it sorts whole pictures at once.

`numpy.nanmedian` sorts pixel by pixel in float and takes seconds per tile. Here every comparison of a sorting
network is one minimum and one maximum of two pictures of 16-bit numbers (Batcher's odd-even merge sort:
K. E. Batcher, "Sorting networks and their applications", 1968), which numpy runs at memory speed. Missing
observations sort last, so the middle of those that are there always lies in the lower half: what only the upper half
would need is left out of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spacex.sentinel2.reflectance import QUANTIFICATION

MISSING = 65_535
"""Marks a missing observation: sorts behind every DN."""

BLOCK = 65_536
"""Pixels sorted at a time, so that a block of all observations stays in the processor's cache."""


def median(stack: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Per-pixel median of the observations that are there; `stack` is left in another order.

    Args:
        stack: (n, y, x) DN, contiguous; 65535 = missing. Half sorted in place along n.

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
    if n == 0:
        return np.full(width, np.nan, np.float32), np.zeros(width, np.uint16)
    count = np.zeros(width, np.uint16)
    for row in rows:
        count -= every_bit(row != MISSING)  # one more: of 16 bits, every bit is -1
    spare = np.empty(width, np.uint16)
    for low, high, wanted in half_sort(n):
        if wanted == "both":
            np.minimum(rows[low], rows[high], out=spare)
            np.maximum(rows[low], rows[high], out=rows[high])
            rows[low] = spare
        elif wanted == "low":
            np.minimum(rows[low], rows[high], out=rows[low])
        else:
            np.maximum(rows[low], rows[high], out=rows[high])
    last = np.maximum(count, 1) - np.uint16(1)
    lower, upper = _at(rows, last // 2), _at(rows, np.minimum(count // 2, last))
    value = lower.astype(np.float32)
    value += upper
    value /= np.float32(2 * QUANTIFICATION)
    if not count.all():
        value[count == 0] = np.nan
    return value, count


def _at(rows: NDArray[np.uint16], place: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The value of each column at its place, at most n // 2."""
    first, last = int(place.min()), int(place.max())
    value: NDArray[np.uint16] = rows[first]
    if first < last:
        value = np.zeros(rows.shape[1], np.uint16)
        for index in range(first, last + 1):
            value |= rows[index] & every_bit(place == index)
    return value


def every_bit(mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """65535 where True, else 0: choosing by bits takes a tenth of the time of numpy's masked copies."""
    ones: NDArray[np.int16] = np.negative(mask.view(np.int8), dtype=np.int16)
    return ones.view(np.uint16)


@lru_cache(maxsize=256)
def half_sort(n: int) -> tuple[tuple[int, int, str], ...]:
    """The sort of n inputs as far as places 0 to n // 2 need it: (low, high, and which of the two is needed)."""
    needed, kept = set(range(n // 2 + 1)), []
    for low, high in reversed(list(comparisons(n))):
        ends = low in needed, high in needed
        if any(ends):
            kept.append((low, high, "both" if all(ends) else "low" if ends[0] else "high"))
            needed |= {low, high}
    return tuple(reversed(kept))


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
