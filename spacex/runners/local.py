"""Mapping in this process: the very tile code of the cluster, without Ray."""

from __future__ import annotations

from collections.abc import Callable

from spacex.mapping.cube import TileTask
from spacex.mapping.ledger import Ledger
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.tile import TileReport
from spacex.mapping.worker import Job, open_pipeline


def run_local(
    job: Job,
    ledger: Ledger,
    *,
    on_report: Callable[[TileReport, bool], None],
    on_quarantine: Callable[[TileTask, str], None],
    on_tick: Callable[[int], None],
    open_pipeline: Callable[[Job], Pipeline] = open_pipeline,
) -> None:
    """Work through the ledger's tiles.

    Args:
        job: what to do.
        ledger: the tiles to do; filled in as they are finished.
        on_report: called with every report, and whether the tile is settled.
        on_quarantine: called when a tile is given up, with the reason.
        on_tick: called about once a second.
        open_pipeline: makes the pipeline; tests pass one with a fake source or network.
    """
    pipeline = open_pipeline(job)
    try:
        while not ledger.finished:
            while len(pipeline) < job.in_hand and (task := ledger.take()) is not None:
                pipeline.add(task)
            for report in pipeline.advance(patience=1.0):
                settled = ledger.settle(report)
                if report.task in ledger.quarantined:
                    on_quarantine(report.task, ledger.quarantined[report.task])
                on_report(report, settled)
            on_tick(1)
    finally:
        pipeline.close()
