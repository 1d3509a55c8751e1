"""Pipeline of a worker: prefetches tiles, computes them in batches, writes results and reports what became of each.

Every worker, be it this process or a Ray actor, holds one pipeline. Its own threads read tiles ahead of the compute
stage and write them behind it; the thread that calls `advance` only computes.

A tile that cannot be read or written comes back as a report with status *failed*, since a bad tile is data. An error
of the compute stage is raised, since it means that the worker is broken.
"""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.execution.threads import MemoryTrimmer, run_in_daemon_thread, share_arenas

Read = TypeVar("Read")
POLL_S = 0.2
"""Seconds to wait for a read or a write before looking at the other stages again."""


class Computed(Protocol):
    """A tile that is ready to be written."""

    task: TileTask


ComputedT = TypeVar("ComputedT", bound=Computed)


class ComputeStage(Protocol[ComputedT]):
    """Holds tiles between reading and writing, and computes them."""

    def __len__(self) -> int:
        """Tiles in the stage."""

    @property
    def needs_input(self) -> bool:
        """True if there is nothing to compute before another tile has been read."""

    def compute(self, *, flush: bool) -> bool:
        """Do some work, with `flush` also on a batch that is not full; False if there was nothing to do."""

    def pop_completed(self) -> list[ComputedT]:
        """Remove and return the tiles that are completely computed."""


class TilePipeline(ABC, Generic[Read, ComputedT]):
    """Takes tile names and returns reports.

    Args:
        read: reads a tile; called from several threads at once.
        stage: computes what was read.
        readers: tiles read at the same time, ahead of the stage.
        time_limit: seconds after which the read or the write of a tile is abandoned.
    """

    def __init__(
        self, read: Callable[[TileTask], Read], stage: ComputeStage[ComputedT], *, readers: int, time_limit: float
    ) -> None:
        self._read, self._stage, self._readers, self._time_limit = read, stage, readers, time_limit
        share_arenas()
        self._trim_memory = MemoryTrimmer()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._queue: deque[TileTask] = deque()
        # the tile and the time.monotonic() of its start, by future
        self._reading: dict[Future[tuple[Read, float]], tuple[TileTask, float]] = {}
        self._to_write: deque[ComputedT] = deque()
        self._writing: dict[Future[TileReport], tuple[TileTask, float]] = {}

    @abstractmethod
    def _submit(self, task: TileTask, read: Read, seconds: float) -> None:
        """Give the stage a tile that was read in so many seconds."""

    @abstractmethod
    def _write(self, tile: ComputedT) -> TileReport:
        """Write a computed tile; called in the writer's thread."""

    def add(self, task: TileTask) -> None:
        """Queue a tile; reading starts as soon as a reader is free."""
        self._queue.append(task)
        self._read_ahead()

    def __len__(self) -> int:
        """Tiles added and not yet reported."""
        stages: tuple[Sized, ...] = (self._queue, self._reading, self._stage, self._to_write, self._writing)
        return sum(map(len, stages))

    def advance(self, timeout: float = 3600.0) -> list[TileReport]:
        """Work until at least one tile is finished, and return the reports.

        Args:
            timeout: seconds after which to return without a report if nothing can be computed.
        """
        reports: list[TileReport] = []
        until = time.monotonic() + timeout
        while len(self) and not reports and time.monotonic() < until:
            self._read_ahead()
            # wait for a read only where the stage could do nothing meanwhile
            wait_s = POLL_S if self._stage.needs_input else 0.0
            reports += self._collect(self._reading, "read", wait_s, lambda task, read: self._submit(task, *read))
            # when no read is under way, nothing can fill up the last batch, so it is computed as it is
            busy = self._stage.compute(flush=not self._reading)
            self._to_write.extend(self._stage.pop_completed())
            self._write_next()
            wait_s = 0.0 if busy or self._reading else POLL_S
            reports += self._collect(self._writing, "write", wait_s, lambda task, report: report)
            self._write_next()
        self._trim_memory()
        return reports

    def close(self) -> None:
        """Let the tile being written finish; forget the rest."""
        self._queue.clear()
        self._to_write.clear()
        wait(self._writing, timeout=self._time_limit)

    def _read_ahead(self) -> None:
        # tiles in the stage count too, since they are what fills the memory
        while self._queue and len(self._reading) + len(self._stage) < self._readers + 1:
            task = self._queue.popleft()
            self._reading[run_in_daemon_thread(partial(self._read_timed, task))] = task, time.monotonic()

    def _read_timed(self, task: TileTask) -> tuple[Read, float]:
        begun = time.perf_counter()
        return self._read(task), time.perf_counter() - begun

    def _write_next(self) -> None:
        # one at a time: several writers would share the same disk and hold more tiles in memory
        if self._to_write and not self._writing:
            tile = self._to_write.popleft()
            self._writing[run_in_daemon_thread(partial(self._write, tile))] = tile.task, time.monotonic()

    def _collect(
        self,
        running: dict[Future[Any], tuple[TileTask, float]],
        action: str,
        wait_s: float,
        on_result: Callable[[TileTask, Any], TileReport | None],
    ) -> list[TileReport]:
        """Pass on what has ended; report what has failed or takes too long."""
        done = wait(running, timeout=wait_s, return_when=FIRST_COMPLETED).done if running else ()
        reports, latest = [], time.monotonic() - self._time_limit
        for future, (task, begun) in list(running.items()):
            if future not in done and begun >= latest:
                continue
            del running[future]
            try:
                if future not in done:
                    # its thread cannot be stopped; it does no harm if it ends after all
                    raise TimeoutError(f"no end after {self._time_limit:.0f} s")
                report = on_result(task, future.result())
            except Exception as error:
                reason = f"{action}: {type(error).__name__}: {error}".replace("\n", " ")
                report = TileReport(task, Status.FAILED, reason, worker=self._worker)
            if report is not None:
                reports.append(report)
        return reports
