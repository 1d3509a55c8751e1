"""What a map shows, in a few numbers, and a sentence where they say that it shows next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from spacex.certificate import Certificate
from spacex.cube.layout import variables
from spacex.cube.store import Cube
from spacex.display import FLOORS
from spacex.execution.tasks import Status, TileTask
from spacex.grid import CHIP

UNCERTIFIED = (
    "the checkpoint has no certificate: nothing says how it does on chips that its training has not seen; "
    "`spacex certify` measures that"
)
SAMPLED = 64
"""Tiles of full resolution at most behind the numbers of a map."""
WHOLE = 8
"""Tiles up to which every pixel counts for the percentile; of more, as few pixels of each that memory does not grow."""
FEW_CHIPS = 16
"""Chips along the shorter side of a region below which the grain of its scores is pointed out."""


@dataclass(frozen=True)
class MapNumbers:
    """Numbers of one variable over all time steps."""

    name: str
    unit: str
    mean: float
    high: float
    """99th percentile."""


_summaries: WeakKeyDictionary[Cube, tuple[bytes, list[MapNumbers]]] = WeakKeyDictionary()
"""Of each cube at work the statuses that its numbers belong to, and the numbers."""


def summarise_maps(cube: Cube) -> list[MapNumbers]:
    """Mean and 99th percentile of every attribution map and score, over up to `SAMPLED` finished tiles.

    The mean is that of all their pixels, the percentile that of evenly chosen ones if there are more than `WHOLE`.

    Report, picture and terminal tell them of one run, so that they are kept until another tile is finished.
    """
    statuses = cube.statuses()
    known = _summaries.get(cube)
    if known is None or known[0] != statuses.tobytes():
        known = _summaries[cube] = statuses.tobytes(), _summarise(cube, np.argwhere(statuses == Status.DONE))
    return known[1]


def _summarise(cube: Cube, done: NDArray[np.intp]) -> list[MapNumbers]:
    # evenly from all of them rather than the first ones, which lie side by side
    chosen = done[np.unique(np.linspace(0, len(done) - 1, SAMPLED).astype(int))] if len(done) else done
    first = cube.spec.tiling.tiles
    tasks = [TileTask(int(step), int(row) + first.row, int(col) + first.col) for step, row, col in chosen]
    # an odd step, so that it meets every phase of the generators' lattice of 4 pixels
    every = 2 * (len(tasks) // (WHOLE + 1)) + 1
    numbers = []
    for variable in variables(cube.spec):
        if variable.name in (*FLOORS, *cube.spec.scores) and tasks:
            array, total, count, sampled = cube.array(f"0/{variable.name}"), 0.0, 0, []
            for task in tasks:
                values = variable.decode(np.asarray(array[(task.time, *_slices(cube, task))]))
                values = values[np.isfinite(values)]
                total, count = total + float(values.sum(dtype=np.float64)), count + values.size
                sampled.append(values[::every].copy())
            if count:
                unit = str(variable.attributes.get("quantity", ""))
                high = float(np.percentile(np.concatenate(sampled), 99))
                numbers.append(MapNumbers(variable.name, unit, total / count, high))
    return numbers


def faint_line(numbers: list[MapNumbers]) -> str:
    """A sentence if an attribution map lies below the least end of its colour scale, naming each that does; else empty.

    One is enough: generators that the classifier does not heed can still change the picture.
    """
    faint = [number for number in numbers if number.name in FLOORS and number.high < FLOORS[number.name]]
    if not faint:
        return ""
    shown = " and ".join(f"{n.name} ({n.high:.2g}, expected {FLOORS[n.name]:.2g} or more)" for n in faint)
    return (
        f"doubtful: next to nothing shows in {shown}: the generators hardly change this land, or nothing that the "
        "classifier heeds. They may have collapsed (`spacex evaluate` shows what x⁻ does), or the land holds nothing "
        "that they react to"
    )


def grain_line(cube: Cube) -> str:
    """A sentence if a region is so small that squares of one score each show; else empty."""
    chips = cube.attributes.get("request", {}).get("chips", {})
    stride, side = chips.get("stride", 0), chips.get("chip_size", CHIP)
    if stride < side / 2 or min(cube.extent.shape) >= FEW_CHIPS * stride:
        return ""
    grain, finer = stride * cube.spec.resolution / 1000, side // 4
    return (
        f"naturalness shows squares of {grain:.1f} km, one per chip, on this small region; --stride {finer} makes them "
        f"{finer * cube.spec.resolution / 1000:.1f} km, for {(stride / finer) ** 2:.0f} times the chips"
    )


def meaning_lines(cube: Cube) -> list[str]:
    """What the classifier's scores mean, and how it did on chips that its training has not seen, a sentence each."""
    card = cube.attributes.get("checkpoint", {})
    certificate = card.get("certificate")
    known = Certificate.model_validate(certificate).line if certificate else UNCERTIFIED
    return [line for line in (card.get("meaning", ""), known) if line]


def _slices(cube: Cube, task: TileTask) -> tuple[slice, slice]:
    # cubes of format 2 store no more than their extent
    return cube.window(task).intersect(cube.spec.stored).slices(cube.spec.stored)
