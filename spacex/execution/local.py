"""Runner that works in this process: the pipeline of a cluster's worker, without Ray."""

from __future__ import annotations

from collections.abc import Callable

from spacex.execution.jobs import TileJob
from spacex.execution.task_queue import TaskQueue


def run_local(job: TileJob, queue: TaskQueue, on_tick: Callable[[int], None]) -> None:
    """Work through the queue's tiles.

    Args:
        job: what to do.
        queue: the tiles; told what becomes of them.
        on_tick: called about once a second.
    """
    pipeline = job.open()
    try:
        while not queue.finished:
            while len(pipeline) < job.tiles_per_worker and (task := queue.take()) is not None:
                pipeline.add(task)
            for report in pipeline.advance(timeout=1.0):
                queue.complete(report)
            on_tick(1)
    finally:
        pipeline.close()
