"""Statuses of a cube's tiles as arrays (time, tile row, tile column) of `Status` values."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from spacex.execution.tasks import Status, TileTask
from spacex.grid import Tiling
from spacex.region import Region

log = logging.getLogger(__name__)

FINISHED = (Status.DONE, Status.NO_DATA)
"""Statuses of tiles that no run computes again."""


def new_statuses(region: Region, steps: int) -> NDArray[np.uint8]:
    """Statuses of a new cube: *outside* where a tile does not touch the area, else *pending*."""
    one_step = np.where(region.touched, Status.PENDING, Status.OUTSIDE).astype(np.uint8)
    return np.repeat(one_step[None], steps, axis=0)


def tasks_where(mask: NDArray[np.bool_], tiling: Tiling) -> list[TileTask]:
    """The tiles for which a mask (time, tile row, tile column) is true, in row-major order."""
    first = tiling.tiles
    return [TileTask(int(time), int(row) + first.row, int(col) + first.col) for time, row, col in np.argwhere(mask)]


def read_statuses(array: zarr.Array[Any], tiling: Tiling) -> NDArray[np.uint8]:
    """Read a cube's statuses; a tile whose status cannot be decoded (truncated by a full disk) is *pending*.

    Raises:
        OSError: if the store cannot be reached; the tiles may be intact, so none is taken for pending.
    """
    try:
        return np.asarray(array[...], dtype=np.uint8)
    except OSError:
        raise
    except Exception:
        # some chunk is damaged: read them one by one to learn which
        statuses = np.full(array.shape, Status.PENDING, np.uint8)
    for task, where in zip(tasks_where(statuses == Status.PENDING, tiling), np.ndindex(array.shape), strict=True):
        try:
            statuses[where] = array[where]
        except OSError:
            raise
        except Exception as error:
            log.warning("the state of tile %s cannot be read (%s): it counts as pending", task, error)
    return statuses
