"""What a plan will cost: floating-point operations, hours on the workers one has, and a map of its tiles.

Operations are counted by running the networks once on an empty chip. Hours need to know this catalogue, this network
and these machines, so they come from measuring a few tiles of the very request (`calibrate`), never from a table.
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
from spacex.cube.store import create_cube
from spacex.errors import RequestError
from spacex.execution.tasks import Status, TileReport
from spacex.mapping.plan import Plan
from spacex.mapping.request import MapRequest
from spacex.mapping.worker import CPU_READERS, Job, open_pipeline, save_scenes


def operations_per_chip(checkpoint: Checkpoint, request: MapRequest) -> int:
    """Floating-point operations per chip, all maps asked for, forward and backward passes together.

    Where generators run on windows, a chip's share of one is the share of ground that a chip adds: stride² pixels.
    """
    card, chips = checkpoint.card, request.chips
    network = Attributor(checkpoint, chips.maps, request.path_steps)
    chip, bands = card.chip_size, len(card.bands)
    if not chips.window:
        return _operations(lambda: network.attribute(_grey(bands, chip)))
    delta_minus = np.zeros((1, bands, chip, chip), np.float32) if chips.follows else None
    judging = _operations(lambda: network.classify(_grey(bands, chip), delta_minus))
    changing = _operations(lambda: network.generate(_grey(bands, chips.window + 2 * chips.margin))) if chips.maps else 0
    return judging + round(changing * (chips.stride / chips.window) ** 2)


def _grey(bands: int, side: int) -> NDArray[np.float32]:
    return np.full((1, bands, side, side), 0.1, np.float32)


def _operations(call: Callable[[], object]) -> int:
    with _OperationCounter() as counter:  # type: ignore[no-untyped-call]
        call()
    return int(counter.total)


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums torch's own formulas over all calls.

    Its `FlopCounterMode` also follows modules, and that fails when a gradient is taken for the input.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += int(formula(*args, **(kwargs or {}), out_val=result)) if formula else 0
        return result


@dataclass(frozen=True)
class Pace:
    """Seconds one worker needs, measured."""

    per_chip: float
    """Seconds of the networks per chip."""
    per_read: float
    """Seconds of one reader per scene read, its share of a tile's reading."""
    per_write: float
    """Seconds per tile written, blending included."""
    tiles: int
    """Tiles measured."""


def calibrate(plan: Plan, tiles: int, threads: int | None = None) -> Pace:
    """Maps a few tiles of a plan into a temporary cube in this process, and measures.

    Args:
        plan: the plan; its tiles are drawn evenly over the whole area.
        tiles: how many tiles.
        threads: CPU threads of the networks.

    Raises:
        RequestError: if none of the tiles could be mapped.
    """
    chosen = plan.todo[:: max(1, len(plan.todo) // tiles)][:tiles]
    with tempfile.TemporaryDirectory() as folder:
        output, scenes = f"{folder}/cube.zarr", f"{folder}/scenes.gz"
        save_scenes(scenes, plan.scenes)
        checkpoint = plan.checkpoint
        create_cube(output, plan.request.spec(checkpoint.card), "calibration", {})
        networks = {"checkpoint": checkpoint.uri, "trust": checkpoint.trust, "threads": threads}
        job = Job(request=plan.request, output=output, scenes=scenes, **networks)
        pipeline = open_pipeline(job)
        for task in chosen:
            pipeline.add(task)
        reports: list[TileReport] = []
        while len(pipeline):
            reports += pipeline.advance(timeout=1.0)
        pipeline.close()
    return _pace([report for report in reports if report.status is not Status.FAILED], reports)


def _pace(good: list[TileReport], reports: list[TileReport]) -> Pace:
    if not good:
        reason = reports[0].reason if reports else "no tile to do"
        raise RequestError("no tile could be mapped for the calibration", got=reason)
    total = {name: sum(r.seconds.get(name, 0.0) for r in good) for name in ("reading", "computing", "writing")}
    chips, reads = sum(r.chips for r in good), sum(r.scenes for r in good)
    return Pace(
        total["computing"] / max(1, chips), total["reading"] / max(1, reads), total["writing"] / len(good), len(good)
    )


def estimate(plan: Plan, pace: Pace, workers: int, readers: int = CPU_READERS) -> dict[str, Any]:
    """Hours of a plan.

    Reading, computing and writing run beside each other in a worker, so the slowest of the three sets the pace.

    Args:
        plan: the plan.
        pace: from `calibrate`, on a machine like the workers'.
        workers: workers that will run.
        readers: tiles a worker reads at the same time.
    """
    work = plan.work
    hours = {
        "computing": work.chips * pace.per_chip / 3600,
        "reading": work.scene_reads * pace.per_read / readers / 3600,
        "writing": len(plan.todo) * pace.per_write / 3600,
    }
    slowest = max(hours, key=lambda name: hours[name])
    return {
        "hours": round(hours[slowest] / workers, 3),
        "workers": workers,
        "set_by": slowest,
        "worker_hours": {name: round(value, 3) for name, value in hours.items()},
        "measured_tiles": pace.tiles,
    }


def tiles_geojson(request: MapRequest, statuses: NDArray[np.uint8]) -> dict[str, Any]:
    """The tiles of a request with their states, as a GeoJSON FeatureCollection in EPSG:4326.

    Args:
        request: the request.
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
        features.append(
            {
                "type": "Feature",
                "id": str(task),
                "properties": {"state": state, "from": first, "to": last, "row": task.row, "col": task.col},
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            }
        )
    return {"type": "FeatureCollection", "features": features}
