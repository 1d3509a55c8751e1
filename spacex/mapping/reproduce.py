"""Computes a tile of a cube anew, from the scenes that its provenance names, and compares every bit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo import Geometry
from pyproj import Transformer
from shapely.geometry import box

from spacex.attribution.inference import numerics
from spacex.checkpoint import Checkpoint
from spacex.cube.layout import variables
from spacex.cube.statuses import FINISHED
from spacex.cube.store import Cube
from spacex.errors import CatalogueError, CheckpointError, RequestError, TileError
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.request import MapRequest
from spacex.mapping.some_tiles import map_tiles
from spacex.model_card import Card
from spacex.pixel_code import code_digest
from spacex.sentinel2.scene_list import scenes_by_interval
from spacex.sentinel2.scene_search import search
from spacex.sentinel2.scenes import PIXEL_FIELDS, Scene, touching
from spacex.storage import run_folder


@dataclass(frozen=True)
class Reproduction:
    """What came out of computing a tile anew."""

    tile: str
    """Its name."""
    variables: tuple[str, ...]
    """What was compared."""
    differing: dict[str, int]
    """Pixels that differ in any bit, by variable; none where every bit agrees."""
    scenes: dict[str, str]
    """Scenes that are not as they were, by id, and what happened to them."""
    making: dict[str, str]
    """What else was different from when the tile was made: code, library, processor; with both values."""

    @property
    def same(self) -> bool:
        """Whether every bit agrees."""
        return not self.differing


def tile_at(cube: Cube, longitude: float, latitude: float, step: int = 0) -> TileTask:
    """The tile that holds a place, in degrees, at a time step.

    Raises:
        RequestError: if the cube has none there.
    """
    x, y = Transformer.from_crs("EPSG:4326", cube.grid.crs, always_xy=True).transform(longitude, latitude)
    side = cube.grid.resolution * cube.spec.tile_size
    if not np.isfinite([x, y]).all() or (place := (int(-y // side), int(x // side))) not in cube.spec.tiling:
        raise RequestError("the cube has no tile there", got=f"{longitude:g}, {latitude:g}", expected="LON,LAT inside")
    return TileTask(step, *place)


def reproduce(cube: Cube, task: TileTask, checkpoint: Checkpoint, items: str | None = None) -> Reproduction:
    """Compute a finished tile anew and compare it with what the cube holds.

    Args:
        cube: with the tile.
        task: the tile.
        checkpoint: the networks the cube was made with.
        items: a list of scenes to take instead of the catalogue, or the list, that the cube names.

    Raises:
        RequestError: if the tile is not finished, the checkpoint is another, or none of its scenes is to be had.
        TileError: if the tile cannot be computed now.
    """
    if task.time >= len(cube.spec.intervals) or cube.statuses()[cube.position(task)] not in FINISHED:
        raise RequestError(f"tile {task} is not finished", do="Repeat the command that made the cube.")
    card, do = cube.attributes["checkpoint"], "Give the --checkpoint of the cube."
    if card["hashes"] != checkpoint.card.hashes:
        raise CheckpointError(f"{cube.uri} was made with other weights", got=checkpoint.uri, do=do)
    if Card.model_validate(card).digest != checkpoint.digest:
        raise CheckpointError(f"{cube.uri} was made with another card of these weights", got=checkpoint.uri, do=do)
    request = MapRequest.model_validate(cube.attributes["request"] | ({} if items is None else {"items": items}))
    provenance = cube.provenance(task)
    scenes, changed = _scenes(cube, request, task, checkpoint, provenance["scenes"])
    steps = [scenes if step == task.time else [] for step in range(len(request.intervals))]
    with tempfile.TemporaryDirectory() as folder:
        made, (report,) = map_tiles(request, checkpoint, steps, [task], folder)
        if report.status == Status.FAILED:
            raise TileError(f"tile {task} cannot be computed anew", got=report.reason)
        differing = {name: count for name, count in _differences(cube, made, task) if count}
    now = {"code": code_digest(), **numerics("cpu")}
    was = {"code": str(cube.attributes["spacex_code"]), **provenance.get("numerics", {})}
    making = {name: f"was {was[name]}, is {now[name]}" for name in now if name in was and was[name] != now[name]}
    return Reproduction(str(task), tuple(v.name for v in variables(cube.spec)), differing, changed, making)


def _scenes(
    cube: Cube, request: MapRequest, task: TileTask, checkpoint: Checkpoint, records: list[dict[str, Any]]
) -> tuple[list[Scene], dict[str, str]]:
    """The scenes that a tile was made of, as they are to be had now, and what happened to those that changed."""
    region = request.region
    geobox = region.grid.geobox(request.chips.padded(region.tiling.window(task.row, task.col)))
    degrees = Geometry(box(*geobox.boundingbox), request.crs).to_crs("EPSG:4326", resolution=20_000).geom
    days, profile, changed = "/".join(request.intervals[task.time]), request.profile, dict[str, str]()
    stored = scenes_by_interval(f"{run_folder(cube.uri)}/scenes.gz", request.intervals)[task.time] or []
    kept = {scene.id: scene for scene in stored}
    try:
        limit, omit = request.max_cloud_cover, request.leave_out
        hits = search(profile, degrees, days, limit, bands=checkpoint.card.bands, leave_out=omit)
    except CatalogueError as error:
        if not kept:
            raise
        hits, changed["all scenes"] = list(kept.values()), f"taken from the run's own list, for {error}"
    listed = {scene.id: scene for scene in touching(hits, geobox)}
    scenes: list[Scene] = []
    for record in records:
        name, before = record["id"], kept.get(record["id"])
        if (scene := listed.get(name, before)) is not None:
            scenes.append(scene)
        if name not in listed:
            minute, tile = record["datetime"][:16], before.tile if before else None
            again = [other.id for other in hits if other.datetime[:16] == minute and other.tile == tile]
            what = f"reprocessed as {again[0]}" if again else "gone from the catalogue"
            changed[name] = f"{what}; {'read as it was' if before else 'not read'}"
        elif record.get("processed", listed[name].processed) != listed[name].processed:
            changed[name] = f"reprocessed: was {record['processed']}, is {listed[name].processed}"
        elif before is not None and (other := _described_otherwise(before, listed[name])):
            changed[name] = f"described otherwise: {', '.join(other)}"
    used = {record["id"] for record in records}
    changed |= {name: "new in the catalogue; not used" for name in listed if name not in used}
    if records and not scenes:
        do = "Give a list that has them: --items."
        raise RequestError(f"none of the {len(records)} scenes of tile {task} is to be had", do=do)
    return scenes, changed


def _described_otherwise(before: Scene, now: Scene) -> list[str]:
    """What an item says of a scene's pixels and did not say before, but for where its files and their parts lie."""
    was, is_now = (
        {name: value for name, value in scene.to_json().items() if name != "item"}
        | {f"{key} {name}": asset.get(name) for key, asset in scene.item["assets"].items() for name in PIXEL_FIELDS}
        for scene in (before, now)
    )
    names = sorted(name for name in {*was, *is_now} if was.get(name) != is_now.get(name))
    return [f"{name} was {was.get(name)}, is {is_now.get(name)}" for name in names]


def _differences(one: Cube, other: Cube, task: TileTask) -> Iterator[tuple[str, int]]:
    """The number of pixels of a tile that differ in any bit, by variable, at the finest level of each."""
    for variable in variables(one.spec):
        first, second = (_bits(cube, variable.name, variable.first, task) for cube in (one, other))
        unequal = first != second
        yield variable.name, int(np.count_nonzero(unequal.any(axis=0) if unequal.ndim == 3 else unequal))


def _bits(cube: Cube, name: str, level: int, task: TileTask) -> NDArray[np.unsignedinteger[Any]]:
    """A tile of an array as stored, its floating-point numbers as bits: no data equals no data."""
    time, row, col = cube.position(task)
    side = cube.spec.tile_size >> level
    part = (time, ..., slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
    block = np.asarray(cube.array(f"{level}/{name}")[part])
    return block.view(f"u{block.dtype.itemsize}")
