"""The whole of a run that makes chips, as the driver sees it: plan, lay out or resume, run, say what came out."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacex.dataset_building.contact_sheet import chosen, contact_sheet, stretch
from spacex.dataset_building.folder import DatasetFolder, counts, states
from spacex.dataset_building.labels import HUMAN, NATURAL
from spacex.dataset_building.locations import ChipLocation
from spacex.dataset_building.plan import DatasetPlan, refresh
from spacex.dataset_building.worker import ChipJob
from spacex.execution.driver import RunDriver
from spacex.execution.jobs import Runner
from spacex.execution.lock import output_lock
from spacex.execution.progress import ProgressLog
from spacex.execution.report import common, compared, fill, key_of, picture
from spacex.execution.run_stats import RunStats
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileTask
from spacex.storage import write_text

log = logging.getLogger(__name__)

NAMES = {NATURAL: "natural", HUMAN: "anthropogenic"}


@dataclass(frozen=True)
class BuiltDataset:
    """What a run came to."""

    folder: Path
    """The set."""
    chips: tuple[ChipLocation, ...]
    """The chips that are there."""
    left_out: dict[str, str]
    """Chips that were drawn and are not there, with reasons."""
    quarantined: dict[TileTask, str]
    """Tiles given up, with reasons; the same command tries them again."""
    seconds: float
    """Wall-clock seconds of the run."""

    @property
    def complete(self) -> bool:
        """True if no tile was given up."""
        return not self.quarantined

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Chips by split and class."""
        return counts(self.chips)


def execute(
    plan: DatasetPlan,
    folder: DatasetFolder,
    runner: Runner,
    *,
    on_start: Callable[[ProgressLog], None] = lambda log: None,
    **worker: Any,
) -> BuiltDataset:
    """Claim the output, lay it out or resume it, and make the tiles that are left.

    Args:
        plan: from `spacex.dataset_building.plan.make_plan`.
        folder: of the output.
        runner: who does the work.
        on_start: called with the progress log before the first tile.
        worker: further fields of `ChipJob`: readers, time_limit, threads.

    Raises:
        CubeError: if the output cannot be written, or another run holds it.
        SpacexError: if the work itself cannot go on; the finished tiles are safe.
    """
    begun = time.monotonic()
    with output_lock(str(folder.run)) as claim:
        plan = refresh(plan, folder)
        if not plan.exists:
            folder.begin(plan.request, plan.places, plan.scenes)

        def on_quarantine(task: TileTask, reason: str, tries: int) -> None:
            folder.finish(task, Status.FAILED, {"reason": reason, "tries": tries})

        conduct = RunDriver(
            str(folder.run), claim, on_quarantine, lambda _: _conclude(folder, plan),
            lambda ledger, notes, state: _write_papers(folder, plan, ledger, notes, state), on_start,
            doing="making chips", bands=len(plan.request.bands),
        )  # fmt: skip
        job = ChipJob(request=plan.request, output=str(folder.root), **worker)
        ledger, _ = conduct.run(job, plan.todo, plan.counts, runner)
    chips, left_out = _outcome(folder, plan)
    return BuiltDataset(folder.root, chips, left_out, ledger.quarantined, time.monotonic() - begun)


def _outcome(folder: DatasetFolder, plan: DatasetPlan) -> tuple[tuple[ChipLocation, ...], dict[str, str]]:
    there, left_out = set[str](), dict[str, str]()
    for task in plan.statuses:
        told = folder.told(task)
        there |= set(told.get("chips", {}))
        left_out |= told.get("left_out", {})
    return tuple(place for place in plan.places if place.file in there), left_out


def _conclude(folder: DatasetFolder, plan: DatasetPlan) -> None:
    """Write the index, by which the set becomes one, and the contact sheets."""
    there = folder.write_index(plan.places)
    if not there:
        return
    shown = {label: chosen([place for place in there if place.label == label]) for label in NAMES}
    top = stretch(folder.root, [place for places in shown.values() for place in places], plan.request.bands)
    for label, places in shown.items():
        if places:
            sheet = contact_sheet(folder.root, places, plan.request.bands, top)
            (folder.run / f"{NAMES[label]}.png").write_bytes(sheet)


def _write_papers(folder: DatasetFolder, plan: DatasetPlan, ledger: TaskQueue, notes: RunStats, state: str) -> None:
    """`report.html`, also on interruption; it must not hide how the run ended."""
    try:
        write_text(folder.run / "report.html", render(folder, plan, ledger, notes, state))
    except Exception:
        log.exception("the run's report could not be written to %s", folder.run)


def render(folder: DatasetFolder, plan: DatasetPlan, ledger: TaskQueue, notes: RunStats, state: str) -> str:
    """The report as HTML."""
    chips, left_out = _outcome(folder, plan)
    found = states(folder, tuple(plan.statuses))
    sheets = [(name, folder.run / f"{name}.png") for name in NAMES.values()]
    return fill(
        "report.html.jinja",
        "spacex.dataset_building",
        **common(ledger, notes, state),
        output=str(folder.root),
        fingerprint=plan.request.fingerprint(),
        key=key_of(found),
        maps=[(" to ".join(plan.request.interval), picture(found))],
        compared=compared(plan.todo, plan.work, plan.bytes_to_read, ledger, notes),
        chips=[(name, split["natural"], split["anthropogenic"]) for name, split in counts(chips).items()],
        polygons=[len({c.file.rpartition("_")[0] for c in chips if c.label == label}) for label in NAMES],
        left_out=len(left_out),
        sheets=[(name, base64.b64encode(file.read_bytes()).decode()) for name, file in sheets if file.exists()],
    )
