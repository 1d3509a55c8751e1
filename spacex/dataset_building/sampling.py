"""Samples chips of both classes from the candidates: balanced over regions and polygons, and never too close.

A region is a square of 100 km. Each class takes turns through its regions, and in a region through its polygons, and
draws one chip at a time at random from the polygon's candidates. So neither a large park nor a well-mapped country
fills the set. The classes alternate, and sampling ends when either has no candidate left.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spacex.dataset_building.labels import ANTHROPOGENIC, NATURAL, Candidates
from spacex.dataset_building.request import SamplingSettings
from spacex.grid import CHIP

REGION = 100_000.0
"""Metres along a region."""


def sample(candidates: Candidates, settings: SamplingSettings, resolution: float) -> NDArray[np.int64]:
    """Indices of the candidates that become chips, in the order drawn: as many natural as anthropogenic ones, in turn.

    Equal candidates and settings give equal samples. A pixel has a side of `resolution` metres.
    """
    index = _SpacingIndex(candidates, settings.distance / resolution)
    random, region = np.random.default_rng(settings.seed), REGION / resolution
    limit = settings.limit_per_polygon
    queues = [
        _ClassQueue(candidates, label, limit, region, random, index.is_free) for label in (NATURAL, ANTHROPOGENIC)
    ]
    drawn: list[int] = []
    # one chip of each class in turn; a last one without its counterpart is dropped
    while len(drawn) + 2 <= settings.count:
        for queue in queues:
            if (candidate := queue.next()) is None:
                return np.array(drawn[: len(drawn) // 2 * 2], np.int64)
            index.add(candidate)
            drawn.append(candidate)
    return np.array(drawn, np.int64)


class _SpacingIndex:
    """Chips drawn so far, by squares as wide as the distance, so that only nine squares need to be searched."""

    def __init__(self, candidates: Candidates, distance: float) -> None:
        self._positions = list(zip(candidates.row.tolist(), candidates.col.tolist(), strict=True))
        self._distance, self._cell = distance, max(CHIP, distance)
        self._chips: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)

    def is_free(self, candidate: int) -> bool:
        """Whether a candidate overlaps no chip and keeps its distance."""
        row, col = self._positions[candidate]
        i, j = int(row // self._cell), int(col // self._cell)
        near = (self._chips.get((i + di, j + dj), ()) for di in (-1, 0, 1) for dj in (-1, 0, 1))
        return all(
            max(abs(row - r), abs(col - c)) >= CHIP and (row - r) ** 2 + (col - c) ** 2 >= self._distance**2
            for chips in near
            for r, c in chips
        )

    def add(self, candidate: int) -> None:
        """Count a candidate as a chip."""
        row, col = self._positions[candidate]
        self._chips[int(row // self._cell), int(col // self._cell)].append((row, col))


class _ClassQueue:
    """One class's candidates in round-robin order over regions, and within a region over polygons."""

    def __init__(
        self,
        candidates: Candidates,
        label: int,
        limit: int,
        region: float,
        random: np.random.Generator,
        is_free: Callable[[int], bool],
    ) -> None:
        self._limit, self._is_free, self._drawn = limit, is_free, Counter[int]()
        # candidates by region and polygon, in random order; regions and polygons stand in the order of their first one
        queues: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index in random.permutation(np.flatnonzero(candidates.label == label)).tolist():
            square = int(candidates.row[index] // region), int(candidates.col[index] // region)
            queues[square][int(candidates.polygon_id[index])].append(index)
        self._regions = deque(deque(polygons.items()) for polygons in queues.values())

    def next(self) -> int | None:
        """The next candidate that is free; None if there is none."""
        while self._regions:
            polygons = self._regions.popleft()
            index = self._next_of(polygons)
            # a region whose polygons are all exhausted is dropped, any other queues again
            if polygons:
                self._regions.append(polygons)
            if index is not None:
                return index
        return None

    def _next_of(self, polygons: deque[tuple[int, list[int]]]) -> int | None:
        """A free candidate of the region's next polygon that has one; polygons without are dropped."""
        while polygons:
            polygon_id, queue = polygons.popleft()
            while queue and self._drawn[polygon_id] < self._limit:
                index = queue.pop()
                if self._is_free(index):
                    self._drawn[polygon_id] += 1
                    polygons.append((polygon_id, queue))
                    return index
        return None
