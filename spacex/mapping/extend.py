"""More time, more land: what a cube keeps when it is asked for more, and how room is made for the rest.

The fingerprint names what decides a pixel: settings, checkpoint, code. Area and time steps decide only which pixels
there are, so a cube may take more of both, and a pixel that is there is never computed again unless its tile holds
others that are not. More time lengthens the arrays in place. More land moves the cube's corner, and with it tiles and
chunks: the grown cube is made beside the old one, finished tiles are cut anew from what is stored, and it takes the
old one's place when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import numpy as np
import shapely
import zarr
from numpy.typing import NDArray
from shapely.geometry import mapping, shape

from spacex.checkpoint import Checkpoint
from spacex.cube.encoding import halve
from spacex.cube.layout import CubeSpec, holds, variables, written_by_tiles
from spacex.cube.overviews import STAMP
from spacex.cube.store import Cube, consolidate, create_cube
from spacex.errors import CubeError
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Window
from spacex.mapping.request import MapRequest
from spacex.model_card import Card
from spacex.pixel_code import code_digest
from spacex.region import Region
from spacex.storage import local_path

EXTENT = ("area", "intervals")
"""Fields of a request that say which pixels there are, not what they are."""
SHAPE = ("fingerprint", "spacex_spec", "spacex_format", "multiscales", "zarr_conventions", "Conventions", STAMP)
"""Root attributes that a new cube makes for itself, besides those of conventions (``proj:``, ``spatial:``)."""
REPLACED = ".replaced"
"""Added to the old cube's name while the larger one takes its place."""
FINISHED = (Status.DONE, Status.NO_DATA)


def reconcile(uri: str, found: Mapping[str, Any], asked: MapRequest, checkpoint: Checkpoint, grow: bool) -> MapRequest:
    """What a run over an existing cube is about: its own request, or that and what is asked for besides.

    Args:
        uri: of the cube.
        found: its attributes.
        asked: the request.
        checkpoint: the networks.
        grow: whether the cube may take more than it was made for.

    Raises:
        CubeError: if other settings, networks or code made it, with every difference named; or if it would have to
            grow and may not.
    """
    made, now = found.get("fingerprint"), asked.fingerprint(checkpoint)
    if made != now:
        raise CubeError(
            f"{uri} was made by another request, checkpoint or code",
            got=f"fingerprint {made}, where {', '.join(differences(found, asked, checkpoint.card))}",
            expected=now,
            do="Repeat the command that made it, or choose another --output.",
        )
    stored = MapRequest.model_validate(found["request"])
    if _same_extent(stored, asked):
        return asked
    if not grow:
        raise CubeError(
            f"{uri} was made for another area or other days",
            got=_told(asked),
            expected=_told(stored),
            do="Repeat the command that made it, let it --grow by what it lacks, or choose another --output.",
        )
    whole = grown(stored, asked)
    return asked.model_copy(update={name: getattr(whole, name) for name in EXTENT})


def check_not_replaced(uri: str) -> None:
    """Refuse to begin anew where a cube was about to be replaced by a larger one.

    Raises:
        CubeError: if a run was killed in that very moment.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.exists(f"{path}{REPLACED}"):
        what = f"a run was killed while {uri} was replaced by a larger cube"
        raise CubeError(what, got=f"only {path}{REPLACED}", do="Move that back, and repeat the command.")


def grown(stored: MapRequest, asked: MapRequest) -> MapRequest:
    """The stored request with the asked one's further time steps, at the end, and the union of both areas."""
    there, wanted = shape(stored.area), shape(asked.area)
    area = stored.area if there.covers(wanted) else mapping(shapely.union(there, wanted))
    later = tuple(interval for interval in asked.intervals if interval not in stored.intervals)
    return stored.model_copy(update={"area": area, "intervals": (*stored.intervals, *later)})


def differences(found: Mapping[str, Any], asked: MapRequest, card: Card) -> list[str]:
    """Where a cube's making differs from what is asked, field by field."""
    made = _flat({"request": found.get("request", {}), "checkpoint": found.get("checkpoint", {})})
    plain = asked.model_dump(mode="json", exclude=set(EXTENT))
    now = _flat({"request": plain, "checkpoint": card.model_dump(mode="json", exclude={"metrics", "training"})})
    made, now = (side | {"code": code} for side, code in ((made, found.get("spacex_code")), (now, code_digest())))
    skipped = tuple(f"request.{name}" for name in EXTENT) + ("request.stac_url",) * (asked.catalogue == "demo")
    names = [name for name in sorted(made | now) if not name.startswith(skipped)]
    return [
        f"{name.removeprefix('request.')} was {made.get(name)} and is now {now.get(name)}"
        for name in names
        if made.get(name) != now.get(name)
    ]


