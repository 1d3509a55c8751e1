"""What a request for chips will do, before it does anything: where they lie, and what is read for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from odc.geo import Geometry
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.dataset_building.folder import DatasetFolder, counts
from spacex.dataset_building.labels import HUMAN, NATURAL, Candidates, LabelGrid, check_cover
from spacex.dataset_building.locations import ChipLocation, name_places
from spacex.dataset_building.request import DatasetRequest, LabelSource
from spacex.dataset_building.sampling import draw
from spacex.errors import DataError
from spacex.execution.tasks import Status, TileTask
from spacex.execution.tile_order import tile_order
from spacex.grid import Grid
from spacex.sentinel2.catalogue_profiles import get_catalogue
from spacex.sentinel2.read_estimate import ReadEstimator, Work, bytes_to_fetch
from spacex.sentinel2.scene_list import Scenes
from spacex.sentinel2.scene_search import search
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, footprint_in
from spacex.vectors import Polygons, read_polygons

OPTION = {NATURAL: "--natural", HUMAN: "--anthropogenic"}
OUTLINE = 0.01
"""Degrees by which the area's outline is cut before it is projected."""
CHIP_BYTES = 500_000
"""Bytes of a chip's three files: 470 kB for one of the embedded country, of which the ten bands take nearly all."""


@dataclass(frozen=True)
class DatasetPlan:
    """A request, worked out. Making one reads no pixel of a scene and writes nothing."""

    request: DatasetRequest
    scenes: Scenes
    """All that can touch the chips, in one step."""
    places: tuple[ChipLocation, ...]
    """Where the chips lie."""
    statuses: dict[TileTask, Status]
    """What is known of each tile that holds chips."""
    exists: bool = False
    """True if the output holds a set with this fingerprint."""

    @cached_property
    def todo(self) -> tuple[TileTask, ...]:
        """Tiles this run will make, in their order: new ones and, again, those quarantined before."""
        left = (task for task, status in self.statuses.items() if status in (Status.PENDING, Status.FAILED))
        return tuple(tile_order(left))

    @property
    def counts(self) -> Counter[Status]:
        """Number of tiles by status."""
        return Counter(self.statuses.values())

    @cached_property
    def work(self) -> Work:
        """Chips to make, and what is expected to be read for them."""
        request, total, todo = self.request, Work(), set(self.todo)
        grid = Grid(request.crs, request.resolution)
        forecast = ReadEstimator(self.scenes[0], grid, request.composite.enough)
        for place in self.places:
            if place.task in todo:
                expected = forecast.of(place.window)
                total.chips += 1
                total.scene_reads += expected.scenes
                total.pixels_read += expected.pixels
                total.pixels_classified += expected.classified
                total.pixels_written += place.window.height * place.window.width
        return total

    @property
    def bytes_to_read(self) -> int:
        """Bytes to fetch from the scenes, expected."""
        return bytes_to_fetch(self.work, len(self.request.bands), self.request.resolution)

    def describe(self) -> dict[str, Any]:
        """The plan as plain numbers, for the terminal and for `plan.json`."""
        made = self.counts
        return {
            "chips": counts(self.places),
            "tiles": {
                "new": made[Status.PENDING],
                "redo": made[Status.FAILED],
                "done": made[Status.DONE] + made[Status.NO_DATA],
            },
            "chips_to_make": self.work.chips,
            "scenes": sum(len(step) for step in self.scenes),
            "scene_reads": round(self.work.scene_reads),
            "bytes_to_read": self.bytes_to_read,
            "bytes_to_store": self.work.chips * CHIP_BYTES,
        }


def make_plan(request: DatasetRequest, folder: DatasetFolder) -> DatasetPlan:
    """Work out a request against its statements, its catalogue and its output.

    A set that is there keeps its places and scenes: neither statements nor catalogue are asked again.

    Raises:
        DataError: if a statement cannot be read or nothing can be drawn from it, or the output is something else.
        CatalogueError: if the catalogue fails or has no scene.
    """
    request.check()
    known, fingerprint = folder.fingerprint(), request.fingerprint()
    if known is not None and known != fingerprint:
        raise DataError(
            f"{folder.root} was made by another request, other files or other code", got=f"fingerprint {known}",
            expected=fingerprint, do="Repeat the command that made it, or choose another --output.",
        )  # fmt: skip
    if known is not None:
        return refresh(DatasetPlan(request, folder.scenes(), folder.places(), {}), folder)
    scenes, places = find_places(request)
    return DatasetPlan(request, [scenes], places, dict.fromkeys(_tasks(places), Status.PENDING))


