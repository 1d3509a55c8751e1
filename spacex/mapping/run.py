"""The whole of a mapping run, as the driver sees it: plan, create or resume the cube, run, say what came out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spacex.attribution.lift import check_lift
from spacex.checkpoint import SHIPPED, Checkpoint
from spacex.cube.overviews import make_overviews, withdraw
from spacex.cube.store import Cube, check_format, create_cube, read_attributes
from spacex.errors import RequestError
from spacex.execution.driver import run_tiles
from spacex.execution.jobs import Runner
from spacex.execution.lock import OutputLock
from spacex.execution.progress import ProgressLog
from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.estimate import tiles_geojson
from spacex.mapping.extend import check_not_replaced, fits, make_room, reconcile
from spacex.mapping.plan import Plan, make_plan, refresh
from spacex.mapping.report import render
from spacex.mapping.request import MapRequest
from spacex.mapping.verify import mark_damaged
from spacex.mapping.worker import Job
from spacex.model_card import Card
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_list import known_scenes, save_scenes
from spacex.storage import run_folder, write_text

__all__ = ["LICENSE", "Outcome", "Runner", "describe", "execute", "prepare", "run_folder"]

logger = logging.getLogger(__name__)

LICENSE = "CC-BY-4.0"
"""Of the maps, unless told otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    cube: Cube
    quarantined: dict[TileTask, str]
    """Tiles given up, with reasons; the same command tries them again."""
    seconds: float
    """Wall-clock seconds of the run."""
    chips: int
    """Chips the networks ran."""

    @property
    def complete(self) -> bool:
        """True if every tile is done or has no data."""
        return not self.quarantined


def prepare(request: MapRequest, output: str, checkpoint: Checkpoint, *, grow: bool = False) -> tuple[Plan, str]:
    """Plan a request; gives the plan and the fingerprint. Writes nothing.

    Args:
        request: what was asked for.
        output: URI of the cube; it may exist.
        checkpoint: the networks.
        grow: whether an existing cube may take further time steps and land (`spacex.mapping.extend`).

    Raises:
        RequestError: if the request cannot be carried out.
    """
    if not output.rstrip("/").endswith(".zarr"):
        raise RequestError("the output's name", got=output, expected="a path or URI ending in .zarr")
    if "lift" in request.chips.maps:
        check_lift(checkpoint.classifier, len(checkpoint.card.bands), checkpoint.card.chip_size)
    fingerprint = request.fingerprint(checkpoint)
    found = read_attributes(output)
    if found is not None and "spacex_spec" in found:
        check_format(output, found)
        request = reconcile(output, found, request, checkpoint, grow)
    else:
        check_not_replaced(output)
    known = known_scenes(f"{run_folder(output)}/scenes.gz")
    return make_plan(request, output, fingerprint, checkpoint.card.bands, known), fingerprint


