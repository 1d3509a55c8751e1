"""Make the overviews whose chunks span several tiles, from the level below, when a run ends.

No worker writes these chunks; the driver writes each as a whole when the tiles are done. Making them again gives the
same bytes, so the next run completes what a killed one left. The root's attributes list these levels only while they
are up to date: they are hidden before a resumed run adds tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spacex.cube.encoding import Variable, downsample_2x
from spacex.cube.layout import CHUNK, TILES, holds, levels_of_tiles, variables, written_by_tiles
from spacex.cube.store import Cube
from spacex.execution.tasks import Status

THREADS = 4
"""Chunks made at the same time; their time goes into the store and into code that releases Python's lock."""
Chunk = tuple[Variable, int, int, int]
"""A chunk: its variable, time step, chunk row and chunk column."""
STAMP = "overviews_of"
"""Root attribute: the digest of the statuses that the overviews were made of."""


def hide_levels(cube: Cube) -> None:
    """Before a run adds tiles: publish only the levels that tiles themselves keep up to date."""
    if cube.attributes.get(STAMP):
        cube.publish_levels(levels_of_tiles(cube.spec), {STAMP: ""})


def make_overviews(cube: Cube, report: Callable[[str], None] = lambda stage: None) -> None:
    """Make every level that tiles do not write, and a copy of the statuses in one chunk; then publish all levels.

    Does nothing if they are up to date.

    Args:
        cube: whose tiles are written.
        report: called with the progress after each chunk; a country takes minutes.
    """
    statuses = cube.statuses()
    stamp = _digest(statuses)
    if up_to_date(cube, statuses):
        return
    done = statuses == Status.DONE
    pool = ThreadPoolExecutor(THREADS)
    try:
        for level in range(1, cube.spec.levels):
            # a chunk needs four of the level below, so the levels are made one after the other
            chunks = list(_chunks(cube, level, done))
            for number, _ in enumerate(pool.map(partial(_make, cube, level), chunks)):
                report(f"overview {level} of {cube.spec.levels - 1}: {number} of {len(chunks)} chunks")
    # on an error or interruption the chunks in progress are finished, and the rest is not begun
    finally:
        pool.shutdown(cancel_futures=True)
    cube.array(f"{TILES}/status_at_end")[...] = statuses
    # last: a run killed before this line leaves the levels hidden
    cube.publish_levels(cube.spec.levels, {STAMP: stamp})


def up_to_date(cube: Cube, statuses: NDArray[np.uint8]) -> bool:
    """Whether the overviews that tiles share were made of these statuses."""
    return bool(cube.attributes.get(STAMP) == _digest(statuses))


def _digest(statuses: NDArray[np.uint8]) -> str:
    return hashlib.sha256(statuses.tobytes()).hexdigest()[:16]


def _chunks(cube: Cube, level: int, done: NDArray[np.bool_]) -> Iterator[Chunk]:
    """The chunks of a level to make: those with a finished tile in them."""
    made = [v for v in variables(cube.spec) if holds(v, level) and not written_by_tiles(cube.spec, v, level)]
    if not made:
        return
    size, chunk = cube.spec.tile_size, CHUNK << level  # both in pixels of full resolution
    tiles = np.argwhere(done)
    # the chunks that hold a tile's first and last pixel; at coarse levels both are the same chunk
    first, last = tiles[:, 1:] * size // chunk, ((tiles[:, 1:] + 1) * size - 1) // chunk
    # a set, because neighbouring tiles share chunks
    positions = {
        (int(time), row, col)
        for time, (top, left), (bottom, right) in zip(tiles[:, 0], first, last, strict=True)
        for row in range(top, bottom + 1)
        for col in range(left, right + 1)
    }
    for position in sorted(positions):
        yield from ((variable, *position) for variable in made)


def _make(cube: Cube, level: int, chunk: Chunk) -> None:
    variable, time, row, col = chunk
    below = cube.array(f"{level - 1}/{variable.name}")
    # 2 × 2 chunks of the level below; at the edge there may be less, and `downsample_2x` pads an odd side
    size = 2 * CHUNK
    stored = np.asarray(below[time, ..., row * size : (row + 1) * size, col * size : (col + 1) * size])
    block = variable.encode(downsample_2x(variable.decode(stored)))
    cube.put(variable, level, time, row * CHUNK, col * CHUNK, block)
