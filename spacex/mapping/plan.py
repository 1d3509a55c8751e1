"""What a request will do, before it does anything: tiles, scenes, chips, bytes; and what is already done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.attribution.inference import check_generators
from spacex.attribution.lift import check_lift
from spacex.attribution.names import HIGH, LOW, NOISE, SPREAD
from spacex.checkpoint import Checkpoint
from spacex.cube.extend import carried_statuses, check_not_replaced
from spacex.cube.statuses import new_statuses, tasks_where
from spacex.cube.store import Cube, find_cube
from spacex.errors import CatalogueError, CheckpointError, CubeError, RequestError
from spacex.execution.tasks import Status, TileTask
from spacex.execution.tile_order import tile_order
from spacex.mapping.extend_request import (
    check_same_making,
    covers,
    merge_requests,
    newly_left_out,
    tiles_without,
)
from spacex.mapping.request import MapRequest, area_window
from spacex.sentinel2.item_list import check_files
from spacex.sentinel2.read_estimate import ReadEstimator, Work, bytes_to_fetch, read_window
from spacex.sentinel2.scene_list import Scenes, load_left_out, scenes_by_interval
from spacex.sentinel2.scene_search import search, warn_of_unknown
from spacex.sentinel2.scenes import Scene
from spacex.storage import resolve_link, run_folder

STORED_BYTES = {
    "attribution": 1.8, "lift": 2.2, "path_attribution": 2.2, "raised": 0.3, "lowered": 0.3, NOISE: 1.0,
    SPREAD: 0.4, LOW: 0.3, HIGH: 0.3,
}  # fmt: skip
"""Bytes a finished pixel of each map takes in the cube with its overviews, measured on the embedded region."""
STORED_PER_BAND, STORED_ALWAYS = 1.4, 2.0
"""The same of each band of x+ and of x-, and of what every cube holds: scores, observations, composite."""


@dataclass(frozen=True)
class Plan:
    """A map to make: the request, where it goes, and what is left to do. Making one reads no pixel, writes nothing."""

    request: MapRequest
    """What the cube will hold: more than was asked for if it is extended."""
    checkpoint: Checkpoint
    """The networks."""
    output: str
    """URI of the cube."""
    scenes: Scenes
    """Scenes per time step."""
    statuses: NDArray[np.uint8]
    """(time, tile rows, tile columns): what an existing cube says of each tile, else what a new one would."""
    cube: Cube | None = None
    """The cube, if it exists."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Ids of the catalogue's items that are not used, with reasons."""

    @cached_property
    def fingerprint(self) -> str:
        """Names request, checkpoint and code; a cube that exists has the same."""
        return self.request.fingerprint(self.checkpoint)

    @cached_property
    def todo(self) -> tuple[TileTask, ...]:
        """Tiles this run will compute, in their order: new ones and, again, those quarantined before."""
        unfinished = np.isin(self.statuses, (Status.PENDING, Status.FAILED))
        return tuple(tile_order(tasks_where(unfinished, self.request.region.tiling)))

    @property
    def counts(self) -> Counter[Status]:
        """Number of tiles by status."""
        return Counter({Status(value): int((self.statuses == value).sum()) for value in np.unique(self.statuses)})

    @cached_property
    def work(self) -> Work:
        """Chips of the tiles to do, and what is expected to be read for them."""
        request, region, total = self.request, self.request.region, Work()
        forecasts = [ReadEstimator(step, region.grid, request.composite.enough) for step in self.scenes]
        beside = ((-1, 0), (1, 0), (0, -1), (0, 1))
        planned = {(task.time, task.row, task.col) for task in self.todo}
        for task in self.todo:
            tile = region.tiling.window(task.row, task.col)
            window = area_window(region, tile)
            alone = [(task.time, task.row + down, task.col + right) not in planned for down, right in beside]
            read = read_window(window, request.chips.padded(window), (alone[0], alone[1], alone[2], alone[3]))
            expected = forecasts[task.time].of(read)
            # a chip that reaches into the tile above or to the left is that tile's
            total.chips += sum(
                (chip.row >= window.row or alone[0]) and (chip.col >= window.col or alone[2])
                for chip in request.chips.chips(window)
            )
            total.read(expected)
            total.pixels_written += window.height * window.width
        return total

    def describe(self) -> dict[str, Any]:
        """The plan as plain numbers, for the terminal and for `plan.json`."""
        extent, counts, work = self.request.region.extent, self.counts, self.work
        return {
            "cube": f"{len(self.request.intervals)} x {extent.height} x {extent.width} pixels of "
            f"{self.request.resolution:g} m in {self.request.crs}",
            "tiles": {
                "new": counts[Status.PENDING],
                "redo": counts[Status.FAILED],
                "done": counts[Status.DONE] + counts[Status.NO_DATA],
                "outside": counts[Status.OUTSIDE],
            },
            "scenes": [len(step) for step in self.scenes],
            "scene_reads": round(work.scene_reads),
            "chips": work.chips,
            "bytes_to_read": self.bytes_to_read,
            "bytes_to_store": round(work.pixels_written * self.stored_bytes),
        }

    @property
    def stored_bytes(self) -> float:
        """Bytes that a finished pixel takes in the cube, expected."""
        per_picture = STORED_PER_BAND * len(self.checkpoint.card.bands)
        maps = (*self.request.chips.maps, *self.request.chips.sure)
        return STORED_ALWAYS + sum(STORED_BYTES.get(name, per_picture) for name in maps)

    @property
    def bytes_to_read(self) -> int:
        """Bytes to fetch from the scenes, expected; `spacex.sentinel2.read_estimate` says how."""
        return bytes_to_fetch(self.work, len(self.checkpoint.card.bands), self.request.resolution)


