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

from spacex.cube.encoding import Variable, downsample_2x
from spacex.cube.layout import CHUNK, TILES, holds, levels_of_tiles, variables, written_by_tiles
from spacex.cube.store import Cube
from spacex.execution.tasks import Status

THREADS = 4
"""Chunks made at the same time; most of it waits for the store or runs outside Python's lock."""
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
        report: called now and then with how far it is; a country takes minutes.
    """
    statuses = cube.statuses()
    stamp = _digest(statuses)
    if up_to_date(cube, statuses):
        return
    done = statuses == Status.DONE
    pool = ThreadPoolExecutor(THREADS)
    try:
        for level in range(1, cube.spec.levels):
            # a level needs the whole one below, so each is waited for
            chunks = list(_chunks(cube, level, done))
            for number, _ in enumerate(pool.map(partial(_make, cube, level), chunks)):
                report(f"overview {level} of {cube.spec.levels - 1}: {number} of {len(chunks)} chunks")
    finally:
        pool.shutdown(cancel_futures=True)
    cube.array(f"{TILES}/status_at_end")[...] = statuses
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
    first, last = tiles[:, 1:] * size // chunk, ((tiles[:, 1:] + 1) * size - 1) // chunk
    places = {
        (int(time), row, col)
        for time, (top, left), (bottom, right) in zip(tiles[:, 0], first, last, strict=True)
        for row in range(top, bottom + 1)
        for col in range(left, right + 1)
    }
    for place in sorted(places):
        yield from ((variable, *place) for variable in made)


def _make(cube: Cube, level: int, chunk: Chunk) -> None:
    variable, time, row, col = chunk
    below = cube.array(f"{level - 1}/{variable.name}")
    size = 2 * CHUNK
    stored = np.asarray(below[time, ..., row * size : (row + 1) * size, col * size : (col + 1) * size])
    block = variable.encode(downsample_2x(variable.decode(stored)))
    cube.put(variable, level, time, row * CHUNK, col * CHUNK, block)
