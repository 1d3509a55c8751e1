"""The tile pipeline: read ahead, cut, compute in full batches across tiles, blend, write, report.

One `Pipeline` lives in every worker, be it this process or a Ray actor. Threads read tiles ahead of the
network and write them behind it; the thread that calls `advance` does nothing but run the network. Chips on
the border of two tiles are computed once if the same worker meets both tiles soon enough.

A tile that cannot be read or written comes back as a report with status *failed*: a bad tile is data. An
error of the network itself is raised: the worker is broken.
"""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.patterns import ChipMaps
from spacex.grid import Window, chip_windows
from spacex.mapping.chips import cut
from spacex.mapping.cube import Status, TileTask
from spacex.mapping.threads import in_daemon_thread, share_arenas
from spacex.mapping.tile import (
    ChipResult,
    ChipSettings,
    Network,
    TileInput,
    TileReport,
    TileSink,
    TileSource,
    blend_tile,
)

Array = NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(eq=False)
class _Tile:
    """A tile under way: read, waiting for chips, or being written."""

    task: TileTask
    input: TileInput
    chips: list[Window]
    results: dict[Window, ChipResult] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    computed: int = 0

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.chips)


@dataclass(eq=False)
class _Chip:
    """A chip waiting for its turn, and the tiles waiting for it."""

    time: int
    window: Window
    pixels: Array
    tiles: list[_Tile]


