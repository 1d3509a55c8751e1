"""Plans a set of chips without writing anything: samples their locations, and estimates what is read for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from odc.geo import Geometry
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.dataset_building.folder import DatasetFolder, counts
from spacex.dataset_building.labels import ANTHROPOGENIC, NATURAL, Candidates, LabelGrid, check_cover
from spacex.dataset_building.locations import ChipLocation, name_locations
from spacex.dataset_building.request import DatasetRequest
from spacex.dataset_building.sampling import sample
from spacex.errors import DataError
from spacex.execution.tasks import Status, TileTask
from spacex.execution.tile_order import tile_order
from spacex.grid import CHIP, Grid
from spacex.sentinel2.read_estimate import ReadEstimator, Work, bytes_to_fetch
from spacex.sentinel2.scene_list import Scenes
from spacex.sentinel2.scene_search import search, warn_of_unknown
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, footprint_in
from spacex.vectors import joined, read_polygons

OPTIONS = {NATURAL: "--natural", ANTHROPOGENIC: "--anthropogenic"}
MAX_SEGMENT = 0.01
"""Degrees: longer segments of the area's outline are split before it is projected."""
_UNFINISHED = (Status.PENDING, Status.FAILED)
CHIP_BYTES = 500_000
"""Bytes of a chip's three files: 470 kB for one of the embedded country, of which the ten bands take nearly all."""


@dataclass(frozen=True)
class DatasetPlan:
    """What a request comes to. Making a plan reads no pixel of a scene and writes nothing."""

    request: DatasetRequest
    scenes: Scenes
    """All that can touch the chips, in one step."""
    locations: tuple[ChipLocation, ...]
    """Of the chips."""
    statuses: dict[TileTask, Status]
    """Of each tile that holds chips."""
    exists: bool = False
    """True if the output holds a set with this fingerprint."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Ids of the catalogue's items that are not used, with reasons."""

    @cached_property
    def todo(self) -> tuple[TileTask, ...]:
        """Tiles this run will make, in their order: new ones and, again, those quarantined before."""
        return tuple(tile_order(task for task, status in self.statuses.items() if status in _UNFINISHED))

    @property
    def counts(self) -> Counter[Status]:
        """Number of tiles by status."""
        return Counter(self.statuses.values())

    @cached_property
    def work(self) -> Work:
        """Chips to make, and what is expected to be read for them."""
        request, total, todo = self.request, Work(), set(self.todo)
        grid = Grid(request.crs, request.resolution)
        estimator = ReadEstimator(self.scenes[0], grid, request.composite.enough)
        for location in self.locations:
            if location.task in todo:
                expected = estimator.of(location.window)
                total.chips += 1
                total.read(expected)
                total.pixels_written += CHIP * CHIP
        return total

    @property
    def bytes_to_read(self) -> int:
        """Bytes to fetch from the scenes, expected."""
        return bytes_to_fetch(self.work, len(self.request.bands), self.request.resolution)

    def describe(self) -> dict[str, Any]:
        """The plan as plain numbers, for the terminal and for `plan.json`."""
        made = self.counts
        done = made[Status.DONE] + made[Status.NO_DATA]
        return {
            "chips": counts(self.locations),
            "tiles": {"new": made[Status.PENDING], "redo": made[Status.FAILED], "done": done},
            "chips_to_make": self.work.chips,
            "scenes": sum(len(step) for step in self.scenes),
            "scene_reads": round(self.work.scene_reads),
            "bytes_to_read": self.bytes_to_read,
            "bytes_to_store": self.work.chips * CHIP_BYTES,
        }


def make_plan(request: DatasetRequest, folder: DatasetFolder) -> DatasetPlan:
    """Plan a request; a set that exists keeps its locations and scenes, and neither labels nor catalogue are read.

    Raises:
        DataError: if a label source cannot be read, no chip can be sampled, or the output is something else.
        CatalogueError: if the catalogue fails or has no scene.
    """
    request.check()
    known, fingerprint = folder.fingerprint(), request.fingerprint()
    if known is None:
        left_out: dict[str, str] = {}
        return refresh(DatasetPlan(request, *find_locations(request, left_out), {}, left_out=left_out), folder)
    if known != fingerprint:
        what = f"{folder.root} was made by another request, other files or other code"
        do = "Repeat the command that made it, or choose another --output."
        raise DataError(what, got=f"fingerprint {known}", expected=fingerprint, do=do)
    # what was sampled and found once is stored, so that a resumed set is the same even if the catalogue has changed
    known_plan = DatasetPlan(request, folder.scenes(), folder.locations(), {}, left_out=folder.items_left_out())
    return refresh(known_plan, folder)


