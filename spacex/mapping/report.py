"""Render `report.html`: the result of a run, and measures of whether the map can be trusted.

One file without scripts or links, so that it opens from a disk, a bucket or an e-mail. It is written at the end of a
run and on interruption, and needs memory for a few numbers per tile only.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.names import GENERATED, SURE
from spacex.cube import quicklook
from spacex.cube.applicability import MAX_SIDE, tiles_outside, trust_line
from spacex.cube.layout import variables_by_name
from spacex.cube.store import Cube
from spacex.cube.summary import SAMPLED, faint_line, grain_line, meaning_lines, summarise_maps
from spacex.execution.report import compare_with_plan, render_template, status_image, status_legend, summarise_run
from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status
from spacex.mapping.plan import Plan

BORDERS = 64
"""Number of tile borders that the seam score samples."""
PHASE = 8
"""Pixels between a border and the lines it is compared with, and between these: a multiple of 2 and 4, by which
generators downsample, for at multiples of that their maps step a little everywhere."""
LINES = 4
"""Number of such lines on either side."""

Decode = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Seam:
    """How visible the tiles' borders are."""

    score: float
    """Median over borders of (step across the border over those beside it), over the same of lines nearby; 1 =
    invisible."""
    borders: int
    """Number of borders sampled."""


def seam(cube: Cube, variable: str | None = None, borders: int = BORDERS) -> Seam | None:
    """Compare the difference across tile borders, over that one pixel beside them, with the same at lines nearby.

    Args:
        cube: at least partly finished.
        variable: a map of the cube; None for the first attribution map, or for the score where there is none.
        borders: how many borders to sample, evenly from those between finished tiles.

    Returns:
        The score, or None if no two finished neighbours have values that vary at their border.
    """
    # every n-th border rather than the first ones, so that the sample covers the whole area and all time steps
    pairs = _finished_pairs(cube.statuses() == Status.DONE)
    chosen = pairs[:: max(1, len(pairs) // borders)][:borders]
    name = variable or next(name for name in (*cube.spec.maps, *cube.spec.scores) if name not in (*GENERATED, *SURE))
    decode = variables_by_name(cube.spec)[name].decode
    array, size = cube.array(f"0/{name}"), cube.spec.tile_size
    ratios = [ratio for pair in chosen if (ratio := _ratio(array, decode, size, *pair)) is not None]
    return Seam(float(np.median(ratios)), len(ratios)) if ratios else None


def _finished_pairs(done: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """(time, row, col, axis) of finished tiles whose neighbour above (axis 0) or left (axis 1) is finished too."""
    above = [(int(t), int(r) + 1, int(c), 0) for t, r, c in np.argwhere(done[:, 1:] & done[:, :-1])]
    left = [(int(t), int(r), int(c) + 1, 1) for t, r, c in np.argwhere(done[:, :, 1:] & done[:, :, :-1])]
    return sorted(above + left)


def _ratio(array: Any, decode: Decode, size: int, step: int, row: int, col: int, axis: int) -> float | None:
    """Prominence of one border over that of lines whole multiples of `PHASE` away; None if values do not vary there."""
    border, start = (row * size, col * size) if axis == 0 else (col * size, row * size)
    reach = PHASE * LINES
    # two pixels on either side of a line give three differences, the middle one across it
    across, along = slice(border - reach - 2, border + reach + 2), slice(start, start + size)
    stored = np.asarray(array[(step, across, along) if axis == 0 else (step, along, across)])
    values = decode(stored).astype(np.float64)
    steps = np.abs(np.diff(values if axis == 0 else values.T, axis=0))
    # (lines, 3, along), the border in the middle
    lines = np.stack([steps[line : line + 3] for line in range(0, 2 * reach + 1, PHASE)])
    at_border, nearby = _prominence(lines[LINES : LINES + 1]), _prominence(np.delete(lines, LINES, axis=0))
    return at_border / nearby if at_border is not None and nearby else None


def _prominence(lines: NDArray[np.float64]) -> float | None:
    """Mean step across lines over the mean step beside them; None if the values beside them are constant."""
    valid = np.isfinite(lines).all(axis=1)
    beside = (lines[:, 0][valid] + lines[:, 2][valid]).mean() / 2 if valid.any() else 0.0
    return float(lines[:, 1][valid].mean() / beside) if beside > 0 else None


def _picture(cube: Cube) -> str:
    """The quicklook of the last time step in base64; empty while the overviews that it is drawn from are missing."""
    coarsest = cube.published_levels - 1
    if coarsest < 1 or max(cube.extent.shape) >> coarsest > MAX_SIDE:
        return ""
    return base64.b64encode(quicklook.render(cube, len(cube.spec.intervals) - 1)).decode()


def render(plan: Plan, cube: Cube, stats: RunStats, state: str, estimate: dict[str, Any] | None = None) -> str:
    """Render the report as HTML.

    Args:
        plan: what the run had to do.
        cube: what it made.
        stats: of the run.
        state: ``complete``, ``incomplete``, ``interrupted`` or ``failed``.
        estimate: the plan's estimate (`Estimate.describe`), if one was made.
    """
    statuses = cube.statuses()
    seams, numbers = seam(cube), summarise_maps(cube)
    return render_template(
        "report.html.jinja",
        "spacex.mapping",
        **summarise_run(stats, state),
        items_left_out=plan.left_out,
        output=cube.uri,
        fingerprint=cube.fingerprint,
        key=status_legend(statuses),
        maps=[
            (" to ".join(days), status_image(states, tiles_outside(cube, step)))
            for step, (days, states) in enumerate(zip(cube.spec.intervals, statuses, strict=True))
        ],
        doubts=[*meaning_lines(cube), *filter(None, (faint_line(numbers), trust_line(cube), grain_line(cube)))],
        finished=int((statuses == Status.DONE).sum()),
        sampled=SAMPLED,
        numbers=[(n.name.replace("_", " "), n.unit, f"{n.mean:.3g}", f"{n.high:.3g}") for n in numbers],
        picture=_picture(cube),
        hatched=bool(cube.spec.dissimilarity),
        compared=compare_with_plan(plan.todo, plan.work, plan.bytes_to_read, stats, estimate),
        seam=seams.score if seams else None,
        borders=seams.borders if seams else 0,
    )
