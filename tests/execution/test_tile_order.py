"""Every tile once, and neighbours soon after each other."""

import itertools

import numpy as np

from spacex.execution.tasks import TileTask
from spacex.execution.tile_order import SQUARE, tile_order


def test_every_tile_once_and_no_long_jump_within_a_square():
    tiles = [TileTask(t, r, c) for t in range(2) for r in range(19) for c in range(21)]
    order = tile_order(reversed(tiles))
    assert sorted(order) == tiles
    steps = [max(abs(a.row - b.row), abs(a.col - b.col)) for a, b in itertools.pairwise(order[:64])]
    assert max(steps) <= 3
    assert steps.count(1) >= 60
    assert {(task.row // SQUARE, task.col // SQUARE) for task in order[:64]} == {(0, 0)}


def test_the_front_is_short():
    """Of the tiles that touch one already done, how long ago was the latest of them done? Rows: always a row."""
    size = 2 * SQUARE
    order = tile_order(TileTask(0, r, c) for r in range(size) for c in range(size))
    when = {(task.row, task.col): at for at, task in enumerate(order)}
    waits = [at - before for (row, col), at in when.items() for step in ((0, 1), (1, 0), (0, -1), (-1, 0))
             if (before := when.get((row + step[0], col + step[1]), at)) < at]  # fmt: skip
    assert np.median(waits) <= 2
