"""The run report as HTML: the parts that every kind of run has in common."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sized
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from spacex.execution.run_stats import SLOWEST, RunStats
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport
from spacex.sentinel2.read_estimate import Work

TILE = 8
"""Pixels a side of a tile in the picture."""


COLOURS = {
    Status.PENDING: "#ffffff",
    Status.DONE: "#2a9d4a",
    Status.NO_DATA: "#9ecae1",
    Status.OUTSIDE: "#e8e8e8",
    Status.FAILED: "#d62728",
}


def fill(template: str, package: str, **values: Any) -> str:
    """Render a template that lies beside the modules of a package; it may extend those of this package."""
    places = [PackageLoader(name, ".") for name in dict.fromkeys((package, "spacex.execution"))]
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
    todo: Sized,
    work: Work,
    bytes_to_read: int,
    ledger: TaskQueue,
    notes: RunStats,
    estimate: dict[str, Any] | None = None,
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
