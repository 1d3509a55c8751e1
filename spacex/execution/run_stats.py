"""What a driver remembers of a run for its report."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass, field

from spacex.execution.tasks import TileReport

SLOWEST = 15
"""Tiles listed as the slowest."""


@dataclass
class RunStats:
    """What the driver remembers of a run for its report; of finished tiles only the slowest."""

    bands: int = 3
    """Bands the checkpoint reads."""
    began: float = field(default_factory=time.time)
    chips: int = 0
    scenes: int = 0
    fetched: int = 0
    retries: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    _slowest: list[tuple[float, int, TileReport]] = field(default_factory=list)

    def add(self, report: TileReport, finished: bool) -> None:
        """Book a report."""
        self.chips += report.chips
        self.scenes += report.scenes
        self.fetched += report.fetched
        self.retries += not finished
        self.seconds.update(report.seconds)
        entry = (sum(report.seconds.values()), id(report), report)
        add = heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop
        add(self._slowest, entry)

    @property
    def slowest(self) -> list[TileReport]:
        """The slowest tiles, the slowest first."""
        return [report for *_, report in sorted(self._slowest, reverse=True)]
