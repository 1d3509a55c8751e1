"""`report.html`: what a run came to, for whoever has to decide whether to trust it or to run it again.

One file without scripts or links: it opens from a disk, a bucket or an e-mail. Written at the end and on
interruption; nothing in it needs more memory than a few numbers per tile.
"""

from __future__ import annotations

import base64
import heapq
import io
import time
from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from spacex.cube.applicability import tiles_outside, trust_line
from spacex.cube.store import Cube, Status
from spacex.execution.task_queue import TaskQueue
from spacex.mapping.plan import Plan, Work
from spacex.mapping.tile import TileReport

SLOWEST = 15
"""Tiles listed as the slowest."""
BORDERS = 64
"""Tile borders looked at for the seam score."""
TILE = 8
"""Pixels a side of a tile in the picture."""
COLOURS = {
    Status.PENDING: "#ffffff",
    Status.DONE: "#2a9d4a",
    Status.NO_DATA: "#9ecae1",
    Status.OUTSIDE: "#e8e8e8",
    Status.FAILED: "#d62728",
}


@dataclass
class RunStats:
    """What the driver remembers of a run for its report; of finished tiles only the slowest."""

    bands: int = 3
    """Bands the checkpoint reads."""
    began: float = field(default_factory=time.time)
    chips: int = 0
    scenes: int = 0
    fetched: int = 0
    retries: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    _slowest: list[tuple[float, int, TileReport]] = field(default_factory=list)

    def add(self, report: TileReport, finished: bool) -> None:
        """Book a report."""
        self.chips += report.chips
        self.scenes += report.scenes
        self.fetched += report.fetched
        self.retries += not finished
        self.seconds.update(report.seconds)
        entry = (sum(report.seconds.values()), id(report), report)
        add = heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop
        add(self._slowest, entry)

    @property
    def slowest(self) -> list[TileReport]:
        """The slowest tiles, the slowest first."""
        return [report for *_, report in sorted(self._slowest, reverse=True)]


@dataclass(frozen=True)
class Seam:
    """How visible the tiles' borders are."""

    score: float
    """Median over borders of (mean step across the border) / (mean step beside it); 1 = invisible."""
    borders: int
    """Borders looked at."""


def seam(cube: Cube, variable: str | None = None, borders: int = BORDERS) -> Seam | None:
    """Compares the step across tile borders with the steps one pixel beside them.

    Args:
        cube: at least partly finished.
        variable: a float map of the cube; the first if None.
        borders: how many borders to look at, evenly drawn from those between finished tiles.

    Returns:
        The score, or None if no two finished neighbours have values that vary at their border.
    """
    pairs = _finished_pairs(cube.statuses() == Status.DONE)
    chosen = pairs[:: max(1, len(pairs) // borders)][:borders]
    array = cube.array(f"0/{variable or next(iter(cube.spec.maps))}")
    ratios = [ratio for pair in chosen if (ratio := _ratio(array, cube.spec.tile_size, *pair)) is not None]
    return Seam(float(np.median(ratios)), len(ratios)) if ratios else None


def _finished_pairs(done: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """(time, row, col, axis) of finished tiles whose neighbour above (axis 0) or left (axis 1) is finished too."""
    above = [(int(t), int(r) + 1, int(c), 0) for t, r, c in np.argwhere(done[:, 1:] & done[:, :-1])]
    left = [(int(t), int(r), int(c) + 1, 1) for t, r, c in np.argwhere(done[:, :, 1:] & done[:, :, :-1])]
    return sorted(above + left)


def _ratio(array: Any, size: int, step: int, row: int, col: int, axis: int) -> float | None:
    along = slice((col if axis == 0 else row) * size, ((col if axis == 0 else row) + 1) * size)
    across = slice((row if axis == 0 else col) * size - 2, (row if axis == 0 else col) * size + 2)
    values = np.asarray(array[(step, across, along) if axis == 0 else (step, along, across)], dtype=np.float64)
    steps = np.abs(np.diff(values, axis=axis))
    steps = steps if axis == 0 else steps.T
    seen = np.isfinite(steps).all(axis=0)
    beside = (steps[0, seen] + steps[2, seen]).mean() / 2 if seen.any() else 0.0
    return float(steps[1, seen].mean() / beside) if beside > 0 else None


def render(
    plan: Plan, cube: Cube, ledger: TaskQueue, notes: RunStats, state: str, estimate: dict[str, Any] | None = None
) -> str:
    """The report as HTML.

    Args:
        plan: what was to be done.
        cube: what there is.
        ledger: the book of the run.
        notes: what else was noted.
        state: ``complete``, ``incomplete``, ``interrupted`` or ``failed``.
        estimate: the plan's estimate (`Estimate.describe`), if one was made.
    """
    statuses = cube.statuses()
    seen = seam(cube)
    return fill(
        "report.html.jinja",
        **common(ledger, notes, state),
        output=cube.uri,
        fingerprint=cube.fingerprint,
        key=key_of(statuses),
        maps=[
            (" to ".join(days), picture(states, tiles_outside(cube, step)))
            for step, (days, states) in enumerate(zip(cube.spec.intervals, statuses, strict=True))
        ],
        trust=trust_line(cube).removesuffix("."),
        hatched=bool(cube.spec.dissimilarity),
        compared=compared(plan.todo, plan.work, plan.bytes_to_read(notes.bands), ledger, notes, estimate),
        seam=seen.score if seen else None,
        borders=seen.borders if seen else 0,
    )


def fill(template: str, package: str = "spacex.mapping", **values: Any) -> str:
    """A report from a template beside the modules of a package; those of mapping can be extended."""
    places = [PackageLoader(name, ".") for name in dict.fromkeys((package, "spacex.mapping"))]
    environment = Environment(loader=ChoiceLoader(places), autoescape=select_autoescape(("jinja",)))
    return environment.get_template(template).render(**values)


def common(ledger: TaskQueue, notes: RunStats, state: str) -> dict[str, Any]:
    """What `run.html.jinja` says of any run, but for its output, tiles and plan."""
    return {
        "state": state,
        "began": _clock(notes.began),
        "ended": _clock(time.time()),
        "elapsed": _duration(time.time() - notes.began),
        "activities": _activities(notes),
        "quarantined": [(str(t), ledger.faults[t], reason) for t, reason in sorted(ledger.quarantined.items())],
        "retries": notes.retries,
        "losses": ledger.losses.total(),
        "troubled": _troubled(ledger),
        "slowest": [_slow(report) for report in notes.slowest],
    }


def key_of(statuses: NDArray[np.uint8]) -> list[tuple[str, str, int]]:
    """Name, colour and number of tiles of every state."""
    return [(_name(s), colour, int((statuses == s).sum())) for s, colour in COLOURS.items()]


def compared(
    todo: Sized, work: Work, bytes_to_read: int, ledger: TaskQueue, notes: RunStats, estimate: dict[str, Any] | None = None
) -> list[tuple[str, str, str]]:
    """Plan and actual, row by row."""
    settled = ledger.settled.total()
    rows = [
        ("tiles", f"{len(todo):,}", f"{settled:,}"),
        ("chips", f"{work.chips:,}", f"{notes.chips:,}"),
        ("scene reads", f"{work.scene_reads:,.0f}", f"{notes.scenes:,}"),
        ("megabytes read", f"{bytes_to_read / 1e6:,.0f}", f"{notes.fetched / 1e6:,.0f}"),
    ]
    if estimate is not None:
        rows.append(("hours", f"{estimate['hours']:.2f}", f"{(time.time() - notes.began) / 3600:.2f}"))
    return rows


def _activities(notes: RunStats) -> list[tuple[str, str, str]]:
    total = sum(notes.seconds.values()) or 1.0
    return [(n, f"{s:,.1f}", f"{100 * s / total:.0f}") for n, s in notes.seconds.most_common()]


def _troubled(ledger: TaskQueue) -> list[tuple[str, int, int]]:
    tiles = sorted({*ledger.faults, *ledger.losses}, key=lambda t: (-ledger.faults[t] - ledger.losses[t], t))
    return [(str(tile), ledger.faults[tile], ledger.losses[tile]) for tile in tiles[:SLOWEST]]


def _slow(report: TileReport) -> tuple[str, ...]:
    seconds = report.seconds
    parts = [f"{seconds.get(name, 0.0):.1f}" for name in ("reading", "computing", "writing")]
    return (str(report.task), f"{sum(seconds.values()):.1f}", *parts, str(report.scenes), report.worker)


def picture(statuses: NDArray[np.uint8], outside: NDArray[np.bool_] | bool = False) -> str:
    """A PNG with `TILE` pixels a side per tile, hatched where `outside`, in base 64."""
    palette = np.array([tuple(bytes.fromhex(COLOURS[s][1:])) for s in sorted(COLOURS)], np.uint8)
    colours, hatched = (
        np.kron(part, np.ones((TILE, TILE), np.uint8)) for part in (statuses, outside & (statuses == Status.DONE))
    )
    shown = palette[colours]
    rows, cols = np.indices(colours.shape)
    shown[(hatched > 0) & ((rows + cols) % TILE < TILE // 4)] = 0
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _name(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _duration(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d} h"
