"""Execute a plan: lock the output, create, resume or extend the cube, run the tiles, write the reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spacex.cube.extend import extend_cube
from spacex.cube.overviews import hide_levels, make_overviews
from spacex.cube.store import Cube, create_cube
from spacex.cube.verify import mark_damaged
from spacex.execution.driver import RunOutcome, run_tiles
from spacex.execution.jobs import Runner
from spacex.execution.lock import OutputLock
from spacex.execution.progress import ProgressLog
from spacex.execution.report import write_outputs
from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.estimate import tiles_geojson
from spacex.mapping.extend_request import covers, newly_left_out
from spacex.mapping.plan import Plan, refresh
from spacex.mapping.request import MapRequest
from spacex.mapping.worker import Job
from spacex.model_card import Card
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_list import save_scenes, scenes_by_interval
from spacex.storage import run_folder, write_text

__all__ = ["LICENSE", "Outcome", "Runner", "describe", "execute", "run_folder"]

LICENSE = "CC-BY-4.0"
"""Of the maps, unless told otherwise."""


@dataclass(frozen=True)
class Outcome(RunOutcome):
    """What a run of a map came to."""

    cube: Cube

    @property
    def chips(self) -> int:
        """Chips the networks ran."""
        return self.stats.chips


def execute(
    plan: Plan,
    runner: Runner,
    *,
    on_start: Callable[[ProgressLog], None] = lambda log: None,
    estimate: dict[str, Any] | None = None,
    license: str = LICENSE,
    verify: bool = False,
    **worker: Any,
) -> Outcome:
    """Lock the cube, create or resume it, and run the tiles that are left.

    Nothing is written before the cube is locked (`spacex.execution.lock`), and its statuses are read again then.

    Args:
        plan: from `spacex.mapping.plan.make_plan`.
        runner: who does the work.
        on_start: called with the progress log before the first tile.
        estimate: hours expected (`spacex.mapping.estimate.estimate`), for the report to compare with.
        license: of a new cube's maps, an SPDX identifier.
        verify: whether to read the whole cube first and do damaged tiles again (`spacex.cube.verify`).
        worker: further fields of `Job`: readers, time_limit, threads, device.

    Raises:
        CubeError: if the output cannot be written, or another run holds it.
        SpacexError: if the work itself cannot go on; the finished tiles are safe.
    """
    folder = run_folder(plan.output)
    with OutputLock(folder) as lock:
        plan = refresh(plan)
        if verify and plan.cube is not None and mark_damaged(plan.cube):
            plan = refresh(plan)
        cube = _open_cube(plan, license)

        def on_quarantine(task: TileTask, reason: str, tries: int) -> None:
            cube.finish(task, Status.FAILED, {"reason": reason, "tries": tries})

        if plan.todo:
            hide_levels(cube)
        outcome = run_tiles(
            _job(plan, worker),
            plan.todo,
            runner,
            folder=folder,
            lock=lock,
            earlier=plan.counts,
            items_left_out=plan.left_out,
            activity="mapping",
            on_start=on_start,
            on_quarantine=on_quarantine,
            on_end=lambda log: make_overviews(cube, log.set_stage),
            write_reports=lambda stats, state: _write_reports(plan, cube, stats, state, estimate),
        )
    return Outcome(**vars(outcome), cube=cube)


def _open_cube(plan: Plan, license: str) -> Cube:
    """The cube with room for the whole request: created, extended, or as it is; and its scene list beside it."""
    card, request, cube = plan.checkpoint.card, plan.request, plan.cube
    if cube is not None and newly_left_out(cube, request):
        # tiles are pending before the cube says that it has none of the items; their scenes are known last
        cube.mark(plan.statuses)
        cube.remake(request.model_dump(mode="json"), plan.fingerprint)
    extended = cube is None or not covers(cube, request)
    list_of_scenes = f"{run_folder(plan.output)}/scenes.gz"
    # a cube may have been copied without its run folder, and a run killed before it took an item off the list
    if extended or request.leave_out or None in scenes_by_interval(list_of_scenes, request.intervals):
        save_scenes(list_of_scenes, plan.scenes, request.intervals, plan.left_out)
    if cube is None:
        cube = create_cube(plan.output, request.spec(card), plan.fingerprint, describe(request, card, license))
        if (plan.statuses == Status.OUTSIDE).any():
            cube.mark(plan.statuses)
        return cube
    if extended:
        return extend_cube(cube, request.spec(card), request.model_dump(mode="json"), plan.statuses)
    return cube


def _job(plan: Plan, worker: dict[str, Any]) -> Job:
    return Job(
        request=plan.request,
        output=plan.output,
        scenes=f"{run_folder(plan.output)}/scenes.gz",
        checkpoint=plan.checkpoint.uri,
        trust=plan.checkpoint.trust,
        **worker,
    )


def _write_reports(
    plan: Plan, cube: Cube, stats: RunStats, state: str, estimate: dict[str, Any] | None
) -> dict[str, str]:
    """Write report, tiles and STAC description, also on interruption; gives those that failed, with reasons."""
    # matplotlib takes a moment to import, which a plan need not wait for
    from spacex.cube.stac import describe_cube
    from spacex.mapping.report import render

    report, tiles = (f"{run_folder(plan.output)}/{name}" for name in ("report.html", "tiles.geojson"))
    return write_outputs(
        {
            "report": lambda: write_text(report, render(plan, cube, stats, state, estimate)),
            "tiles": lambda: write_text(tiles, json.dumps(tiles_geojson(plan.request, cube.statuses()))),
            "STAC description": lambda: describe_cube(cube),
        }
    )


def describe(request: MapRequest, card: Card, license: str = LICENSE) -> dict[str, Any]:
    """The cube's own account of how it was made: root attributes besides the geographic ones."""
    about = {"target": f"{card.target}: the class that naturalness scores and the maps explain"} if card.target else {}
    return {
        **about,
        "title": "What makes land look natural: attribution from maximised and minimised Sentinel-2 chips",
        "institution": "made with SpacEX",
        "source": request.source,
        "license": license,
        "references": "Emam, Stomberg & Roscher 2024, IEEE GRSL; Shrikumar et al. 2017, ICML (lift); "
        "Sundararajan et al. 2017, ICML (path attribution)",
        "spacex_code": code_digest(),
        "request": request.model_dump(mode="json"),
        "checkpoint": card.model_dump(mode="json", exclude={"metrics", "training"}),
    }
