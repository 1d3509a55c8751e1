"""Prometheus metrics of a run, exported by Ray's agents on every node.

===================================  =======================================================================
``ray_spacex_tiles_total``           tiles finished or quarantined, by ``status`` (done, no_data, failed)
``ray_spacex_tile_faults_total``     failed tries of tiles
``ray_spacex_workers_lost_total``    times a worker died, broke or hung
``ray_spacex_worker_seconds_total``  workers' seconds by ``activity``: reading, computing, writing, waiting
``ray_spacex_bytes_read_total``      bytes of pixels read, decoded
``ray_spacex_workers_alive``         workers at work now
``ray_spacex_compute_share``         share of the workers' time in which their networks ran; the GPU's with --gpu
===================================  =======================================================================

Each is labelled with its ``run``, the URI of what is made, so that two runs on one cluster are told apart. A run that
ends sets its gauges to 0; Ray forgets its counters when its processes are gone. `cluster/grafana.json` draws them all.

Threads of their own read and write beside the network, so computing and waiting add up to a worker's time. All but the
bytes are counted by the driver (`RunStats`), so that a killed worker takes no count with it.
"""

from __future__ import annotations

import time
from collections import deque

from ray.util.metrics import Counter, Gauge

from spacex.execution.run_stats import RunStats
from spacex.sentinel2.assets import READ_STATS

WINDOW_S = 60.0
"""Seconds over which the compute share is taken."""


class _Total:
    """A Prometheus counter that follows a total which is counted elsewhere."""

    def __init__(self, run: str, name: str, description: str, tag: str | None = None) -> None:
        self._counter, self._tag = Counter(name, description, ("run", *([tag] if tag else []))), tag
        self._counter.set_default_tags({"run": run})
        self._exported: dict[str, float] = {}

    def set(self, total: float, label: str = "") -> None:
        increase = total - self._exported.get(label, 0.0)
        if increase > 0:  # Ray refuses to add 0
            self._counter.inc(increase, tags={self._tag: label} if self._tag else {})
            self._exported[label] = total


class RunMetrics:
    """The driver's metrics of a run, which is named by the URI of what it makes."""

    def __init__(self, run: str) -> None:
        self._tiles = _Total(run, "spacex_tiles", "Tiles finished or quarantined", "status")
        self._failures = _Total(run, "spacex_tile_faults", "Failed tries of tiles")
        self._lost = _Total(run, "spacex_workers_lost", "Times a worker died, broke or hung")
        self._seconds = _Total(run, "spacex_worker_seconds", "Seconds of the workers", "activity")
        self._alive = Gauge("spacex_workers_alive", "Workers at work now", ("run",))
        self._share = Gauge("spacex_compute_share", "Share of the workers' time in which their networks ran", ("run",))
        for gauge in (self._alive, self._share):
            gauge.set_default_tags({"run": run})
        self._worker_time, self._updated = 0.0, time.monotonic()
        # (moment, workers' time, computing time), at most `WINDOW_S` old
        self._past: deque[tuple[float, float, float]] = deque([(self._updated, 0.0, 0.0)])

    def update(self, stats: RunStats, alive: int) -> None:
        """Export what was counted, and the time that has passed with this many workers alive."""
        for status, count in stats.tiles.items():
            self._tiles.set(count, status.label)
        self._failures.set(stats.failures.total())
        self._lost.set(stats.workers_lost)
        for activity, seconds in stats.seconds.items():
            self._seconds.set(seconds, activity)
        now, computing = time.monotonic(), stats.seconds["computing"]
        self._worker_time += alive * (now - self._updated)
        self._updated = now
        # computing is reported at the end of a tile: meanwhile waiting is too high, and it never goes down again
        self._seconds.set(self._worker_time - computing, "waiting")
        self._alive.set(alive)
        self._past.append((now, self._worker_time, computing))
        while len(self._past) > 2 and now - self._past[0][0] > WINDOW_S:
            self._past.popleft()
        _, worker_time_before, computing_before = self._past[0]
        passed = self._worker_time - worker_time_before
        self._share.set(min(1.0, (computing - computing_before) / passed) if passed > 0 else 0.0)

    def close(self) -> None:
        """Say that nothing works on the run any more: gauges would keep their last value."""
        self._alive.set(0)
        self._share.set(0.0)


class WorkerMetrics:
    """A worker's count of what it has read."""

    def __init__(self, run: str) -> None:
        self._bytes = _Total(run, "spacex_bytes_read", "Bytes of pixels read, decoded")
        self._start = READ_STATS.total

    def update(self) -> None:
        """Export what was read since the last time."""
        self._bytes.set(READ_STATS.total - self._start)