def fits(cube: Cube, request: MapRequest) -> bool:
    """Whether a cube already has room for all a request asks for."""
    return _same_extent(_request(cube), request)


def carried(cube: Cube, request: MapRequest, fresh: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """States of the grown cube's tiles: finished where the cube holds all their pixels, else as in a fresh one.

    Args:
        cube: as it is.
        request: what it will be made for.
        fresh: (time, tile rows, tile columns) states of a fresh cube of that request.
    """
    states, region, before = fresh.copy(), request.region, _region(cube)
    old, same_land = cube.statuses(), _same_area(request, _request(cube))
    for row, col in region.tiling:
        window = region.tiling.window(row, col)
        if fresh[0, row, col] == Status.OUTSIDE:
            continue
        if not same_land and (region.inside(window) != before.inside(window)).any():
            continue
        below = [old[:, r, c] for r, c in _under(cube, window)]
        # where the outline only grazes the old cube there may be no old tile at all
        kept = [states_of for states_of in below if not (states_of == Status.OUTSIDE).all()]
        for time in range(len(old)):
            here = {int(states_of[time]) for states_of in kept}
            if here and here <= set(FINISHED):
                states[time, row, col] = Status.DONE if Status.DONE in here else Status.NO_DATA
    return states


def make_room(cube: Cube, request: MapRequest, card: Card, statuses: NDArray[np.uint8]) -> Cube:
    """Give a cube room for a request that asks for more; finished tiles stay as they are.

    Args:
        cube: as it is.
        request: from `reconcile`.
        card: of the networks.
        statuses: from `carried`.
    """
    spec = request.spec(card)
    if spec.model_copy(update={"intervals": cube.spec.intervals}) == cube.spec:
        return _lengthen(cube, spec, request, statuses)
    return _recut(cube, spec, request, statuses)


def _lengthen(cube: Cube, spec: CubeSpec, request: MapRequest, statuses: NDArray[np.uint8]) -> Cube:
    """More time steps at the end of every array; the spec, which says how many count, is written last."""
    steps = len(spec.intervals)
    days = np.array(spec.intervals, dtype="datetime64[D]").astype("int64")
    root = zarr.open_group(cube.uri, mode="r+", use_consolidated=False)
    for _, group in root.groups():
        for name, array in group.arrays():
            if "time" in (array.metadata.dimension_names or ()):  # type: ignore[union-attr]
                array.resize((steps, *array.shape[1:]))
            if name in ("time", "time_bounds"):
                array[...] = days if name == "time_bounds" else days[:, 0]
    cube.forget()
    cube.mark(statuses)
    _describe(cube.uri, request, spec)
    return Cube(cube.uri)


def _recut(cube: Cube, spec: CubeSpec, request: MapRequest, statuses: NDArray[np.uint8]) -> Cube:
    """A larger cube beside the old one, finished tiles cut from it as they are stored, in its place at the end."""
    aside = f"{cube.uri.rstrip('/').removesuffix('.zarr')}.growing.zarr"
    _remove(aside)
    told = {name: value for name, value in cube.attributes.items() if name not in SHAPE and ":" not in name}
    target = create_cube(aside, spec, cube.fingerprint, {**told, "request": request.model_dump(mode="json")})
    target.mark(np.where(np.isin(statuses, FINISHED), Status.PENDING, statuses).astype(np.uint8))
    before = cube.statuses()
    for time, row, col in np.argwhere(np.isin(statuses, FINISHED)):
        _cut(cube, target, TileTask(int(time), int(row), int(col)), before)
    fs, path = fsspec.core.url_to_fs(cube.uri)
    replaced, there = f"{path}{REPLACED}", local_path(cube.uri) is not None
    _move(fs, path, replaced, at_once=there)
    _move(fs, fsspec.core.url_to_fs(aside)[1], path, at_once=there)
    _remove(f"{cube.uri.rstrip('/')}{REPLACED}")
    return Cube(cube.uri)


def _cut(cube: Cube, target: Cube, task: TileTask, statuses: NDArray[np.uint8]) -> None:
    """One finished tile, from the stored values: what its own run would have written, to the bit."""
    window, filled = target.window(task), False
    for variable in variables(target.spec):
        level = variable.first
        block = _stored(cube, variable.name, variable.fill, level, task.time, window)
        filled |= variable.name == "naturalness" and bool((block != variable.fill).any())
        while level < target.spec.levels and holds(variable, level) and written_by_tiles(target.spec, variable, level):
            size = target.spec.tile_size >> level
            target.put(variable, level, task.time, task.row * size, task.col * size, block)
            block, level = variable.encode(halve(variable.decode(block))), level + 1
    under = [TileTask(task.time, row, col) for row, col in _under(cube, window)]
    sources = {str(one): cube.provenance(one) for one in under if statuses[one.time, one.row, one.col] in FINISHED}
    provenance = next(iter(sources.values())) if len(sources) == 1 else {"cut_from": sources}
    target.finish(task, Status.DONE if filled else Status.NO_DATA, provenance)


def _stored(cube: Cube, name: str, fill: float | int, level: int, time: int, window: Window) -> NDArray[Any]:
    """Stored values of a window of full-resolution pixels at a level; no data where the cube has no pixels."""
    array, factor = cube.array(f"{level}/{name}"), 2**level
    here = window.intersect(cube.extent)
    size = (-(-window.height // factor), -(-window.width // factor))
    block = np.full((*array.shape[1:-2], *size), fill, array.dtype)
    if not here.empty:
        rows, cols = _halved(here.slices(window), factor)
        there = _halved(here.slices(cube.extent), factor)
        block[..., rows, cols] = array[(time, ..., *there)]
    return block


def _halved(slices: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    # corners of cubes lie on whole kilometres, so they are whole pixels of the first overviews too
    rows, cols = (slice(one.start // factor, -(-one.stop // factor)) for one in slices)
    return rows, cols


def _under(cube: Cube, window: Window) -> Iterator[tuple[int, int]]:
    """The cube's tiles that share pixels with a window."""
    here, size = window.intersect(cube.extent), cube.spec.tile_size
    if here.empty:
        return
    rows, cols = here.slices(cube.extent)
    for row in range(rows.start // size, (rows.stop - 1) // size + 1):
        for col in range(cols.start // size, (cols.stop - 1) // size + 1):
            yield row, col


def _describe(uri: str, request: MapRequest, spec: CubeSpec) -> None:
    """The grown request and shape, in one write, and the metadata gathered again."""
    grown_to = {"request": json.dumps(request.model_dump(mode="json")), "spacex_spec": spec.model_dump_json()}
    zarr.open_group(uri, mode="r+", use_consolidated=False).update_attributes(grown_to)
    consolidate(uri)


def _same_extent(one: MapRequest, other: MapRequest) -> bool:
    return one.intervals == other.intervals and _same_area(one, other)


def _same_area(one: MapRequest, other: MapRequest) -> bool:
    here, there = shape(one.area), shape(other.area)
    # corner by corner first: a country has 60,000
    return bool(here == there or here.equals(there))


def _request(cube: Cube) -> MapRequest:
    return MapRequest.model_validate(cube.attributes["request"])


def _region(cube: Cube) -> Region:
    return Region(shape(cube.attributes["request"]["area"]), cube.grid, cube.spec.tile_size)


def _told(request: MapRequest) -> str:
    days = ", ".join("/".join(interval) for interval in request.intervals)
    return f"{days} in {tuple(round(edge, 3) for edge in shape(request.area).bounds)}"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _move(fs: Any, source: str, target: str, *, at_once: bool) -> None:
    """A folder under another name: at once on a disk, on object stores file by file and the old ones removed last."""
    if at_once:
        fs.mv(source, target, recursive=True)
        return
    fs.invalidate_cache()  # object stores remember listings from before
    files = fs.find(source)  # not `mv`: it would copy what it takes for folders too, and fail
    fs.copy(files, [f"{target}{file.removeprefix(source)}" for file in files], on_error="raise")
    fs.rm(source, recursive=True)


def _remove(uri: str) -> None:
    fs, path = fsspec.core.url_to_fs(uri)
    fs.invalidate_cache()
    if fs.exists(path):
        fs.rm(path, recursive=True)
