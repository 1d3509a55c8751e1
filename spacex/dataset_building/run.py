"""Runs a plan that makes chips: creates or resumes the output, drives the runner, and writes index and report."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacex.dataset_building.contact_sheet import choose_chips, contact_sheet
from spacex.dataset_building.folder import DatasetFolder, counts, status_map
from spacex.dataset_building.labels import ANTHROPOGENIC, NATURAL
from spacex.dataset_building.locations import ChipLocation
from spacex.dataset_building.plan import DatasetPlan, refresh
from spacex.dataset_building.worker import ChipJob
from spacex.execution.driver import RunOutcome, run_tiles
from spacex.execution.jobs import Runner
from spacex.execution.lock import OutputLock
from spacex.execution.progress import ProgressLog
from spacex.execution.report import (
    compare_with_plan,
    render_template,
    status_image,
    status_legend,
    summarise_run,
    write_outputs,
)
from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status, TileTask
from spacex.storage import write_text

CLASSES = {NATURAL: "natural", ANTHROPOGENIC: "anthropogenic"}


@dataclass(frozen=True)
class BuiltDataset(RunOutcome):
    """What a run of a data set came to."""

    folder: Path
    """The set."""
    chips: tuple[ChipLocation, ...]
    """Those that exist."""
    left_out: dict[str, str]
    """Chips that were sampled and do not exist, with reasons."""

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
    """Lock the output, create or resume it, and make the remaining tiles.

    `on_start` is called with the progress log before the first tile; `worker` are further fields of `ChipJob`: readers,
    time_limit, threads.

    Raises:
        CubeError: if the output cannot be written, or another run holds it.
        SpacexError: if the work itself cannot go on; the finished tiles are safe.
    """
    with OutputLock(str(folder.run)) as lock:
        plan = refresh(plan, folder)
        if not plan.exists:
            folder.begin(plan.request, plan.locations, plan.scenes, plan.left_out)

        # a quarantined tile is recorded like a finished one, so that the next run tries it again
        def on_quarantine(task: TileTask, reason: str, tries: int) -> None:
            folder.finish(task, Status.FAILED, {"reason": reason, "tries": tries})

        outcome = run_tiles(
            ChipJob(request=plan.request, output=str(folder.root), **worker),
            plan.todo,
            runner,
            folder=str(folder.run),
            lock=lock,
            earlier=plan.counts,
            items_left_out=plan.left_out,
            activity="making chips",
            on_start=on_start,
            on_quarantine=on_quarantine,
            on_end=lambda _: _write_index(folder, plan),
            write_reports=lambda stats, state: write_outputs(
                {"report": lambda: write_text(folder.run / "report.html", render(folder, plan, stats, state))}
            ),
        )
    chips, left_out = folder.outcome(plan.locations)
    return BuiltDataset(**vars(outcome), folder=folder.root, chips=chips, left_out=left_out)


def _write_index(folder: DatasetFolder, plan: DatasetPlan) -> None:
    """Write the index, which makes the folder a data set, and the contact sheets."""
    made = folder.write_index(plan.locations)
    for label, name in CLASSES.items():
        if chips := choose_chips([chip for chip in made if chip.label == label]):
            (folder.run / f"{name}.png").write_bytes(contact_sheet(folder.root, chips, plan.request.bands))


def render(folder: DatasetFolder, plan: DatasetPlan, stats: RunStats, state: str) -> str:
    """The report as HTML."""
    chips, left_out = folder.outcome(plan.locations)
    statuses = status_map(folder, plan.statuses)
    sheets = [(name, folder.run / f"{name}.png") for name in CLASSES.values()]
    return render_template(
        "report.html.jinja",
        "spacex.dataset_building",
        **summarise_run(stats, state),
        items_left_out=plan.left_out,
        output=str(folder.root),
        fingerprint=plan.request.fingerprint(),
        key=status_legend(statuses),
        maps=[(" to ".join(plan.request.interval), status_image(statuses))],
        compared=compare_with_plan(plan.todo, plan.work, plan.bytes_to_read, stats),
        chips=[(name, split["natural"], split["anthropogenic"]) for name, split in counts(chips).items()],
        polygons=[len({c.file.rpartition("_")[0] for c in chips if c.label == label}) for label in CLASSES],
        left_out=len(left_out),
        sheets=[(name, base64.b64encode(file.read_bytes()).decode()) for name, file in sheets if file.exists()],
    )