def refresh(plan: DatasetPlan, folder: DatasetFolder) -> DatasetPlan:
    """The plan by what the output holds now."""
    exists = folder.fingerprint() is not None
    told = {task: folder.status(task) if exists else Status.PENDING for task in _tasks(plan.places)}
    return replace(plan, statuses=told, exists=exists)


def _tasks(places: tuple[ChipLocation, ...]) -> list[TileTask]:
    return sorted({place.task for place in places})


def find_places(request: DatasetRequest) -> tuple[list[Scene], tuple[ChipLocation, ...]]:
    """Read the statements, ask the catalogue, and draw: the scenes that can touch the land, and the chips' places."""
    grid = Grid(request.crs, request.resolution)
    natural, human = _read(request.natural, "--natural"), _read(request.anthropogenic, "--anthropogenic")
    assert natural is not None
    if request.land_cover is not None:
        check_cover(request.land_cover.file)
    tame = np.empty(0, dtype=object) if human is None else human.projected(request.crs)
    land = LabelGrid(grid, natural.projected(request.crs), tame, request.land_cover)
    reach = _reach(request, land)
    squares = land.squares(reach)
    if not squares:
        raise DataError("no polygon lies in the area", do="Look at --bbox or --area, and at the files' CRS.")
    found = Candidates.joined([land.look(square, request.draw.share) for square in squares])
    found = found.take(shapely.covers(reach, found.boxes(grid)))
    _check_both(found, land, request.draw.share, "lies in its class within the area" if request.area else "does")
    scenes = _search(request, shapely.union_all([land.box(square) for square in squares]).intersection(reach))
    seen = found.take(shapely.covers(_ground(scenes, request.crs), found.boxes(grid)))
    for label, option in OPTION.items():
        if not (seen.label == label).any():
            raise DataError(f"no polygon of {option} lies in reach of a scene", got=f"{len(scenes)} scenes",
                            do="Look at --datetime, at --catalogue, and at the files' CRS.")  # fmt: skip
    drawn = seen.take(draw(seen, request.draw, request.resolution))
    if not len(drawn):
        raise DataError("no chip of one class can be drawn beside one of the other", got=f"{request.draw.distance:g} m",
                        do="Lower --distance, or widen the area.")  # fmt: skip
    return scenes, name_places(drawn, grid, natural, tame)


def _read(statement: LabelSource | None, option: str) -> Polygons | None:
    return None if statement is None else read_polygons(statement.file, statement.where, option)


def _reach(request: DatasetRequest, land: LabelGrid) -> BaseGeometry:
    """Where chips may lie, in the grid's CRS: the area asked for, or the rectangle around all polygons."""
    if request.area is None:
        reach = land.extent.buffer(request.side, join_style="mitre")  # a chip may lie partly outside
    else:
        area = Geometry(shape(request.area), "EPSG:4326").to_crs(request.crs, resolution=OUTLINE)
        reach = area.geom
    if reach.is_empty or not np.isfinite(reach.bounds).all():
        raise DataError(f"the area cannot be projected to {request.crs}", do="Choose another --crs or area.")
    shapely.prepare(reach)
    return reach


def _check_both(found: Candidates, land: LabelGrid, share: float, does: str) -> None:
    for label, option in OPTION.items():
        if not (found.label == label).any():
            best = land.best[label]
            got = f"{best:.2f} at most" if best < share else f"{best:.2f}, but no chip that {does}"
            raise DataError(f"no chip has the share of the class that {option} states", got=got,
                            expected=f"at least {share:g}", do="Lower --share, or widen the area.")  # fmt: skip


def _search(request: DatasetRequest, land: BaseGeometry) -> list[Scene]:
    catalogue = get_catalogue(request.catalogue, request.stac_url, request.collection)
    catalogue.keys(request.bands)
    degrees = Geometry(land, request.crs).to_crs("EPSG:4326", resolution=20_000).geom
    limit, days = request.max_cloud_cover, "/".join(request.interval)
    return search(catalogue, degrees, days, limit, bands=request.bands, halo=0.0)


def _ground(scenes: list[Scene], crs: str) -> BaseGeometry:
    """The ground that scenes show, in a CRS."""
    outlines = [footprint_in(scene, crs).buffer(-FOOTPRINT_SLACK) for scene in scenes]
    ground = shapely.union_all(outlines)
    shapely.prepare(ground)
    return ground


def tiles_of(places: tuple[ChipLocation, ...]) -> dict[TileTask, list[ChipLocation]]:
    """The places of every tile."""
    found: dict[TileTask, list[ChipLocation]] = {}
    for place in places:
        found.setdefault(place.task, []).append(place)
    return found
