"""Estimate a plan: floating-point operations per chip, hours on a number of workers, and its tiles as GeoJSON.

Operations are counted by running the networks on one constant chip. Hours depend on the catalogue, the network and the
machine, so they are measured on a few tiles of the same request (`calibrate`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint
from spacex.cube.statuses import tasks_where
from spacex.errors import RequestError
from spacex.execution.jobs import CPU_READERS
from spacex.execution.tasks import Status
from spacex.mapping.plan import Plan
from spacex.mapping.request import MapRequest
from spacex.mapping.some_tiles import map_tiles


def operations_per_chip(checkpoint: Checkpoint, request: MapRequest) -> int:
    """Floating-point operations per chip for all requested maps, forward and backward passes together."""
    card, chips = checkpoint.card, request.chips
    network = Attributor(checkpoint, chips.maps, request.path_steps, members=chips.members)

    def constant(side: int) -> NDArray[np.float32]:
        return np.full((1, len(card.bands), side, side), 0.1, np.float32)

    chip = constant(card.chip_size)
    halves = _operations(lambda: network.rescore(np.repeat(chip, 2, axis=0))) if chips.halves else 0
    halves = round(halves * (chips.stride / chips.pair_stride) ** 2)
    if not chips.window:
        return halves + _operations(lambda: network.attribute(chip))
    deltas = [0 * chip if needed else None for needed in chips.needs]
    classifying = _operations(lambda: network.classify(chip, *deltas))
    generating = _operations(lambda: network.generate(constant(chips.window + 2 * chips.margin))) if chips.maps else 0
    # of a window a chip needs the pixels that it adds to its neighbours' on the lattice: stride²
    return halves + classifying + round(generating * (chips.stride / chips.window) ** 2)


def _operations(call: Callable[[], object]) -> int:
    with _OperationCounter() as counter:  # type: ignore[no-untyped-call]
        call()
    return int(counter.total)


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums PyTorch's formulas over all operations.

    PyTorch's `FlopCounterMode` also tracks modules, and fails where a gradient with respect to the input is taken.
    """

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; PyTorch would import its compiler, which takes a second, to be sure

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += int(formula(*args, **(kwargs or {}), out_val=result)) if formula else 0
        return result


@dataclass(frozen=True)
class Pace:
    """Measured seconds of one worker."""

    per_chip: float
    """Seconds of the networks per chip."""
    per_read: float
    """Seconds of one reader per scene read."""
    per_write: float
    """Seconds per tile written, blending included."""
    tiles: int
    """Tiles measured."""


def calibrate(plan: Plan, tiles: int, threads: int | None = None) -> Pace:
    """Measure the pace of a worker: map a few tiles of a plan into a temporary cube, in this process.

    Args:
        plan: the tiles are taken evenly from those it has to do.
        tiles: how many tiles.
        threads: CPU threads of the networks.

    Raises:
        RequestError: if none of the tiles could be mapped.
    """
    # every n-th tile rather than the first ones: those may lie at the edge of the area and hold few pixels
    chosen = plan.todo[:: max(1, len(plan.todo) // tiles)][:tiles]
    with tempfile.TemporaryDirectory() as folder:
        _, reports = map_tiles(plan.request, plan.checkpoint, plan.scenes, chosen, folder, threads)
    mapped = [report for report in reports if report.status is not Status.FAILED]
    if not mapped:
        reason = reports[0].reason if reports else "no tile to do"
        raise RequestError("no tile could be mapped for the calibration", got=reason)
    # totals over all tiles, not means of each tile's ratio: a tile with few chips must not count as much as a full one
    total = {name: sum(r.seconds.get(name, 0.0) for r in mapped) for name in ("reading", "computing", "writing")}
    chips, reads, count = sum(r.chips for r in mapped), sum(r.scenes for r in mapped), len(mapped)
    return Pace(total["computing"] / max(1, chips), total["reading"] / max(1, reads), total["writing"] / count, count)


def estimate(plan: Plan, pace: Pace, workers: int, readers: int = CPU_READERS) -> dict[str, Any]:
    """Estimate the hours of a plan.

    Args:
        plan: the plan.
        pace: from `calibrate`, on a machine like the workers'.
        workers: number of workers.
        readers: tiles a worker reads at the same time.
    """
    work = plan.work
    hours = {
        "computing": work.chips * pace.per_chip / 3600,
        "reading": work.scene_reads * pace.per_read / readers / 3600,
        "writing": len(plan.todo) * pace.per_write / 3600,
    }
    # a worker reads, computes and writes at the same time, so the slowest of the three decides
    slowest = max(hours, key=lambda name: hours[name])
    return {
        "hours": round(hours[slowest] / workers, 3),
        "workers": workers,
        "set_by": slowest,
        "worker_hours": {name: round(value, 3) for name, value in hours.items()},
        "measured_tiles": pace.tiles,
    }


def tiles_geojson(request: MapRequest, statuses: NDArray[np.uint8]) -> dict[str, Any]:
    """The tiles of a request with their statuses, as a GeoJSON FeatureCollection in EPSG:4326.

    Args:
        request: what is mapped.
        statuses: (time, tile rows, tile columns) of `Status`; tiles outside the area are left out.
    """
    tiling, grid = request.region.tiling, request.region.grid
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    features = []
    for task in tasks_where(statuses != Status.OUTSIDE, tiling):
        box = grid.geobox(tiling.window(task.row, task.col)).boundingbox
        xs, ys = [box.left, box.right, box.right, box.left], [box.bottom, box.bottom, box.top, box.top]
        ring = [[round(lon, 6), round(lat, 6)] for lon, lat in zip(*to_degrees.transform(xs, ys), strict=True)]
        state = Status(statuses[(task.time, *tiling.position(task.row, task.col))]).label
        first, last = request.intervals[task.time]
        properties = {"state": state, "from": first, "to": last, "row": task.row, "col": task.col}
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "id": str(task), "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}
