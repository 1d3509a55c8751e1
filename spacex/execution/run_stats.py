"""Statistics of a run: the one place where reports of tiles and deaths of workers are counted.

`TaskQueue` counts here; progress, logs, Prometheus metrics and the report read.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from spacex.execution.tasks import Status, TileReport, TileTask

SLOWEST = 15
"""Tiles listed as the slowest."""


@dataclass
class RunStats:
    """Counts of one run. Needs memory only for tiles that failed and for the slowest."""

    began: float = field(default_factory=time.time)
    """Unix time of the start."""
    tiles: Counter[Status] = field(default_factory=Counter)
    """Tiles finished in this run, by status; those quarantined are FAILED."""
    quarantined: dict[TileTask, str] = field(default_factory=dict)
    """Tiles that are not tried again in this run, with the reason."""
    failures: Counter[TileTask] = field(default_factory=Counter)
    """Failed tries per tile."""
    worker_deaths: Counter[TileTask] = field(default_factory=Counter)
    """Workers that died while they held the tile."""
    workers_lost: int = 0
    """Times a worker died, broke or hung."""
    retries: int = 0
    """Failed tries after which the tile was tried again."""
    chips: int = 0
    scenes: int = 0
    fetched: int = 0
    """Bytes of scenes fetched."""
    doubtful_scenes: dict[str, str] = field(default_factory=dict)
    """Ids of scenes whose pixels contradict their offset, and how; of earlier runs too when the run has ended."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Seconds of all workers by activity: reading, computing, writing."""
    _slowest: list[tuple[float, int, TileReport]] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """Tiles finished or quarantined in this run."""
        return self.tiles.total()

    @property
    def slowest(self) -> list[TileReport]:
        """The slowest tiles, the slowest first."""
        return [report for *_, report in sorted(self._slowest, reverse=True)]

    def add(self, report: TileReport, finished: bool) -> None:
        """Count a report; `finished` is False if the tile will be tried again."""
        if report.status is Status.FAILED:
            self.failures[report.task] += 1
        else:
            self.tiles[report.status] += 1
        self.retries += not finished
        self.chips += report.chips
        self.scenes += report.scenes
        self.fetched += report.fetched
        self.seconds.update(report.seconds)
        self.doubtful_scenes = report.doubtful_scenes | self.doubtful_scenes
        # a heap whose smallest entry is replaced; the id decides between equal times, since reports have no order
        push = heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop
        push(self._slowest, (sum(report.seconds.values()), id(report), report))

    def add_worker_death(self, tasks: Sequence[TileTask]) -> None:
        """Count a lost worker, and the tiles it held."""
        self.workers_lost += 1
        self.worker_deaths.update(tasks)

    def quarantine(self, task: TileTask, reason: str) -> None:
        """Count a tile that is not tried again in this run."""
        self.quarantined[task] = reason
        self.tiles[Status.FAILED] += 1