class Pipeline:
    """Tiles in, reports out.

    Args:
        source: reads tiles.
        network: attributes a batch of chips.
        sink: writes tiles.
        settings: stride, frame, batch.
        display: positions, in the reflectance's bands, of those kept in the overviews' composite.
        readers: tiles read at the same time, ahead of the network.
        time_limit: seconds after which the read of a tile, or its write, is given up.
    """

    RECENT = 64
    """Chip results kept for the neighbouring tile, about 0.5 MB each."""

    def __init__(
        self,
        source: TileSource,
        network: Network,
        sink: TileSink,
        settings: ChipSettings,
        *,
        display: Sequence[int] = (0,),
        readers: int = 2,
        time_limit: float = 900.0,
    ) -> None:
        self._source, self._network, self._sink, self._settings = source, network, sink, settings
        self._display, self._readers, self._time_limit = list(display), readers, time_limit
        share_arenas()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._queue: deque[TileTask] = deque()
        self._reading: dict[Future[tuple[TileInput, float]], tuple[TileTask, float]] = {}
        self._waiting: deque[_Chip] = deque()
        self._computing: list[_Tile] = []
        self._recent: OrderedDict[tuple[int, Window], ChipResult] = OrderedDict()
        self._to_write: deque[_Tile] = deque()
        self._writing: dict[Future[TileReport], tuple[TileTask, float]] = {}

    def add(self, task: TileTask) -> None:
        """Queue a tile; reading starts as soon as a reader is free."""
        self._queue.append(task)
        self._read_ahead()

    def __len__(self) -> int:
        """Tiles added and not yet reported."""
        under_way = (self._queue, self._reading, self._computing, self._to_write, self._writing)
        return sum(map(len, under_way))

    def advance(self, patience: float = 3600.0) -> list[TileReport]:
        """Work until at least one tile is finished, and report it; nothing if no tile is under way.

        Args:
            patience: seconds after which to come back even without a report, if nothing can be computed.
        """
        reports: list[TileReport] = []
        until = time.monotonic() + patience
        while len(self) and not reports and time.monotonic() < until:
            self._read_ahead()
            reports += self._take_reads(block=len(self._waiting) < self._settings.batch)
            last_chips = not self._reading and not self._queue
            if len(self._waiting) >= self._settings.batch or (self._waiting and last_chips):
                self._compute()
            reports += self._take_writes(block=last_chips and not self._waiting)
        return reports

    def close(self) -> None:
        """Let the tile being written finish; forget the rest."""
        self._queue.clear()
        self._to_write.clear()
        wait(self._writing, timeout=self._time_limit)

    def _read_ahead(self) -> None:
        # tiles read but not yet through the network count too: they are what fills the memory
        while self._queue and len(self._reading) + len(self._computing) < self._readers + 1:
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
                tile_input, seconds = future.result()
                self._open(task, tile_input, seconds)
            except Exception as error:
                reports.append(self._failed(task, "read", error))
        return reports + self._give_up_overdue(self._reading, "read")

    def _open(self, task: TileTask, read: TileInput, seconds: float) -> None:
        """Cut a tile that has been read and queue its chips."""
        wanted = [
            chip
            for chip in chip_windows(read.core, self._settings.stride)
            if self._sink.inside(chip.intersect(read.core)).any()
        ]
        cuts = cut(read.reflectance, read.around, wanted, self._settings.min_valid)
        tile = _Tile(task, read, [chip.window for chip in cuts], seconds={"reading": seconds})
        under_way = {(chip.time, chip.window): chip for chip in self._waiting}
        for chip in cuts:
            key = task.time, chip.window
            if key in self._recent:
                tile.results[chip.window] = self._recent[key]
            elif key in under_way:
                under_way[key].tiles.append(tile)
            else:
                tile.computed += 1
                self._waiting.append(_Chip(task.time, chip.window, chip.pixels, [tile]))
        self._computing.append(tile)
        self._write_complete()

    def _compute(self) -> None:
        size = self._settings.batch
        chips = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        pixels = [chip.pixels for chip in chips]
        padded = pixels + pixels[-1:] * (size - len(pixels))
        begun = time.perf_counter()
        found = self._network(np.stack(padded))
        seconds = (time.perf_counter() - begun) / len(chips)
        for index, chip in enumerate(chips):
            result = ChipResult(_maps_of(found, index), float(found.score[index]))
            self._recent[chip.time, chip.window] = result
            for tile in chip.tiles:
                tile.results[chip.window] = result
            chip.tiles[0].seconds["computing"] = chip.tiles[0].seconds.get("computing", 0.0) + seconds
        while len(self._recent) > self.RECENT:
            self._recent.popitem(last=False)
        self._write_complete()

    def _write_complete(self) -> None:
        for tile in [tile for tile in self._computing if tile.complete]:
            self._computing.remove(tile)
            self._to_write.append(tile)
        self._write_next()

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

    def _write(self, tile: _Tile) -> TileReport:
        """Blend and write one tile (in the writer's thread)."""
        begun = time.perf_counter()
        maps = blend_tile(tile.input, self._sink, tile.task, tile.results, self._settings, self._display)
        status = Status.DONE if np.isfinite(maps.maps["naturalness"]).any() else Status.NO_DATA
        self._sink.write(tile.task, maps)
        tile.seconds["writing"] = time.perf_counter() - begun
        seconds = {name: round(value, 3) for name, value in tile.seconds.items()}
        provenance = {
            "scenes": tile.input.scenes,
            "seconds": seconds,
            "chips": tile.computed,
            "worker": self._worker,
        }
        self._sink.finish(tile.task, status, provenance)
        scenes = sum(scene.get("used_share", 1) > 0 for scene in tile.input.scenes)
        return TileReport(tile.task, status, "", seconds, tile.computed, scenes, tile.input.fetched, self._worker)

    def _failed(self, task: TileTask, stage: str, error: BaseException) -> TileReport:
        return TileReport(
            task,
            Status.FAILED,
            f"{stage}: {type(error).__name__}: {error}".replace("\n", " "),
            worker=self._worker,
        )


def _maps_of(found: ChipMaps, index: int) -> dict[str, Array]:
    pairs = (("attribution", found.attribution), ("path_attribution", found.path_attribution))
    return {name: values[index].copy() for name, values in pairs if values is not None}


def _finished(futures: dict[Future[Any], Any], timeout: float) -> list[Future[Any]]:
    if not futures:
        return []
    done = wait(list(futures), timeout=timeout, return_when=FIRST_COMPLETED).done
    return [future for future in futures if future in done]


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun
