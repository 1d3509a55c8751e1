"""The line of a worker: read ahead, work on the bench, write, report.

One line lives in every worker, be it this process or a Ray actor. Threads read tiles ahead of the bench and write
them behind it; the thread that calls `advance` does nothing but what the bench computes.

A tile that cannot be read or written comes back as a report with status *failed*: a bad tile is data. An
error of the bench itself is raised: the worker is broken.
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
from spacex.execution.threads import Tidy, in_daemon_thread, share_arenas

Result = TypeVar("Result")
Read = TypeVar("Read")
Read_co = TypeVar("Read_co", covariant=True)


class Made(Protocol):
    """A tile that is ready to be written."""

    task: TileTask


MadeT = TypeVar("MadeT", bound=Made)


class Source(Protocol[Read_co]):
    """Where a tile's pixels come from. Called from several threads at once."""

    def read(self, task: TileTask) -> Read_co:
        """Read the tile; raise anything if that fails."""


class Workbench(Protocol[MadeT]):
    """Where tiles lie between reading and writing."""

    def __len__(self) -> int:
        """Tiles on the bench."""

    @property
    def hungry(self) -> bool:
        """True if there is nothing to compute before another tile has been read."""

    def compute(self, *, flush: bool) -> bool:
        """Do some work, with `flush` also what would rather wait for more; False if there was nothing to do."""

    def complete(self) -> list[MadeT]:
        """Take the complete tiles off the bench."""


class TilePipeline(ABC, Generic[Read, MadeT]):
    """Tiles in, reports out.

    Args:
        source: reads tiles.
        bench: works on what was read.
        readers: tiles read at the same time, ahead of the bench.
        time_limit: seconds after which the read of a tile, or its write, is given up.
    """

    def __init__(
        self, source: Source[Read], bench: Workbench[MadeT], *, readers: int = 2, time_limit: float = 900.0
    ) -> None:
        self._source, self._bench = source, bench
        self._readers, self._time_limit = readers, time_limit
        share_arenas()
        self._tidy = Tidy()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._queue: deque[TileTask] = deque()
        self._reading: dict[Future[tuple[Read, float]], tuple[TileTask, float]] = {}
        self._to_write: deque[MadeT] = deque()
        self._writing: dict[Future[TileReport], tuple[TileTask, float]] = {}

    @abstractmethod
    def _put(self, task: TileTask, read: Read, seconds: float) -> None:
        """Put a tile that has been read, in so many seconds, on the bench."""

    @abstractmethod
    def _write(self, tile: MadeT) -> TileReport:
        """Write a complete tile (in the writer's thread)."""

    def add(self, task: TileTask) -> None:
        """Queue a tile; reading starts as soon as a reader is free."""
        self._queue.append(task)
        self._read_ahead()

    def __len__(self) -> int:
        """Tiles added and not yet reported."""
        under_way: tuple[Sized, ...] = (self._queue, self._reading, self._bench, self._to_write, self._writing)
        return sum(len(stage) for stage in under_way)

    def advance(self, patience: float = 3600.0) -> list[TileReport]:
        """Work until at least one tile is finished, and report it; nothing if no tile is under way.

        Args:
            patience: seconds after which to come back even without a report, if nothing can be computed.
        """
        reports: list[TileReport] = []
        until = time.monotonic() + patience
        while len(self) and not reports and time.monotonic() < until:
            self._read_ahead()
            reports += self._take_reads(block=self._bench.hungry)
            # a batch that nothing can fill any more must not wait for it
            busy = self._bench.compute(flush=not self._reading)
            self._to_write.extend(self._bench.complete())
            self._write_next()
            reports += self._take_writes(block=not busy and not self._reading)
        self._tidy()
        return reports

    def close(self) -> None:
        """Let the tile being written finish; forget the rest."""
        self._queue.clear()
        self._to_write.clear()
        wait(self._writing, timeout=self._time_limit)

    def _read_ahead(self) -> None:
        # tiles read but not yet through the bench count too: they are what fills the memory
        while self._queue and len(self._reading) + len(self._bench) < self._readers + 1:
            task = self._queue.popleft()
            self._reading[in_daemon_thread(partial(_timed, partial(self._source.read, task)))] = (
                task,
                time.monotonic(),
            )

    def _take_reads(self, *, block: bool) -> list[TileReport]:
        reports = []
        for future in _finished(self._reading, timeout=0.2 if block else 0):
            task, _ = self._reading.pop(future)
            try:
                self._put(task, *future.result())
            except Exception as error:
                reports.append(self._failed(task, "read", error))
        return reports + self._give_up_overdue(self._reading, "read")

    def _write_next(self) -> None:
        # one at a time: threads that write together would only share the same disk and hold more tiles
        if self._to_write and not self._writing:
            tile = self._to_write.popleft()
            future = in_daemon_thread(lambda: self._write(tile))
            self._writing[future] = tile.task, time.monotonic()

    def _take_writes(self, *, block: bool) -> list[TileReport]:
        reports = []
        for future in _finished(self._writing, timeout=0.2 if block else 0):
            task, _ = self._writing.pop(future)
            try:
                reports.append(future.result())
            except Exception as error:
                reports.append(self._failed(task, "write", error))
        reports += self._give_up_overdue(self._writing, "write")
        self._write_next()
        return reports

    def _give_up_overdue(self, under_way: dict[Future[Any], tuple[TileTask, float]], stage: str) -> list[TileReport]:
        """Report what has taken too long. Its thread cannot be stopped; should it end after all, that is harmless."""
        limit = time.monotonic() - self._time_limit
        overdue = [future for future, (_, begun) in under_way.items() if begun < limit]
        late = TimeoutError(f"no end after {self._time_limit:.0f} s")
        return [self._failed(under_way.pop(future)[0], stage, late) for future in overdue]

    def _failed(self, task: TileTask, stage: str, error: BaseException) -> TileReport:
        return TileReport(
            task,
            Status.FAILED,
            f"{stage}: {type(error).__name__}: {error}".replace("\n", " "),
            worker=self._worker,
        )


def _finished(futures: dict[Future[Any], Any], timeout: float) -> list[Future[Any]]:
    if not futures:
        return []
    done = wait(list(futures), timeout=timeout, return_when=FIRST_COMPLETED).done
    return [future for future in futures if future in done]


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun
