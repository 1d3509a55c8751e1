"""What runners know of a job: settings that travel to the workers, and how a worker is opened there.

A map is one kind of job (`spacex.mapping.worker.Job`), a set of chips another
(`spacex.dataset_building.worker.ChipJob`). Runners, ledger, progress and reports are the same for all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from pydantic import Field

from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import TileReport, TileTask
from spacex.settings import Settings

CPU_READERS = 2
"""Tiles to read at once where the networks run on a CPU: a tile of 105 km2 takes a reader some 2 s and the networks
several times that, so one would keep up; the second covers a slow host."""
GPU_READERS = 6
"""The same beside a GPU, which is done with a tile sooner than its files' hosts have answered. Each holds a window
of at most 1,536 pixels a side in the making, some 100 MiB."""


class TileWorker(Protocol):
    """Tiles in, reports out: `spacex.execution.pipeline.TilePipeline`."""

    def add(self, task: TileTask) -> None:
        """Take on a tile."""

    def __len__(self) -> int:
        """Tiles added and not yet reported."""

    def advance(self, timeout: float) -> list[TileReport]:
        """Work until a tile is finished, `timeout` seconds at most if there is nothing to compute."""

    def close(self) -> None:
        """Let what is being written finish; forget the rest."""


class AnyJob(Settings):
    """A job as it travels to the workers: names and settings, no pixels and no weights."""

    readers: int | None = Field(None, ge=1)
    """Tiles read ahead at the same time; None: `CPU_READERS`, on a GPU `GPU_READERS`."""
    time_limit: float = 900.0
    """Seconds a tile's read may take."""
    threads: int | None = None
    """Windows or chips in the networks at the same time, a processor's thread for each; None: as many as PyTorch takes
    threads."""
    device: str = "cpu"
    """Where the networks run."""

    @property
    def reading(self) -> int:
        """Tiles read ahead at the same time."""
        return self.readers or (CPU_READERS if self.device == "cpu" else GPU_READERS)

    @property
    def in_hand(self) -> int:
        """Tiles a worker holds: those being read, one computed, one written."""
        return self.reading + 2

    @abstractmethod
    def open(self) -> TileWorker:
        """Make the worker: everything slow that happens once in its process."""


def opened(job: AnyJob) -> TileWorker:
    """The job's own worker."""
    return job.open()


class Runner(Protocol):
    """Works through a ledger: `spacex.execution.local.run_local` or `spacex.execution.ray_actors.run_ray`."""

    def __call__(
        self,
        job: Any,
        ledger: TaskQueue,
        *,
        on_report: Callable[[TileReport, bool], None],
        on_quarantine: Callable[[TileTask, str], None],
        on_tick: Callable[[int], None],
    ) -> None:
        """Run until the ledger is finished.

        Args:
            job: what to do, an `AnyJob`.
            ledger: the tiles to do; filled in as they are settled.
            on_report: called with every report, and whether its tile is settled.
            on_quarantine: called when a tile is given up, with the reason.
            on_tick: called a few times a second with the number of workers alive.
        """
