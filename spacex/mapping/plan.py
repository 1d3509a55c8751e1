"""What a request will do, before it does anything: tiles, scenes, chips, bytes; and what is already done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacex.cube.store import Cube, check_format, read_attributes
from spacex.errors import CatalogueError, CubeError
from spacex.execution.tasks import Status, TileTask
from spacex.execution.tile_order import tile_order
from spacex.grid import chip_windows
from spacex.mapping.extend import carried, fits
from spacex.mapping.request import MapRequest, core_window
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.read_estimate import ReadEstimator, Work, bytes_to_fetch, read_window
from spacex.sentinel2.scene_list import Scenes
from spacex.sentinel2.scene_search import search

STORED_BYTES = 6.0
"""Bytes a finished pixel takes in the cube with both maps and overviews (measured on the embedded region)."""


@dataclass(frozen=True)
class Plan:
    """A request, worked out. Making one reads no pixel and writes nothing."""

    request: MapRequest
    scenes: Scenes
    """Scenes per time step."""
    tasks: tuple[TileTask, ...]
    """Tiles that touch the area, per time step, in row-major order: every run's whole work."""
    statuses: NDArray[np.uint8]
    """(time, tile rows, tile columns): what an existing cube says of each tile, else what a new one would."""
    exists: bool = False
    """True if the output holds a cube with this fingerprint."""

    @cached_property
    def todo(self) -> tuple[TileTask, ...]:
        """Tiles this run will compute, in their order: new ones and, again, those quarantined before."""
        open_states = (Status.PENDING, Status.FAILED)
        left = (task for task in self.tasks if self.statuses[task.time, task.row, task.col] in open_states)
        return tuple(tile_order(left))

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
            window = region.tiling.window(task.row, task.col)
            core = core_window(region, window)
            alone = [(task.time, task.row + down, task.col + right) not in planned for down, right in beside]
            read = read_window(core, request.chips.around(core), (alone[0], alone[1], alone[2], alone[3]))
            expected = forecasts[task.time].of(read)
            # a chip that reaches into the tile above or to the left is that tile's
            total.chips += sum(
                (chip.row >= core.row or alone[0]) and (chip.col >= core.col or alone[2])
                for chip in chip_windows(core, request.chips.stride)
            )
            total.scene_reads += expected.scenes
            total.pixels_read += expected.pixels
            total.pixels_classified += expected.classified
            total.pixels_written += window.height * window.width
        return total

    def describe(self, bands: int) -> dict[str, Any]:
        """The plan as plain numbers, for the terminal and for `plan.json`.

        Args:
            bands: bands the checkpoint reads.
        """
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
            "bytes_to_read": self.bytes_to_read(bands),
            "bytes_to_store": round(work.pixels_written * STORED_BYTES),
        }

    def bytes_to_read(self, bands: int) -> int:
        """Bytes to fetch from the scenes, expected; `spacex.sentinel2.read_estimate` says how."""
        return bytes_to_fetch(self.work, bands, self.request.resolution)


def make_plan(request: MapRequest, output: str, fingerprint: str, bands: tuple[str, ...], known: Scenes | None) -> Plan:
    """Work out a request against its catalogue and its output.

    Args:
        request: what was asked for.
        output: URI of the cube; it may exist.
        fingerprint: of this request, checkpoint and code.
        bands: bands the checkpoint reads.
        known: the scene list of an earlier run of this cube; None to ask the catalogue.

    Raises:
        CatalogueError: if the catalogue fails or has no scene for any of the intervals.
        CubeError: if the output holds something else.
    """
    statuses, exists = _statuses(request, output, fingerprint)
    scenes = known if known is not None and exists else None
    if scenes is None or (exists and not fits(Cube(output), request)):
        scenes = _joined(scenes or [], _search(request, bands))
    tasks = tuple(TileTask(int(t), int(r), int(c)) for t, r, c in np.argwhere(statuses != Status.OUTSIDE))
    return Plan(request, scenes, tasks, statuses, exists)


def refresh(plan: Plan, output: str, fingerprint: str) -> Plan:
    """The plan by what the cube says now: between planning and claiming it, another run may have worked on it.

    Raises:
        CubeError: if the output holds something else by now.
    """
    statuses, exists = _statuses(plan.request, output, fingerprint)
    return replace(plan, statuses=statuses, exists=exists)


def _statuses(request: MapRequest, output: str, fingerprint: str) -> tuple[NDArray[np.uint8], bool]:
    found = read_attributes(output)
    if found is None or ("spacex_format" in found and "spacex_spec" not in found):
        return new_statuses(request), False
    if "spacex_format" not in found:
        raise CubeError(f"{output} exists and is not a SpacEX cube", do="Choose another --output.")
    check_format(output, found)
    if found.get("fingerprint") != fingerprint:
        raise CubeError(
            f"{output} was made by another request, checkpoint or code",
            got=f"fingerprint {found.get('fingerprint')}",
            expected=fingerprint,
            do="Repeat the command that made it, or choose another --output.",
        )
    cube = Cube(output)
    if not fits(cube, request):
        return carried(cube, request, new_statuses(request)), True
    return cube.statuses(), True


def _joined(known: Scenes, found: Scenes) -> list[list[Any]]:
    """Per time step the scenes known before, as they were, and those found besides: what is mapped does not change."""
    steps = []
    for step, scenes in enumerate(found):
        before = list(known[step]) if step < len(known) else []
        steps.append([*before, *(scene for scene in scenes if scene.id not in {one.id for one in before})])
    return steps


def new_statuses(request: MapRequest) -> NDArray[np.uint8]:
    """(time, tile rows, tile columns) of a fresh cube: *outside* where a tile does not touch the area."""
    tiling = request.region.tiling
    one_step = np.full(tiling.shape, Status.OUTSIDE, np.uint8)
    for row, col in tiling:
        if request.region.touches(tiling.window(row, col)):
            one_step[row, col] = Status.PENDING
    return np.repeat(one_step[None], len(request.intervals), axis=0)


def _search(request: MapRequest, bands: tuple[str, ...]) -> list[list[Any]]:
    catalogue = get_catalogue(request.catalogue, request.stac_url, request.collection)
    catalogue.keys(bands)
    found, empty = [], None
    for first, last in request.intervals:
        try:
            found.append(
                search(catalogue, request.region.area, f"{first}/{last}", request.max_cloud_cover, bands=bands)
            )
        except CatalogueError as error:
            if "no scenes" not in str(error):
                raise
            empty = error
            found.append([])
    if empty is not None and not any(found):
        raise empty
    return found


__all__ = ["Plan", "make_plan", "new_statuses", "refresh"]
