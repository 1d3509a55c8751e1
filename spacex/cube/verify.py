"""Verify a cube: read all of it and find the tiles that were damaged after they were written.

Three kinds of damage are detected: chunks that cannot be decoded (every data chunk has a checksum); missing chunks
(all variables and overviews of a tile must have data in the same pixels); and statuses that contradict the data or the
area. Not detected: a tile all of whose chunks, at all levels, were replaced by those of another tile.
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
"""Path, array, and side of its pixels in pixels of full resolution."""


def mark_damaged(cube: Cube) -> dict[TileTask, str]:
    """Read every chunk of the cube and mark damaged tiles *pending*; call it while the run holds the lock.

    Returns:
        The damaged tiles and what is wrong with them.

    Raises:
        CubeError: if an array that belongs to no tile is damaged, or the store cannot be read.
    """
    try:
        damaged = find_damage(cube)
    except OSError as error:  # the store cannot be reached; the tiles may be intact, so none is marked
        raise CubeError(f"cannot read {cube.uri}", got=f"{type(error).__name__}: {error}") from error
    for task, damage in damaged.items():
        log.warning("tile %s is damaged and will be done again: %s", task, damage)
        cube.finish(task, Status.PENDING, {})
    return damaged


def find_damage(cube: Cube) -> dict[TileTask, str]:
    """The tiles whose data contradict their status, and how. Writes nothing."""
    maps = list(_maps(cube))
    statuses = cube.statuses()
    new = new_statuses(cube.region, len(statuses))
    tasks = tasks_where(np.ones(statuses.shape, bool), cube.spec.tiling)
    # Overviews that several tiles share are made when a run ends; until then they are out of date and not compared.
    # A pixel coarser than a tile mixes tiles, so it is never compared.
    compared = {
        path
        for path, array, factor in maps
        if array.chunks[-1] * factor <= cube.spec.tile_size
        or (up_to_date(cube, statuses) and cube.spec.tile_size % factor == 0)
    }
    check = partial(_check_tile, cube, maps, compared, statuses, new)
    with ThreadPoolExecutor(READERS) as readers:
        return {task: damage for task, damage in zip(tasks, readers.map(check, tasks), strict=True) if damage}


def _maps(cube: Cube) -> Iterator[tuple[str, zarr.Array[Any], int]]:
    """The arrays over pixels. Reads all other arrays, except those with one value per tile.

    Raises:
        CubeError: if one of those cannot be decoded.
    """
    for path, array in zarr.open_group(cube.uri, mode="r").members(max_depth=None):
        if not isinstance(array, zarr.Array):
            continue
        names = getattr(array.metadata, "dimension_names", None) or ()
        if names[-2:] == ("y", "x"):
            yield path, array, 2 ** int(path.split("/")[0])
        elif "tile_x" not in names:
            try:
                array[...]
            except OSError:
                raise
            except Exception as error:  # what a codec raises on damaged bytes depends on the codec
                advice = "Make the cube anew."
                raise CubeError(f"{path} of {cube.uri} is damaged", got=str(error), do=advice) from error


def _check_tile(
    cube: Cube, maps: Maps, compared: set[str], statuses: NDArray[np.uint8], new: NDArray[np.uint8], task: TileTask
) -> str | None:
    """What is wrong with a tile; None if nothing is."""
    position = cube.position(task)
    status = statuses[position]
    if (status == Status.OUTSIDE) != (new[position] == Status.OUTSIDE) or status > max(Status):
        return f"its state is {status}"
    if status not in FINISHED:
        return None
    try:
        return _contradiction(cube, maps, compared, task, empty=bool(status == Status.NO_DATA))
    except OSError:
        raise
    except Exception as error:  # what a codec raises on damaged bytes depends on the codec
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _contradiction(cube: Cube, maps: Maps, compared: set[str], task: TileTask, empty: bool) -> str | None:
    """Read all of a tile and compare which pixels have data in its variables and levels."""
    valid = {path: _valid(cube, array, factor, task) for path, array, factor in maps}
    if not empty and not cube.provenance(task):
        return "its provenance is gone"
    counts = {path for path in valid if path.endswith("observations")}
    data = np.logical_or.reduce([valid[path] for path, _, factor in maps if factor == 1 and path not in counts])
    if data.any() == empty:
        return "it has data, but its state says it has none" if empty else "its data are gone"
    for path, _, factor in maps:
        if path not in compared:
            continue
        # an overview pixel is valid if any pixel below it is
        firsts = np.arange(0, len(data), factor)
        expected = np.logical_or.reduceat(np.logical_or.reduceat(data, firsts), firsts, axis=1)
        # observations are counted also where no chip had enough data for a map
        wrong = expected & ~valid[path] if path in counts else expected != valid[path]
        if wrong.any():
            return f"{path} has data in other places than the rest"
    return None


def _valid(cube: Cube, array: zarr.Array[Any], factor: int, task: TileTask) -> NDArray[np.bool_]:
    """The pixels of a level where a tile has data, (height, width)."""
    size = cube.spec.tile_size
    time, *position = cube.position(task)
    rows, cols = (slice(i * size // factor, -(-(i + 1) * size // factor)) for i in position)
    block = np.asarray(array[(time, ..., rows, cols)])
    valid = np.isfinite(block) if block.dtype.kind == "f" else block != array.fill_value
    return np.asarray(valid.any(axis=0) if valid.ndim == 3 else valid)