def execute(
    plan: Plan,
    fingerprint: str,
    output: str,
    checkpoint: Checkpoint,
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
        plan: from `prepare`.
        fingerprint: from `prepare`.
        output: URI of the cube.
        checkpoint: the networks; workers load them again from its URI.
        runner: who does the work.
        on_start: called with the progress log before the first tile.
        estimate: hours expected (`spacex.mapping.estimate.estimate`), for the report to compare with.
        license: of a new cube's maps, an SPDX identifier.
        verify: whether to read the whole cube first and do damaged tiles again (`spacex.mapping.verify`).
        worker: further fields of `Job`: readers, time_limit, threads, device.

    Raises:
        CubeError: if the output cannot be written, or another run holds it.
        SpacexError: if the work itself cannot go on; the finished tiles are safe.
    """
    with OutputLock(run_folder(output)) as lock:
        plan = refresh(plan, output, fingerprint)
        if verify and plan.exists:
            mark_damaged(Cube(output), plan.request)
            plan = refresh(plan, output, fingerprint)
        return _work(plan, fingerprint, output, checkpoint, runner, lock, on_start, estimate, license, worker)


def _work(
    plan: Plan, fingerprint: str, output: str, checkpoint: Checkpoint, runner: Runner, lock: OutputLock,
    on_start: Callable[[ProgressLog], None], estimate: dict[str, Any] | None, license: str, worker: dict[str, Any],
) -> Outcome:  # fmt: skip
    begun, folder = time.monotonic(), run_folder(output)
    cube = Cube(output) if plan.exists else _create(plan, fingerprint, output, checkpoint.card, license)
    if not fits(cube, plan.request):
        save_scenes(f"{folder}/scenes.gz", plan.scenes)
        cube = make_room(cube, plan.request, checkpoint.card, plan.statuses)
    # the shipped weights lie elsewhere on every node; each finds its own
    weights = None if checkpoint.uri == str(SHIPPED) else checkpoint.uri
    job = Job(
        request=plan.request, output=output, scenes=f"{folder}/scenes.gz", checkpoint=weights, trust=checkpoint.trust,
        **worker,
    )  # fmt: skip

    def on_quarantine(task: TileTask, reason: str, tries: int) -> None:
        cube.finish(task, Status.FAILED, {"reason": reason, "tries": tries})

    if plan.todo:
        withdraw(cube)
    stats = run_tiles(
        job,
        plan.todo,
        runner,
        folder=folder,
        lock=lock,
        earlier=plan.counts,
        activity="mapping",
        on_start=on_start,
        on_quarantine=on_quarantine,
        on_end=lambda log: make_overviews(cube, log.set_stage),
        write_reports=lambda stats, state: _write_reports(folder, plan, cube, stats, state, estimate),
    )
    return Outcome(cube, stats.quarantined, time.monotonic() - begun, stats.chips)


def _write_reports(
    folder: str, plan: Plan, cube: Cube, stats: RunStats, state: str, estimate: dict[str, Any] | None
) -> None:
    """`report.html`, `tiles.geojson` and the STAC item, also on interruption; they must not hide how the run ended."""
    from spacex.cube.stac import describe_cube  # it reads what a run leaves behind

    try:
        write_text(f"{folder}/report.html", render(plan, cube, stats, state, estimate))
        write_text(f"{folder}/tiles.geojson", json.dumps(tiles_geojson(plan.request, cube.statuses())))
        describe_cube(cube.uri)
    except Exception:
        logger.exception("the run's report could not be written to %s", folder)


def _create(plan: Plan, fingerprint: str, output: str, card: Card, license: str) -> Cube:
    folder = run_folder(output)
    save_scenes(f"{folder}/scenes.gz", plan.scenes)
    cube = create_cube(output, plan.request.spec(card), fingerprint, describe(plan.request, card, license))
    if (plan.statuses == Status.OUTSIDE).any():
        cube.mark(np.where(plan.statuses == Status.OUTSIDE, plan.statuses, 0).astype(np.uint8))
    return cube


def describe(request: MapRequest, card: Card, license: str = LICENSE) -> dict[str, Any]:
    """The cube's own account of how it was made: root attributes besides the geographic ones."""
    source = f"Sentinel-2 Level-2A through STAC ({request.catalogue}); contains modified Copernicus Sentinel data"
    if request.catalogue == "demo":
        source = "synthetic scenes of the landscape that ships with SpacEX, through STAC; no observation of the Earth"
    about = {"target": f"{card.target}: the class that naturalness scores and the maps explain"} if card.target else {}
    return {
        **about,
        "title": "What makes land look natural: attribution from maximised and minimised Sentinel-2 chips",
        "institution": "made with SpacEX",
        "source": source,
        "license": license,
        "references": "Emam, Stomberg & Roscher 2024, IEEE GRSL; Shrikumar et al. 2017, ICML (lift); "
        "Sundararajan et al. 2017, ICML (path attribution)",
        "spacex_code": code_digest(),
        "request": request.model_dump(mode="json"),
        "checkpoint": card.model_dump(mode="json", exclude={"metrics", "training"}),
    }
