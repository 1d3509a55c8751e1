"""Prometheus counters of a mapping run, exported by Ray's agents on every node.

===================================  =======================================================================
``ray_spacex_tiles_total``           tiles settled, by ``status`` (done, no_data, failed)
``ray_spacex_tile_faults_total``     tries of tiles that failed
``ray_spacex_workers_lost_total``    times a worker died, broke or hung
``ray_spacex_worker_seconds_total``  workers' seconds by ``activity``: reading, computing, writing, waiting
``ray_spacex_bytes_read_total``      bytes of pixels read, decoded
``ray_spacex_workers_alive``         workers at work now
``ray_spacex_compute_share``         share of the workers' time in which their networks ran; the GPU's with --gpu
===================================  =======================================================================

Reading and writing run beside the network in threads of their own; computing and waiting add up to a worker's
time. All but the bytes are counted by the driver, so that a killed worker takes no number with it.
"""

from __future__ import annotations

import time
from collections import deque

from ray.util.metrics import Counter, Gauge

from spacex.execution.tasks import TileReport
from spacex.sentinel2.assets import READ_STATS

WINDOW = 60.0
"""Seconds over which the compute share is taken."""


class RunMetrics:
    """The driver's counters."""

    def __init__(self) -> None:
        self._tiles = Counter("spacex_tiles", "Tiles settled", ("status",))
        self._faults = Counter("spacex_tile_faults", "Tries of tiles that failed")
        self._lost = Counter("spacex_workers_lost", "Times a worker died, broke or hung")
        self._seconds = Counter("spacex_worker_seconds", "Seconds of the workers", ("activity",))
        self._alive = Gauge("spacex_workers_alive", "Workers at work now")
        self._share = Gauge("spacex_compute_share", "Share of the workers' time in which their networks ran")
        self._computing = self._worker_time = self._waiting = 0.0
        self._ticked = time.monotonic()
        self._past: deque[tuple[float, float, float]] = deque([(self._ticked, 0.0, 0.0)])

    def report(self, report: TileReport, settled: bool) -> None:
        """Count a worker's report."""
        for activity, seconds in report.seconds.items():
            _add(self._seconds, seconds, {"activity": activity})
        self._computing += report.seconds.get("computing", 0.0)
        if report.reason:
            self._faults.inc()
        if settled:
            self._tiles.inc(tags={"status": report.status.name.lower()})

    def give_up(self) -> None:
        """Count a tile given up because its workers died."""
        self._tiles.inc(tags={"status": "failed"})

    def lose(self) -> None:
        """Count a lost worker."""
        self._lost.inc()

    def tick(self, alive: int) -> None:
        """Count the time that has passed with this many workers alive."""
        now = time.monotonic()
        self._worker_time += alive * (now - self._ticked)
        self._ticked = now
        # computing is reported with a tile's end, so waiting runs ahead in between and never back
        waiting = max(self._waiting, self._worker_time - self._computing)
        _add(self._seconds, waiting - self._waiting, {"activity": "waiting"})
        self._waiting = waiting
        self._alive.set(alive)
        self._past.append((now, self._worker_time, self._computing))
        while len(self._past) > 2 and now - self._past[0][0] > WINDOW:
            self._past.popleft()
        self._share.set(self.compute_share)

    @property
    def compute_share(self) -> float:
        """Share of the workers' time of the last `WINDOW` seconds in which their networks ran, 0 to 1."""
        _, worker_time, computing = self._past[0]
        passed = self._worker_time - worker_time
        return min(1.0, (self._computing - computing) / passed) if passed > 0 else 0.0


class WorkerMetrics:
    """A worker's counter of what it has read."""

    def __init__(self) -> None:
        self._bytes = Counter("spacex_bytes_read", "Bytes of pixels read, decoded")
        self._counted = READ_STATS.total

    def update(self) -> None:
        """Count what was read since the last time."""
        total = READ_STATS.total
        _add(self._bytes, total - self._counted, None)
        self._counted = total


def _add(counter: Counter, amount: float, tags: dict[str, str] | None) -> None:
    if amount > 0:  # Ray refuses to count nothing
        counter.inc(amount, tags=tags or {})
