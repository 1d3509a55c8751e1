"""Extend a cube in time or area without computing finished tiles again.

A tile has the same name, pixels and chunks in every cube that has it. So later time steps only lengthen the arrays, and
an earlier step or more land moves whole chunk files to other places of larger arrays. The larger cube is made beside
the old one and takes its place when it is complete: a killed run leaves the old cube or the new one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import NDArray

from spacex.cube.attributes import consolidate
from spacex.cube.layout import TILES, CubeSpec, chunk_side, holds, variables, written_by_tiles
from spacex.cube.overviews import STAMP
from spacex.cube.statuses import FINISHED
from spacex.cube.store import Cube, create_cube
from spacex.errors import CubeError
from spacex.execution.tasks import Status
from spacex.region import Region
from spacex.storage import local_path

SHAPE = ("fingerprint", "spacex_spec", "spacex_format", "multiscales", "zarr_conventions", "Conventions", STAMP)
"""Root attributes that a new cube makes for itself, besides those of conventions (``proj:``, ``spatial:``)."""
REPLACED = ".replaced"
"""Added to the old cube's name while the larger one takes its place."""


def check_not_replaced(uri: str) -> None:
    """Refuse to begin anew where a cube was about to be replaced by a larger one.

    Raises:
        CubeError: if a run was killed in that very moment.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.exists(f"{path}{REPLACED}"):
        what = f"a run was killed while {uri} was replaced by a larger cube"
        raise CubeError(what, got=f"only {path}{REPLACED}", do="Move that back, and repeat the command.")


def carried_statuses(
    cube: Cube, region: Region, intervals: Sequence[tuple[str, str]], fresh: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """States of the extended cube's tiles: finished where the cube holds all pixels of a tile, else as in a new cube.

    Args:
        cube: before it is extended.
        region: what it will be extended to.
        intervals: the time steps it will have.
        fresh: (time, tile rows, tile columns) states of a new cube of that region.
    """
    statuses, old, before = fresh.copy(), cube.statuses(), cube.region
    steps, same_area = _steps(cube, intervals), region.area.equals(before.area)
    for row, col in cube.spec.tiling:
        window = region.tiling.window(row, col)
        # a tile that the new area gives further pixels is computed again as a whole
        if same_area or (region.inside(window) == before.inside(window)).all():
            here = (steps, *region.tiling.position(row, col))
            tile = old[(slice(None), *cube.spec.tiling.position(row, col))]
            statuses[here] = np.where(np.isin(tile, FINISHED), tile, statuses[here])
    return statuses


def extend_cube(cube: Cube, spec: CubeSpec, request: Mapping[str, Any], statuses: NDArray[np.uint8]) -> Cube:
    """Make room in a cube for more time steps and more land; finished tiles keep their chunks.

    Args:
        cube: before it is extended.
        spec: of the extended cube; it has all time steps and all tiles of the cube.
        request: of the extended cube, as JSON.
        statuses: from `carried_statuses`.

    Returns:
        The extended cube, at the same URI.
    """
    # with a step before others, as with land in the north or west, chunks get other names
    if spec.stored == cube.spec.stored and spec.intervals[: len(cube.spec.intervals)] == cube.spec.intervals:
        _lengthen(cube, spec, request, statuses)
    else:
        _enlarge(cube, spec, request, statuses)
    return Cube(cube.uri)


def _steps(cube: Cube, intervals: Sequence[tuple[str, str]]) -> list[int]:
    """The place that each time step of a cube has among those of the extended one."""
    return [list(intervals).index(days) for days in cube.spec.intervals]


def _lengthen(cube: Cube, spec: CubeSpec, request: Mapping[str, Any], statuses: NDArray[np.uint8]) -> None:
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
    # a finished tile that gets further pixels must be pending before the request says that it has them
    root[f"{TILES}/status"][...] = statuses  # type: ignore[index]
    root.update_attributes({"request": json.dumps(request), "spacex_spec": spec.model_dump_json()})
    consolidate(cube.uri)


def _enlarge(cube: Cube, spec: CubeSpec, request: Mapping[str, Any], statuses: NDArray[np.uint8]) -> None:
    """A larger cube beside the old one, with the chunks of its finished tiles; it takes its place at the end."""
    uri = cube.uri.rstrip("/")
    aside = f"{uri.removesuffix('.zarr')}.growing.zarr"
    _remove(aside)
    about = {name: value for name, value in cube.attributes.items() if name not in SHAPE and ":" not in name}
    larger = create_cube(aside, spec, cube.fingerprint, {**about, "request": request})
    kept = np.isin(statuses, FINISHED)
    larger.mark(np.where(kept, Status.PENDING, statuses).astype(np.uint8))

    (fs, path), target = fsspec.core.url_to_fs(uri), fsspec.core.url_to_fs(aside)[1]
    fs.invalidate_cache()  # object stores remember listings from before
    files = [file.removeprefix(f"{path}/") for file in fs.find(path)]
    copies = {f"{path}/{old}": f"{target}/{new}" for old, new in _moved_chunks(cube, spec, kept, files).items()}
    on_disk = local_path(uri) is not None
    if on_disk:
        for old, new in copies.items():
            _link(Path(old), Path(new))
    elif copies:
        fs.copy(list(copies), list(copies.values()), on_error="raise")

    _move(fs, path, f"{path}{REPLACED}", at_once=on_disk)
    _move(fs, target, path, at_once=on_disk)
    _remove(f"{uri}{REPLACED}")


def _moved_chunks(cube: Cube, spec: CubeSpec, kept: NDArray[np.bool_], files: Iterable[str]) -> dict[str, str]:
    """New name of every chunk file that belongs to a tile which is kept; chunks that tiles share are made anew."""
    # chunks along the side of a tile, for every array whose chunks each belong to one tile
    per_tile = {f"{TILES}/status": 1, f"{TILES}/provenance": 1}
    for variable in variables(spec):
        for level in range(cube.spec.levels):
            if holds(variable, level) and written_by_tiles(spec, variable, level):
                side = chunk_side(spec, variable, level)
                per_tile[f"{level}/{variable.name}"] = (spec.tile_size >> level) // side
    before, after = cube.spec.tiling.tiles, spec.tiling.tiles
    down, right = before.row - after.row, before.col - after.col
    steps, moved = _steps(cube, spec.intervals), {}
    for file in files:
        array, _, key = file.partition("/c/")
        if array not in per_tile or not re.fullmatch(r"\d+(/\d+)+", key):
            continue  # metadata, or what a killed writer left behind
        count = per_tile[array]
        time, *band, row, col = map(int, key.split("/"))
        step = steps[time]
        if kept[step, row // count + down, col // count + right]:
            place = step, *band, row + down * count, col + right * count
            moved[file] = f"{array}/c/{'/'.join(map(str, place))}"
    return moved


def _link(old: Path, new: Path) -> None:
    """Give a chunk file a second name. Chunks are replaced and never changed, so neither cube changes the other's."""
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links
        shutil.copyfile(old, new)


def _move(fs: Any, source: str, target: str, *, at_once: bool) -> None:
    """A folder under another name: at once on a disk, on object stores file by file and the old ones removed last."""
    if at_once:
        fs.mv(source, target, recursive=True)
        return
    fs.invalidate_cache()
    files = fs.find(source)  # not `mv`: it would copy what it takes for folders too, and fail
    fs.copy(files, [f"{target}{file.removeprefix(source)}" for file in files], on_error="raise")
    fs.rm(source, recursive=True)


def _remove(uri: str) -> None:
    fs, path = fsspec.core.url_to_fs(uri)
    fs.invalidate_cache()
    if fs.exists(path):
        fs.rm(path, recursive=True)
