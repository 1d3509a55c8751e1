"""Tile jobs: settings that travel to the workers and open a pipeline there, and the runners that work them off.

A map is one kind of job, a data set of chips another; queue, progress and reports are the same for all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from pydantic import Field

from spacex.execution.pipeline import TilePipeline
from spacex.execution.task_queue import TaskQueue
from spacex.settings import Settings

CPU_READERS = 2
"""Tiles read at once where networks run on a CPU: a tile of 105 km2 takes a reader some 2 s and the networks several
times that, so one would keep up; the second covers a slow host."""
GPU_READERS = 6
"""The same beside a GPU, which computes a tile faster than the hosts of its files answer. Each reader holds a window
of at most 1,536 pixels a side while it is composited, some 100 MiB."""


class TileJob(Settings):
    """A job as it travels to the workers: names and settings, no pixels and no weights."""

    output: str
    """URI of what is made, begun before the first worker starts."""
    readers: int | None = Field(None, ge=1)
    """Tiles read ahead at the same time; None: `CPU_READERS`, on a GPU `GPU_READERS`."""
    time_limit: float = 900.0
    """Seconds the read of a tile may take."""
    threads: int | None = None
    """CPU threads of the networks; each computes one window or chip at a time. None: `torch.get_num_threads()`."""
    device: str = "cpu"
    """PyTorch device of the networks."""

    @property
    def concurrent_reads(self) -> int:
        """Tiles read ahead at the same time."""
        return self.readers or (CPU_READERS if self.device == "cpu" else GPU_READERS)

    @property
    def tiles_per_worker(self) -> int:
        """Tiles a worker holds: those being read, one computed, one written."""
        return self.concurrent_reads + 2

    @property
    def paths(self) -> list[str]:
        """URIs of what is there before the first worker starts, and must be seen by all of them."""
        return []

    @abstractmethod
    def open(self) -> TilePipeline[Any, Any]:
        """Make a worker's pipeline, with everything slow that happens once in its process."""


Runner = Callable[[Any, TaskQueue, Callable[[int], None]], None]
"""Works through the tiles of a queue: `spacex.execution.local.run_local` or `spacex.execution.ray_actors.run_ray`.

Its arguments are the `TileJob`, the queue, and a function to call a few times a second with the number of live workers.
"""