def refresh(plan: DatasetPlan, folder: DatasetFolder) -> DatasetPlan:
    """The plan with the present statuses of the output's tiles."""
    exists = folder.fingerprint() is not None
    tasks = sorted({location.task for location in plan.locations})
    statuses = {task: folder.status(task) if exists else Status.PENDING for task in tasks}
    return replace(plan, statuses=statuses, exists=exists)


def find_locations(request: DatasetRequest, left_out: dict[str, str]) -> tuple[Scenes, tuple[ChipLocation, ...]]:
    """Read the labels, search the catalogue for scenes that can touch the labelled land, and sample chips.

    `left_out` gets the ids of the catalogue's items that are not used, with reasons.
    """
    # labels of both classes, in the grid's CRS
    grid = Grid(request.crs, request.resolution)
    natural = joined([read_polygons(source.file, source.where, "--natural") for source in request.natural])
    anthropogenic = np.empty(0, dtype=object)
    if request.anthropogenic:
        files = [read_polygons(source.file, source.where, "--anthropogenic") for source in request.anthropogenic]
        anthropogenic = joined(files).projected(request.crs)
    if request.land_cover is not None:
        check_cover(request.land_cover.file)
    labels = LabelGrid(grid, natural.projected(request.crs), anthropogenic, request.land_cover)
    area = _area(request, labels)
    # land is rasterised square by square, and only where there are labels
    squares = labels.squares(area)
    if not squares:
        raise DataError("no polygon lies in the area", do="Look at --bbox or --area, and at the files' CRS.")
    candidates = Candidates.concatenate([labels.candidates(square, request.sampling.share) for square in squares])
    # squares reach beyond the area, chips must not
    candidates = candidates.take(shapely.covers(area, candidates.boxes(grid)))
    _check_both_classes(candidates, labels, request)
    # scenes are searched around the labelled land alone, not around the whole area
    catalogue = request.profile
    catalogue.keys(request.bands)  # refuses a catalogue without them
    catalogue.check_credentials()
    land = shapely.union_all([labels.box(square) for square in squares]).intersection(area)
    degrees = Geometry(land, request.crs).to_crs("EPSG:4326", resolution=20_000).geom
    limit, days = request.max_cloud_cover, "/".join(request.interval)
    omit = request.leave_out
    scenes = search(catalogue, degrees, days, limit, bands=request.bands, halo=0.0, leave_out=omit, left_out=left_out)
    warn_of_unknown(omit, left_out)
    # only chips that scenes cover entirely
    footprints = shapely.union_all([footprint_in(scene, request.crs).buffer(-FOOTPRINT_SLACK) for scene in scenes])
    shapely.prepare(footprints)
    candidates = candidates.take(shapely.covers(footprints, candidates.boxes(grid)))
    for label, option in OPTIONS.items():
        if not (candidates.label == label).any():
            do = "Look at --datetime, at --catalogue, and at the files' CRS."
            raise DataError(f"no polygon of {option} lies in reach of a scene", got=f"{len(scenes)} scenes", do=do)
    drawn = candidates.take(sample(candidates, request.sampling, request.resolution))
    if not len(drawn):
        what, got = "no chip of one class can be drawn beside one of the other", f"{request.sampling.distance:g} m"
        raise DataError(what, got=got, do="Lower --distance, or widen the area.")
    return [scenes], name_locations(drawn, grid, natural, anthropogenic)


def _area(request: DatasetRequest, labels: LabelGrid) -> BaseGeometry:
    """Where chips may lie, in the grid's CRS: the area asked for, or the rectangle around all polygons."""
    if request.area is None:
        area = labels.extent.buffer(request.side, join_style="mitre")  # a chip may lie partly outside
    else:
        area = Geometry(shape(request.area), "EPSG:4326").to_crs(request.crs, resolution=MAX_SEGMENT).geom
    if area.is_empty or not np.isfinite(area.bounds).all():
        raise DataError(f"the area cannot be projected to {request.crs}", do="Choose another --crs or area.")
    shapely.prepare(area)
    return area


def _check_both_classes(candidates: Candidates, labels: LabelGrid, request: DatasetRequest) -> None:
    share, lies = request.sampling.share, "lies in its class within the area" if request.area else "does"
    for label, option in OPTIONS.items():
        if not (candidates.label == label).any():
            largest = labels.largest_share[label]
            got = f"{largest:.2f} at most" if largest < share else f"{largest:.2f}, but no chip that {lies}"
            what, do = f"no chip has the share of the class that {option} states", "Lower --share, or widen the area."
            raise DataError(what, got=got, expected=f"at least {share:g}", do=do)
