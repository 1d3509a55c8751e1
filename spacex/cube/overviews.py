"""Overviews whose chunks span several tiles: made from the level below when a run ends.

While tiles are written nobody owns these chunks; afterwards the driver does, each chunk in one piece. Making them
again changes nothing, so a run that was killed here is made good by the next one. The root's attributes name these
levels only once they are there, and no longer when a resumed run is about to add tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spacex.cube.encoding import Variable, halve
from spacex.cube.layout import CHUNK, TILES, holds, levels_of_tiles, variables, written_by_tiles
from spacex.cube.store import Cube, read_attributes
from spacex.execution.tasks import Status

THREADS = 4
"""Chunks made at the same time; most of it waits for the store or runs outside Python's lock."""
Piece = tuple[Variable, int, int, int]
"""A chunk: its variable, time step, chunk row and chunk column."""
STAMP = "overviews_of"
"""Root attribute: the digest of the statuses that the overviews were made of."""


def withdraw(cube: Cube) -> None:
    """Before a run adds tiles: name only the levels that tiles themselves keep up to date."""
    if (read_attributes(cube.uri) or {}).get(STAMP):
        cube.name_levels(levels_of_tiles(cube.spec), {STAMP: ""})


def make_overviews(cube: Cube, told: Callable[[str], None] = lambda stage: None) -> None:
    """Make every level that tiles do not write, and a copy of the statuses in one chunk; then name them all.

    Does nothing if they are up to date.

    Args:
        cube: whose tiles are written.
        told: called now and then with how far it is; a country takes minutes.
    """
    statuses = cube.statuses()
    stamp = _digest(statuses)
    if up_to_date(cube, statuses):
        return
    done = statuses == Status.DONE
    pool = ThreadPoolExecutor(THREADS)
    try:
        for level in range(1, cube.spec.levels):
            # a level needs the whole one below, so the pool is emptied in between
            pieces = list(_pieces(cube, level, done))
            for made, _ in enumerate(pool.map(partial(_make, cube, level), pieces)):
                told(f"overview {level} of {cube.spec.levels - 1}: {made} of {len(pieces)} chunks")
    finally:
        pool.shutdown(cancel_futures=True)
    cube.array(f"{TILES}/status_at_end")[...] = statuses
    cube.name_levels(cube.spec.levels, {STAMP: stamp})


def up_to_date(cube: Cube, statuses: NDArray[np.uint8]) -> bool:
    """Whether the overviews that tiles share were made of these statuses."""
    return bool((read_attributes(cube.uri) or {}).get(STAMP) == _digest(statuses))


def _digest(statuses: NDArray[np.uint8]) -> str:
    return hashlib.sha256(statuses.tobytes()).hexdigest()[:16]


def _pieces(cube: Cube, level: int, done: NDArray[np.bool_]) -> Iterator[Piece]:
    """The chunks to make: those with a finished tile in them."""
    made = [v for v in variables(cube.spec) if holds(v, level) and not written_by_tiles(cube.spec, v, level)]
    chunk = CHUNK << level  # in pixels of full resolution
    tiles = np.argwhere(done) if made else np.empty((0, 3), int)
    first, last = tiles[:, 1:] * cube.spec.tile_size // chunk, ((tiles[:, 1:] + 1) * cube.spec.tile_size - 1) // chunk
    found = {
        (int(time), row, col)
        for time, (top, left), (bottom, right) in zip(tiles[:, 0], first, last, strict=True)
        for row in range(top, bottom + 1)
        for col in range(left, right + 1)
    }
    height, width = cube.array(f"{level}/naturalness").shape[1:]
    for time, row, col in sorted(found):
        if row * CHUNK < height and col * CHUNK < width:
            yield from ((variable, time, row, col) for variable in made)


def _make(cube: Cube, level: int, piece: Piece) -> None:
    variable, time, row, col = piece
    below = cube.array(f"{level - 1}/{variable.name}")
    size = 2 * CHUNK
    stored = np.asarray(below[time, ..., row * size : (row + 1) * size, col * size : (col + 1) * size])
    cube.put(variable, level, time, row * CHUNK, col * CHUNK, variable.encode(halve(variable.decode(stored))))
