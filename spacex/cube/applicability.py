"""Share of a finished map that lies outside its classifier's area of applicability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spacex.cube.layout import TILES
from spacex.cube.store import Cube

MAX_SIDE = 4096
"""Longest side in pixels of the level that is read; of larger maps an overview is."""
UNKNOWN = (
    "The checkpoint does not tell where its classifier applies: nothing is known of what of this map may be trusted."
)


def trust_line(cube: Cube) -> str:
    """The share outside the area of applicability as a sentence; empty if nothing is mapped."""
    if not cube.spec.dissimilarity:
        return UNKNOWN
    share = share_outside(cube)
    if share is None:
        return ""
    return f"{100 * share:.0f} % of the mapped land is unlike anything the classifier was trained on"


def share_outside(cube: Cube) -> float | None:
    """Share of the mapped pixels whose dissimilarity lies above 1, over all time steps.

    Returns:
        0 to 1; None if nothing is mapped, if the checkpoint has no area of applicability, or if the cube is large and
        its overviews are not up to date.
    """
    level = _level(cube)
    steps = [] if level is None else [_outside(cube, level, step) for step in range(len(cube.spec.intervals))]
    mapped = sum(int(valid.sum()) for _, valid in steps)
    return sum(int(outside.sum()) for outside, _ in steps) / mapped if mapped else None


def tiles_outside(cube: Cube, step: int) -> NDArray[np.bool_]:
    """Tiles (rows, columns) of a time step with more than half of their mapped pixels outside."""
    tiles = cube.array(f"{TILES}/status").shape[1:]
    if (level := _level(cube)) is None:
        return np.zeros(tiles, bool)
    outside, mapped = (_count_by_tile(cube, mask, level, *tiles) for mask in _outside(cube, level, step))
    return np.asarray(outside > mapped / 2)


def _outside(cube: Cube, level: int, step: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels of a level that are outside, and those that are mapped, both (height, width)."""
    values = np.asarray(cube.array(f"{level}/dissimilarity")[step])
    return values > 1, np.isfinite(values)


def _level(cube: Cube) -> int | None:
    """The finest level that is up to date and not too large; None if there is none."""
    if not cube.spec.dissimilarity:
        return None
    levels = range(cube.published_levels)
    return next((x for x in levels if max(cube.array(f"{x}/dissimilarity").shape[1:]) <= MAX_SIDE), None)


def _count_by_tile(cube: Cube, pixels: NDArray[np.bool_], level: int, rows: int, cols: int) -> NDArray[np.int64]:
    """Number of true pixels by tile, (rows, cols); a pixel larger than a tile counts for one of them."""
    row_of, col_of = ((np.arange(length) << level) // cube.spec.tile_size for length in pixels.shape)
    counts = np.zeros((rows, cols), np.int64)
    # row by row, so that the weights take little memory: a level has up to MAX_SIDE² pixels
    for row, line in zip(row_of, pixels, strict=True):
        counts[row] += np.bincount(col_of, weights=line, minlength=cols).astype(np.int64)
    return counts
