"""Verify a cube: read all of it once and find the tiles that were damaged after they were written.

Found are chunks that cannot be decoded (every data chunk carries a checksum); chunks that are gone, since the
variables of a tile and their overviews have data in the same places, to the pixel; and states that contradict the
data or the area. Not found is a tile all of whose chunks, at all levels, were replaced by those of another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from spacex.cube.overviews import up_to_date
from spacex.cube.statuses import FINISHED, new_statuses, tasks_where
from spacex.cube.store import Cube
from spacex.errors import CubeError
from spacex.execution.tasks import Status, TileTask

log = logging.getLogger(__name__)

READERS = 4
"""Tiles read at the same time."""

Maps = list[tuple[str, zarr.Array[Any], int]]
"""Path, array and pixels of full resolution along one side of its pixels."""


def mark_damaged(cube: Cube) -> dict[TileTask, str]:
    """Read every chunk of the cube and mark damaged tiles *pending*.

    To be called by the run that holds the lock, before it works out what is left to do.

    Returns:
        The damaged tiles and what is wrong with them.

    Raises:
        CubeError: if something is damaged that belongs to no tile, or the store cannot be read.
    """
    try:
        damaged = find_damage(cube)
    except OSError as error:  # a store out of reach says nothing about the tiles: none is marked
        raise CubeError(f"cannot read {cube.uri}", got=f"{type(error).__name__}: {error}") from error
    for task, what in damaged.items():
        log.warning("tile %s is damaged and will be done again: %s", task, what)
        cube.finish(task, Status.PENDING, {})
    return damaged


def find_damage(cube: Cube) -> dict[TileTask, str]:
    """The tiles whose data are not what their state says, and why. Writes nothing."""
    root = zarr.open_group(cube.uri, mode="r")
    maps = list(_maps(root, cube))
    states = cube.statuses()
    expected = new_statuses(cube.region, len(states))
    tasks = tasks_where(np.ones(states.shape, bool), cube.spec.tiling)
    # overviews that several tiles share are made when a run ends: until then they lag behind
    compared = {
        path
        for path, array, factor in maps
        if array.chunks[-1] * factor <= cube.spec.tile_size
        or (up_to_date(cube, states) and cube.spec.tile_size % factor == 0)
    }
    check = partial(_check_tile, cube, maps, compared, states, expected)
    with ThreadPoolExecutor(READERS) as readers:
        return {task: what for task, what in zip(tasks, readers.map(check, tasks), strict=True) if what}


def _maps(root: zarr.Group, cube: Cube) -> Iterator[tuple[str, zarr.Array[Any], int]]:
    """The arrays over pixels; all others but the tiles' own are read here, whole."""
    for path, array in root.members(max_depth=None):
        if not isinstance(array, zarr.Array):
            continue
        names = getattr(array.metadata, "dimension_names", None) or ()
        if names[-2:] == ("y", "x"):
            yield path, array, 2 ** int(path.split("/")[0])
        elif "tile_x" not in names and (why := _unreadable(array)):
            raise CubeError(f"{path} of {cube.uri} is damaged", got=why, do="Make the cube anew.")


def _unreadable(array: zarr.Array[Any]) -> str | None:
    try:
        array[...]
    except OSError:
        raise
    except Exception as error:
        return str(error)
    return None


def _check_tile(
    cube: Cube, maps: Maps, compared: set[str], states: NDArray[np.uint8], expected: NDArray[np.uint8], task: TileTask
) -> str | None:
    position = cube.position(task)
    state = states[position]
    if (state == Status.OUTSIDE) != (expected[position] == Status.OUTSIDE) or state > max(Status):
        return f"its state is {state}"
    if state not in FINISHED:
        return None
    try:
        return _contradiction(cube, maps, compared, task, empty=bool(state == Status.NO_DATA))
    except OSError:
        raise
    except Exception as error:  # each codec has its own errors for bytes that are not its own
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _contradiction(cube: Cube, maps: Maps, compared: set[str], task: TileTask, empty: bool) -> str | None:
    """Read all of a tile; where its variables and levels disagree about which pixels have data, say so."""
    known = {path: _known(cube, array, factor, task) for path, array, factor in maps}
    if not empty and not cube.provenance(task):
        return "its provenance is gone"
    counts = {path for path in known if path.endswith("observations")}
    data = np.logical_or.reduce([known[path] for path, _, factor in maps if factor == 1 and path not in counts])
    if data.any() == empty:
        return "it has data, but its state says it has none" if empty else "its data are gone"
    for path, _, factor in maps:
        if path not in compared:
            continue
        expected = _any(data, factor)
        wrong = expected & ~known[path] if path in counts else expected != known[path]
        if wrong.any():
            return f"{path} has data in other places than the rest"
    return None


def _known(cube: Cube, array: zarr.Array[Any], factor: int, task: TileTask) -> NDArray[np.bool_]:
    """(height, width) where a tile has data at this level."""
    size = cube.spec.tile_size
    time, *position = cube.position(task)
    rows, cols = (slice(i * size // factor, -(-(i + 1) * size // factor)) for i in position)
    block = np.asarray(array[(time, ..., rows, cols)])
    known = np.isfinite(block) if block.dtype.kind == "f" else block != array.fill_value
    return np.asarray(known.any(axis=0) if known.ndim == 3 else known)


def _any(data: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    height, width = data.shape
    padded = np.pad(data, ((0, -height % factor), (0, -width % factor)))
    squares = padded.reshape(-(-height // factor), factor, -(-width // factor), factor)
    return np.asarray(squares.any(axis=(1, 3)))
