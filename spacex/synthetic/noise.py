"""Random fields that are pure functions of position: hashed lattices, B-splines between them, and Voronoi mosaics.

A value depends on the coordinates, the wavelength and the key alone, and is computed with additions,
multiplications and comparisons only, which IEEE 754 defines to the bit (as it does not for sines). A window painted
by itself therefore equals the crop of a larger one to the bit.

Coordinates come as arrays that broadcast: a regular grid as ``x`` of shape (1, w) and ``y`` of shape (h, 1),
or any two arrays of one shape. A regular grid is interpolated along columns and then along rows, which is faster and
applies the same operations in the same order.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Coords = NDArray[np.float64]
Bools = NDArray[np.bool_]

# A quadratic B-spline of uniform random numbers has variance (11/20)^2 / 12: its inverse root gives variance
# one.
_UNIT = float(np.sqrt(12.0) / 0.55)


def key_of(*parts: object) -> int:
    """A 32-bit key from anything with a stable text form (seed, name of the field, octave)."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def hash01(i: NDArray[np.int64], j: NDArray[np.int64], key: int) -> Floats:
    """Uniform f4 numbers in [0, 1), multiples of 2**-24, for columns `i` and rows `j` of a lattice, which broadcast.

    Source of the mixing: MurmurHash3's 32-bit finaliser (A. Appleby, public domain).
    """
    h = i.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32(key & 0xFFFFFFFF)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x85EBCA6B) + j.astype(np.uint32) * np.uint32(0xC2B2AE35)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def is_regular(x: Coords, y: Coords) -> bool:
    """True for ``x`` (1, w) with ``y`` (h, 1): a grid whose rows share their x and whose columns share their y."""
    return x.ndim == 2 and y.ndim == 2 and x.shape[0] == 1 and y.shape[1] == 1


def smooth(x: Coords, y: Coords, wavelength: float, key: int) -> Floats:
    """Smooth noise of mean 0 and variance about 1, nearly normal: quadratic B-splines over a hashed lattice.

    The lattice's spacing is `wavelength` metres, blobs are about twice as wide; f4 of the points' broadcast shape.
    """
    i, wx = _taps(x / wavelength + (key & 1023) / 1024.0)
    j, wy = _taps(y / wavelength + (key >> 10 & 1023) / 1024.0)
    if is_regular(x, y):
        (columns, i), (rows, j) = _needed(i[0]), _needed(j[:, 0])
        lattice = _values(columns[None, :], rows[:, None], key)
        along = _blend([lattice[:, i + k] for k in _TAPS], wx)
        return _blend([along[j + k] for k in _TAPS], wy)
    at = _lookup(i, j, key)
    return _blend([_blend([at(k, c) for c in _TAPS], wx) for k in _TAPS], wy)


_TAPS = (-1, 0, 1)


def _values(i: NDArray[np.int64], j: NDArray[np.int64], key: int) -> Floats:
    return (hash01(i, j, key) - np.float32(0.5)) * np.float32(_UNIT)


def _needed(middle: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lattice lines that points touch, ascending, and where among them each point's middle one is."""
    first, last = int(middle.min()) - 1, int(middle.max()) + 1
    if last - first < 4 * middle.size + 64:
        return np.arange(first, last + 1), middle - first
    lines = np.unique(middle[:, None] + np.array(_TAPS))  # points far apart touch few of the lines between
    return lines, np.searchsorted(lines, middle)


def _lookup(i: NDArray[np.int64], j: NDArray[np.int64], key: int) -> Callable[[int, int], Floats]:
    """Lattice values `k` rows and `c` columns from every point's middle one; hashed once where points are dense."""
    i0, j0 = int(i.min()) - 1, int(j.min()) - 1
    width, height = int(i.max()) + 2 - i0, int(j.max()) + 2 - j0
    if width * height > 4 * i.size + 4096:
        return lambda k, c: _values(i + c, j + k, key)
    columns, rows = np.arange(i0, i0 + width), np.arange(j0, j0 + height)
    flat = _values(columns[None, :], rows[:, None], key).ravel()
    here = (j - j0) * width + (i - i0)
    return lambda k, c: flat[here + (k * width + c)]


def _taps(f: Coords) -> tuple[NDArray[np.int64], tuple[Floats, Floats, Floats]]:
    nearest = np.floor(f + 0.5)
    t = (f - nearest).astype(np.float32)
    low, high = np.float32(0.5) - t, np.float32(0.5) + t
    half = np.float32(0.5)
    return nearest.astype(np.int64), (half * low * low, np.float32(0.75) - t * t, half * high * high)


def _blend(values: list[Floats], weights: tuple[Floats, Floats, Floats]) -> Floats:
    out = values[0] * weights[0]
    out += values[1] * weights[1]
    out += values[2] * weights[2]
    return out


class Cells(NamedTuple):
    """The cell of a Voronoi mosaic each point lies in."""

    i: NDArray[np.int64]
    """Column of the cell's lattice point."""
    j: NDArray[np.int64]
    """Row of the cell's lattice point."""
    edge: Floats
    """Distance to the second nearest centre less the distance to the nearest, in metres: 0 on a border."""

    def random(self, key: int) -> Floats:
        """One uniform number in [0, 1) per cell."""
        return hash01(self.i, self.j, key)


def cells(x: Coords, y: Coords, size: float, key: int) -> Cells:
    """The jittered-lattice Voronoi mosaic with cells of about `size` metres.

    Centres move by at most 0.3 of a cell, and the four nearest lattice points are searched; in rare corners
    the true nearest centre is a fifth one, which makes a border slightly crooked and nothing else.
    """
    f, g = np.broadcast_arrays(x / size, y / size)
    i, j = np.floor(f), np.floor(g)
    u, v = (f - i).astype(np.float32), (g - j).astype(np.float32)
    i0, j0 = int(i.min()), int(j.min())
    columns, rows = np.arange(i0, int(i.max()) + 2)[None, :], np.arange(j0, int(j.max()) + 2)[:, None]
    move = np.float32(0.6)
    shift_x = (hash01(columns, rows, key) - np.float32(0.5)) * move
    shift_y = (hash01(columns, rows, key ^ 0x5BD1E995) - np.float32(0.5)) * move
    width = shift_x.shape[1]
    here = (j.astype(np.int64) - j0) * width + (i.astype(np.int64) - i0)
    best = np.full(here.shape, 9.0, np.float32)
    second, which = best.copy(), np.zeros(here.shape, np.int8)
    for corner, (di, dj) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        at = here + (dj * width + di)
        dx = shift_x.ravel()[at] + (np.float32(di) - u)
        dy = shift_y.ravel()[at] + (np.float32(dj) - v)
        distance = dx * dx + dy * dy
        closer = distance < best
        second = np.where(closer, best, np.minimum(second, distance))
        which[closer] = corner
        best = np.where(closer, distance, best)
    edge = (np.sqrt(second) - np.sqrt(best)) * np.float32(size)
    return Cells(i.astype(np.int64) + (which & 1), j.astype(np.int64) + (which >> 1), edge)


def triangle(phase: NDArray[np.floating]) -> Floats:
    """A wave of period 1 between -1 and 1 with straight flanks: the bit-exact stand-in for a cosine."""
    part = phase - np.floor(phase)
    return np.asarray(np.abs(part - 0.5) * 4.0 - 1.0, np.float32)


def ramp(value: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, straight between."""
    scaled = (value - np.float32(low)) * np.float32(1.0 / (high - low))
    return np.asarray(np.clip(scaled, np.float32(0), np.float32(1)))