def make_plan(
    request: MapRequest, output: str, checkpoint: Checkpoint, *, grow: bool = False, scenes: Scenes | None = None
) -> Plan:
    """Work out a request against its output and its catalogue. Writes nothing.

    Args:
        request: what was asked for.
        output: URI of the cube; it may exist.
        checkpoint: the networks.
        grow: whether an existing cube may take further time steps and land (`spacex.cube.extend`).
        scenes: per time step; None for those of an earlier run of this cube, and else what the catalogue finds.

    Raises:
        RequestError: if the request cannot be carried out, or the catalogue has no scene for any of the intervals.
        CubeError: if the output holds something else.
    """
    if not output.rstrip("/").endswith(".zarr"):
        raise RequestError("the output's name", got=output, expected="a path or URI ending in .zarr")
    if request.chips.maps:
        check_generators(checkpoint)
    if request.chips.members and checkpoint.card.members is None:
        do = "Train several: spacex train-classifier --members 3 (and its generators), or leave 'classifiers' out."
        what = f"checkpoint {checkpoint.uri} cannot say how far classifiers differ"
        raise CheckpointError(what, got="one classifier", expected="several", do=do)
    if "lift" in request.chips.maps:
        check_lift(checkpoint.classifier, len(checkpoint.card.bands), checkpoint.card.chip_size)
    # all names of a cube have the same lock and run folder
    output = resolve_link(output)
    cube = find_cube(output)
    if cube is None:
        check_not_replaced(output)
    else:
        request = merge_requests(cube, request, checkpoint, grow)
    statuses = _statuses(request, cube)
    left_out: dict[str, str] = {}
    if scenes is None:
        scene_list, intervals = f"{run_folder(output)}/scenes.gz", request.intervals
        before = () if cube is None else cube.spec.intervals
        known = scenes_by_interval(scene_list, intervals) if before else [None] * len(intervals)
        left_out = {} if cube is None else load_left_out(scene_list)
        extended = cube is None or not covers(cube, request) or bool(newly_left_out(cube, request))
        searching = extended or None in known
        steps = _joined(known, _search(request, checkpoint.card.bands, left_out, before)) if searching else known
        scenes = [[scene for scene in step or () if scene.id not in request.leave_out] for step in steps]
        unfinished = np.isin(statuses, (Status.PENDING, Status.FAILED)).any()
        if unfinished and request.profile.listed and not searching:  # a search has checked them
            check_files((scene.item for step in scenes for scene in step), request.profile.title)
    return Plan(request, checkpoint, output, scenes, statuses, cube, left_out)


def refresh(plan: Plan) -> Plan:
    """The plan by what the cube says now: between planning and locking it, another run may have worked on it.

    Raises:
        CubeError: if the output holds something else by now.
    """
    cube = find_cube(plan.output)
    if cube is not None:
        check_same_making(cube, plan.request, plan.checkpoint)
        before = None if plan.cube is None else plan.cube.attributes["request"]
        if cube.attributes["request"] != before and not covers(cube, plan.request):
            what = f"another run has made or extended {plan.output} meanwhile"
            raise CubeError(what, do="Repeat the command.")
    return replace(plan, cube=cube, statuses=_statuses(plan.request, cube))


def _statuses(request: MapRequest, cube: Cube | None) -> NDArray[np.uint8]:
    """The states that the tiles of a request have, or will have in a new or extended cube."""
    if cube is not None and covers(cube, request):
        omitted = newly_left_out(cube, request)
        return tiles_without(cube, omitted) if omitted else cube.statuses()
    fresh = new_statuses(request.region, len(request.intervals))
    return fresh if cube is None else carried_statuses(cube, request.region, request.intervals, fresh)


def _joined(known: Sequence[Sequence[Scene] | None], searched: Scenes) -> list[list[Scene]]:
    """Per time step the scenes known before, as they were, and new ones: what is mapped already does not change."""
    steps = []
    for before, scenes in zip(known, searched, strict=True):
        names = {scene.id for scene in before or ()}
        steps.append([*(before or ()), *(scene for scene in scenes if scene.id not in names)])
    return steps


def _search(
    request: MapRequest, bands: tuple[str, ...], left_out: dict[str, str], before: Sequence[tuple[str, str]] = ()
) -> list[list[Scene]]:
    """Scenes per time step; a step may have none, but not all of them, nor all that are new.

    Args:
        request: what to search for.
        bands: to be read.
        left_out: gets the ids of items that are not used, with reasons.
        before: time steps that the cube has already.
    """
    catalogue = request.profile
    catalogue.keys(bands)
    catalogue.check_credentials()
    cover, refusals = request.max_cloud_cover, {days: list[CatalogueError]() for days in request.intervals}
    omit, area = request.leave_out, request.region.area
    look = partial(search, catalogue, area, bands=bands, leave_out=omit, left_out=left_out)
    steps = [look("/".join(days), cover, refusals=refusals[days]) for days in request.intervals]
    warn_of_unknown(omit, left_out)
    new = [step for step, days in enumerate(request.intervals) if days not in before] or range(len(steps))
    if not any(steps[step] for step in new):
        raise refusals[request.intervals[new[-1]]][0]
    return steps
