"""How much of a finished map lies where its classifier has never seen anything alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spacex.mapping.cube import Cube

SIDE = 4096
"""Pixels a side of what is looked at; larger maps are looked at in an overview."""


UNKNOWN = (
    "The checkpoint does not tell where its classifier applies: nothing is known of what of this map may be trusted."
)


def trust_line(cube: Cube) -> str:
    """One line for people; empty where nothing is mapped."""
    if not cube.spec.dissimilarity:
        return UNKNOWN
    share = share_outside(cube)
    if share is None:
        return ""
    return f"{100 * share:.0f} % of the mapped land is unlike anything the classifier was trained on"


def share_outside(cube: Cube) -> float | None:
    """Share of the mapped pixels whose dissimilarity lies above 1, over all time steps.

    Returns:
        0 to 1; None if nothing is mapped, or the checkpoint does not know where it applies.
    """
    steps = [_outside(cube, step) for step in range(len(cube.spec.intervals))] if cube.spec.dissimilarity else []
    mapped = sum(int(known.sum()) for _, known in steps)
    return sum(int(outside.sum()) for outside, _ in steps) / mapped if mapped else None


def tiles_outside(cube: Cube, step: int) -> NDArray[np.bool_]:
    """(tile rows, tile columns): tiles of a time step more than half of whose mapped pixels lie outside."""
    rows, cols = cube.tiling.shape
    if not cube.spec.dissimilarity:
        return np.zeros((rows, cols), bool)
    outside, known = (_by_tile(cube, part, rows, cols) for part in _outside(cube, step))
    return np.asarray(outside > known / 2)


def _outside(cube: Cube, step: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(height, width) of the level looked at: pixels outside, and pixels mapped."""
    level = _level(cube)
    values = np.asarray(cube.array(f"{level}/dissimilarity")[step])
    return np.nan_to_num(values) > 1, np.isfinite(values)


def _level(cube: Cube) -> int:
    """The finest level that is up to date, not too large, and not coarser than a tile."""
    levels = range(cube.levels_there)
    small = [level for level in levels if max(cube.array(f"{level}/dissimilarity").shape[1:]) <= SIDE]
    return next(iter(small), levels[-1])


def _by_tile(cube: Cube, pixels: NDArray[np.bool_], rows: int, cols: int) -> NDArray[np.int64]:
    """Pixels counted by tile, (rows, cols); a pixel of a level coarser than tiles counts for one of them."""
    scale = cube.extent.height / pixels.shape[0], cube.extent.width / pixels.shape[1]
    row, col = np.nonzero(pixels)
    found = np.zeros((rows, cols), np.int64)
    tile = (row * scale[0] / cube.spec.tile_size).astype(int), (col * scale[1] / cube.spec.tile_size).astype(int)
    np.add.at(found, tile, 1)
    return found
