"""Working in this process: the very tile code of the cluster, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spacex.execution.jobs import TileWorker, opened
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import TileReport, TileTask


def run_local(
    job: Any,
    ledger: TaskQueue,
    *,
    on_report: Callable[[TileReport, bool], None],
    on_quarantine: Callable[[TileTask, str], None],
    on_tick: Callable[[int], None],
    open_pipeline: Callable[[Any], TileWorker] = opened,
) -> None:
    """Work through the ledger's tiles.

    Args:
        job: what to do, an `AnyJob`.
        ledger: the tiles to do; filled in as they are finished.
        on_report: called with every report, and whether the tile is settled.
        on_quarantine: called when a tile is given up, with the reason.
        on_tick: called about once a second.
        open_pipeline: makes the worker; tests pass one with a fake source or network.
    """
    pipeline = open_pipeline(job)
    try:
        while not ledger.finished:
            while len(pipeline) < job.in_hand and (task := ledger.take()) is not None:
                pipeline.add(task)
            for report in pipeline.advance(timeout=1.0):
                settled = ledger.settle(report)
                if report.task in ledger.quarantined:
                    on_quarantine(report.task, ledger.quarantined[report.task])
                on_report(report, settled)
            on_tick(1)
    finally:
        pipeline.close()
