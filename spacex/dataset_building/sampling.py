"""Drawing places: balanced, region by region and polygon by polygon, and never too close.

A region is a square of 100 km. Each class goes round its regions, and in a region round its polygons, and takes one
chip at a time, drawn by chance among the polygon's; so neither a large park nor a well-mapped country fills the set.
The classes take turns, and when one has nothing more to give, the other stops too.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from spacex.dataset_building.labels import HUMAN, NATURAL, Candidates
from spacex.dataset_building.request import DrawSettings
from spacex.grid import CHIP

REGION = 100_000.0
"""Metres along a region."""


def draw(found: Candidates, settings: DrawSettings, resolution: float) -> NDArray[np.int64]:
    """Which candidates become chips of the set: indices, in the order in which they were drawn.

    Args:
        found: all that lie in a class.
        settings: how many, how far apart.
        resolution: metres per pixel.

    Returns:
        As many natural as anthropogenic ones, in turn; equal candidates and settings give equal draws.
    """
    room = _Room(found, settings.distance / resolution)
    random = np.random.default_rng(settings.seed)
    hands = [_Hand(found, label, settings.limit_per_polygon, REGION / resolution, random, room.free)
             for label in (NATURAL, HUMAN)]  # fmt: skip
    drawn: list[int] = []
    while len(drawn) + 2 <= settings.count:
        for hand in hands:
            if (index := hand.next()) is None:
                return np.array(drawn[: len(drawn) // 2 * 2], np.int64)
            room.take(index)
            drawn.append(index)
    return np.array(drawn, np.int64)


class _Room:
    """Where chips may still lie."""

    def __init__(self, found: Candidates, distance: float) -> None:
        self._row, self._col, self._distance = found.row.tolist(), found.col.tolist(), distance
        self._cell = max(CHIP, distance)
        self._taken: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)

    def free(self, index: int) -> bool:
        """Whether a candidate overlaps no chip and keeps its distance."""
        row, col = self._row[index], self._col[index]
        return all(
            max(abs(row - r), abs(col - c)) >= CHIP and (row - r) ** 2 + (col - c) ** 2 >= self._distance**2
            for r, c in self._near(row, col)
        )

    def take(self, index: int) -> None:
        """Put a chip there."""
        row, col = self._row[index], self._col[index]
        self._taken[self._key(row, col)].append((row, col))

    def _key(self, row: int, col: int) -> tuple[int, int]:
        return int(row // self._cell), int(col // self._cell)

    def _near(self, row: int, col: int) -> Iterator[tuple[int, int]]:
        i, j = self._key(row, col)
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                yield from self._taken.get((i + di, j + dj), ())


class _Hand:
    """One class's candidates, given out in turn."""

    def __init__(
        self, found: Candidates, label: int, limit: int, region: float, random: np.random.Generator,
        free: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self._limit, self._free, self._given = limit, free, Counter[int]()
        queues: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index in random.permutation(np.flatnonzero(found.label == label)).tolist():
            square = int(found.row[index] // region), int(found.col[index] // region)
            queues[square][int(found.owner[index])].append(index)
        self._regions = deque(deque(polygons.items()) for polygons in queues.values())

    def next(self) -> int | None:
        """The next candidate that is free; None if there is none."""
        while self._regions:
            polygons = self._regions.popleft()
            index = self._from(polygons)
            if polygons:
                self._regions.append(polygons)
            if index is not None:
                return index
        return None

    def _from(self, polygons: deque[tuple[int, list[int]]]) -> int | None:
        """One candidate of the region's next polygon that has any; polygons that have none are dropped."""
        while polygons:
            owner, queue = polygons.popleft()
            while queue and self._given[owner] < self._limit:
                index = queue.pop()
                if self._free(index):
                    self._given[owner] += 1
                    polygons.append((owner, queue))
                    return index
        return None
