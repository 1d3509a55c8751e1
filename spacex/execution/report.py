"""Parts of a run's HTML report that every kind of tile job has."""

from __future__ import annotations

import base64
import io
import logging
import time
from collections.abc import Callable, Mapping, Sized
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from spacex.execution.progress import format_duration
from spacex.execution.run_stats import SLOWEST, RunStats
from spacex.execution.tasks import Status
from spacex.sentinel2.read_estimate import Work

logger = logging.getLogger(__name__)

TILE_PIXELS = 8
"""Pixels a side of a tile in the image."""

COLOURS = {
    Status.PENDING: "#ffffff",
    Status.DONE: "#2a9d4a",
    Status.NO_DATA: "#9ecae1",
    Status.OUTSIDE: "#e8e8e8",
    Status.FAILED: "#d62728",
}


def write_outputs(outputs: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Write the outputs of a run one by one; one that fails is logged, and the others are written all the same.

    Args:
        outputs: for each output, what people call it and the function that writes it.

    Returns:
        The outputs that could not be written, with reasons.
    """
    unwritten = {}
    for name, write in outputs.items():
        try:
            write()
        except Exception as error:
            logger.exception("%s could not be written", name)
            unwritten[name] = f"{type(error).__name__}: {error}"
    return unwritten


def render_template(template: str, package: str, **values: Any) -> str:
    """Render a template that lies beside the modules of `package`; it may extend `run.html.jinja` of this package."""
    loaders = [PackageLoader(name, ".") for name in (package, "spacex.execution")]
    environment = Environment(loader=ChoiceLoader(loaders), autoescape=select_autoescape(("jinja",)))
    return environment.get_template(template).render(**values)


def summarise_run(stats: RunStats, state: str) -> dict[str, Any]:
    """Values of `run.html.jinja` that every kind of run has; its output, tiles and plan come from the caller."""
    total = sum(stats.seconds.values()) or 1.0
    failures, deaths = stats.failures, stats.worker_deaths
    troubled = sorted({*failures, *deaths}, key=lambda task: (-failures[task] - deaths[task], task))
    return {
        "state": state,
        "began": _utc(stats.began),
        "ended": _utc(time.time()),
        "elapsed": f"{format_duration(int(time.time() - stats.began))} h",
        "activities": [(n, f"{s:,.1f}", f"{100 * s / total:.0f}") for n, s in stats.seconds.most_common()],
        "quarantined": [(str(t), failures[t], reason) for t, reason in sorted(stats.quarantined.items())],
        "stats": stats,
        "troubled": [(str(task), failures[task], deaths[task]) for task in troubled[:SLOWEST]],
    }


def status_legend(statuses: NDArray[np.uint8]) -> list[tuple[str, str, int]]:
    """Name, colour and number of tiles of every status."""
    return [(s.label.replace("_", " "), colour, int((statuses == s).sum())) for s, colour in COLOURS.items()]


def compare_with_plan(
    todo: Sized, work: Work, bytes_to_read: int, stats: RunStats, estimate: dict[str, Any] | None = None
) -> list[tuple[str, str, str]]:
    """Rows of (quantity, planned, actual)."""
    rows = [
        ("tiles", f"{len(todo):,}", f"{stats.finished:,}"),
        ("chips", f"{work.chips:,}", f"{stats.chips:,}"),
        ("scene reads", f"{work.scene_reads:,.0f}", f"{stats.scenes:,}"),
        ("megabytes read", f"{bytes_to_read / 1e6:,.0f}", f"{stats.fetched / 1e6:,.0f}"),
    ]
    if estimate is not None:
        rows.append(("hours", f"{estimate['hours']:.2f}", f"{(time.time() - stats.began) / 3600:.2f}"))
    return rows


def status_image(statuses: NDArray[np.uint8], hatched: NDArray[np.bool_] | bool = False) -> str:
    """Draw the tiles in their status's colour.

    Args:
        statuses: (rows, columns) values of `Status`.
        hatched: tiles of the same shape that are hatched if they are done.

    Returns:
        A PNG with `TILE_PIXELS` pixels a side per tile, in base 64.
    """
    palette = np.array([tuple(bytes.fromhex(COLOURS[s][1:])) for s in sorted(COLOURS)], np.uint8)
    square = np.ones((TILE_PIXELS, TILE_PIXELS), np.uint8)
    image = palette[np.kron(statuses, square)]
    # diagonal stripes a quarter of a tile wide
    rows, cols = np.indices(image.shape[:2])
    stripes = (rows + cols) % TILE_PIXELS < TILE_PIXELS // 4
    image[(np.kron(hatched & (statuses == Status.DONE), square) > 0) & stripes] = 0
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
