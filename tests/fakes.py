"""Fakes of scenes and networks, and faults to inject: a run of which everything else is real.

Tiles, chips, blending, the cube, the queue and the runners are the real ones, so tests and benchmarks map thousands of
tiles, and meet the failures of a cluster, in seconds. Ray's workers import this module, so the folder of the tests must
be on their PYTHONPATH.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.attributor import ChipMaps, GeneratorOutput
from spacex.cube.store import Cube
from spacex.errors import TileError
from spacex.execution.jobs import Runner
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.grid import Window
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.request import MapRequest, area_window
from spacex.mapping.tile import TileInput
from spacex.mapping.worker import Job

Array = NDArray[np.float32]
FOREVER = 1e9
"""Seconds a hanging read sleeps."""


@dataclass(frozen=True)
class FaultInjection:
    """What goes wrong in a run of `fake_pipeline`."""

    seconds: float = 0.0
    """Every read takes this long."""
    fail: frozenset[TileTask] = frozenset()
    """Tiles whose read fails."""
    hang: frozenset[TileTask] = frozenset()
    """Tiles whose read never ends."""
    crash: frozenset[TileTask] = frozenset()
    """Tiles whose read ends the worker's process, as a crash in a C library does."""


@dataclass(frozen=True)
class FakeSource:
    """Reads ground that is a formula of the pixel's place on the global grid, so any tiling reads the same."""

    request: MapRequest
    bands: int = 3
    faults: FaultInjection = field(default_factory=FaultInjection)

    def read(self, task: TileTask) -> TileInput:
        """The tile, or the fault injected into it."""
        self._inject_fault(task)
        region = self.request.region
        window = area_window(region, region.tiling.window(task.row, task.col))
        padded_window = self.request.chips.padded(window)
        reflectance = ground(padded_window, self.bands, task.time)
        observations = np.ones(padded_window.shape, np.uint16)
        return TileInput(window, padded_window, reflectance, observations, [{"id": "fake"}])

    def _inject_fault(self, task: TileTask) -> None:
        if self.faults.seconds:
            time.sleep(self.faults.seconds)
        if task in self.faults.crash:
            os._exit(1)
        if task in self.faults.hang:
            time.sleep(FOREVER)
        if task in self.faults.fail:
            raise TileError("an injected failure", got=str(task))


def ground(window: Window, bands: int, step: int = 0) -> Array:
    """(bands, height, width) float32 reflectance in 0.02..0.22, without NaN: slanted waves of three lengths."""
    rows = np.arange(window.row, window.stop_row, dtype=np.float64)[:, None]
    cols = np.arange(window.col, window.stop_col, dtype=np.float64)[None, :]
    planes = [np.sin(rows / (17 + band) + step) * np.cos(cols / (29 + band)) for band in range(bands)]
    return (0.12 + 0.1 * np.stack(planes)).astype(np.float32)


class FakeNetworks:
    """Cheap maps and a score, which depend on a window's or chip's pixels and on nothing else."""

    whole_batches = False

    def generate(self, x: Array) -> Callable[[], GeneratorOutput]:
        """A local map; every pixel lowered by its mean over the bands."""
        mean = x.mean(axis=1)
        plain = {"attribution": np.abs(x[:, 0] - mean)}
        found = GeneratorOutput(plain, np.broadcast_to(-mean[:, None], x.shape))
        return lambda: found

    def classify(
        self, x: Array, delta_minus: Array | None = None, delta_plus: Array | None = None
    ) -> Callable[[], ChipMaps]:
        """A map of the chip and of what was lowered, and a score."""
        mean = x.mean(axis=1)
        lift = mean * (mean if delta_minus is None else -delta_minus.mean(axis=1))
        score = 1.0 / (1.0 + np.exp(-40.0 * (mean.mean(axis=(1, 2)) - 0.12)))
        unlike = mean.std(axis=(1, 2)) / 0.05
        return lambda: ChipMaps({"lift": lift}, score.astype(np.float32), unlike.astype(np.float32))

    def attribute(self, x: Array) -> Callable[[], ChipMaps]:
        """All of it on chips alone."""
        change = self.generate(x)()
        classified = self.classify(x, change.delta_minus)()
        return lambda: ChipMaps({**classified.maps, **change.maps}, classified.score, classified.dissimilarity)


@dataclass(frozen=True)
class FakePipeline:
    """Opens a worker's pipeline with the fakes above."""

    faults: FaultInjection = field(default_factory=FaultInjection)

    def __call__(self, job: Job) -> Pipeline:
        """The pipeline of one worker."""
        source = FakeSource(job.request, faults=self.faults)
        options = {"readers": job.concurrent_reads, "time_limit": job.time_limit}
        return Pipeline(source.read, FakeNetworks(), Cube(job.output), job.request.chips, **options)


class JobWithPipeline(Job):
    """A map job that opens a pipeline of the test's own."""

    make_pipeline: Any

    def open(self) -> Any:
        """What `make_pipeline` makes of the job."""
        return self.make_pipeline(self)


def with_pipeline(runner: Runner, make_pipeline: Callable[[Job], Any] | None = None) -> Runner:
    """A runner whose workers open pipelines with `make_pipeline`, a picklable function; by default fake ones."""
    return partial(_run_with_pipeline, runner, make_pipeline or FakePipeline())


def _run_with_pipeline(
    runner: Runner, make_pipeline: Callable[[Job], Any], job: Job, queue: TaskQueue, on_tick: Callable[[int], None]
) -> None:
    runner(JobWithPipeline(**dict(job), make_pipeline=make_pipeline), queue, on_tick)


class IdlePipeline:
    """Reports every tile as done at once and writes nothing: what is left of a run is its driver."""

    def __init__(self, job: Job) -> None:
        self._tasks: list[TileTask] = []
        self._worker = f"idle:{os.getpid()}"

    def add(self, task: TileTask) -> None:
        """Take on a tile."""
        self._tasks.append(task)

    def __len__(self) -> int:
        """Tiles added and not yet reported."""
        return len(self._tasks)

    def advance(self, timeout: float = 0.0) -> list[TileReport]:
        """Report every tile taken on."""
        tasks, self._tasks = self._tasks, []
        seconds = {"reading": 0.0, "computing": 0.0, "writing": 0.0}
        return [TileReport(task, Status.DONE, seconds=dict(seconds), worker=self._worker) for task in tasks]

    def close(self) -> None:
        """Nothing to let go of."""
