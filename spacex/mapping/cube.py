"""The Zarr cube: created once by the driver, then filled tile by tile, each tile by one owner.

Layout (Zarr format 3, chunks of at most 512 × 512, zstd with checksum)::

    attribution, path_attribution   (time, y, x)  float32, NaN = no data, mantissa rounded to `KEEP_BITS`
    naturalness                     (time, y, x)  uint8, 0 = no data, value = 0.004 * code - 0.004
    observations                    (time, y, x)  uint16, clear observations behind the composite
    status, provenance              (time, tile_y, tile_x)  one chunk per tile
    1/, 2/                          the same maps averaged over 2 × 2 and 4 × 4 pixels, and the `composite`

A tile is a whole number of chunks, so no two writers ever share one. Its data is written and synced first,
then its provenance, and its status last: a killed run leaves every tile either done or not done. Nothing is
read back and changed, so writing a tile twice changes nothing.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import NDArray

from spacex.errors import CubeError
from spacex.grid import Grid, Tiling, Window
from spacex.mapping.layout import LEVELS, CubeSpec, Variable, create, variables

log = logging.getLogger(__name__)

Array = NDArray[np.float32]


class Status(IntEnum):
    """What is known of a tile; the values of the cube's `status` variable."""

    NOT_YET = 0
    """Nobody has finished this tile: a resumed run computes it."""
    DONE = 1
    """Data, provenance and status are down."""
    NO_DATA = 2
    """Read, but no pixel had enough clear observations."""
    OUTSIDE = 3
    """The tile does not touch the area; it is never read."""
    FAILED = 4
    """Quarantined after repeated failures; a resumed run tries again."""


@dataclass(frozen=True, order=True)
class TileTask:
    """The unit of work: one tile at one time step. Only these names travel to the workers."""

    time: int
    """Index of the cube's time step."""
    row: int
    """Tile row, from the top."""
    col: int
    """Tile column, from the left."""

    def __str__(self) -> str:
        return f"t{self.time}-r{self.row}-c{self.col}"


@dataclass(frozen=True)
class TileMaps:
    """Everything a finished tile holds, at full resolution, on the window it owns."""

    maps: Mapping[str, Array]
    """Attribution, path attribution and naturalness by name, (height, width) float32, NaN = no data."""
    observations: NDArray[np.uint16]
    """(height, width) uint16."""
    composite: Array
    """(display bands, height, width) float32 reflectance, NaN = no data; kept in the overviews only."""


class Cube:
    """An existing cube, open for tiles to be written and statuses to be read.

    Args:
        uri: any fsspec URI ending in ``.zarr``.

    Raises:
        CubeError: if there is no complete SpacEX cube at `uri`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        found = read_attributes(uri)
        if found is None or "spacex_spec" not in found:
            raise CubeError(f"no SpacEX cube at {uri}", do="Run jobs/map_region.py with this --output first.")
        self.attributes = found
        self.spec = CubeSpec.model_validate_json(found["spacex_spec"])
        self.fingerprint = str(found["fingerprint"])
        self.grid = Grid(self.spec.crs, self.spec.resolution)
        self.extent = Window(*self.spec.extent)
        self.tiling = Tiling(self.extent, self.spec.tile_size)
        self._groups = [
            zarr.open_group(uri, mode="r+", path=path, use_consolidated=False) for path in ("", *LEVELS)
        ]
        self._root = local_path(uri)

    def window(self, task: TileTask) -> Window:
        """The pixels this task owns."""
        return self.tiling.window(task.row, task.col)

    def write(self, task: TileTask, tile: TileMaps) -> None:
        """Write a tile's data at full resolution and in the overviews, and see it safely down."""
        values: dict[str, NDArray[Any]] = {**tile.maps, "observations": tile.observations}
        for level, variable_set in enumerate(variables(self.spec)):
            for variable in variable_set:
                source = tile.composite if variable.name == "composite" else values[variable.name]
                self._put(level, variable, task, variable.encode(_shrink(source, level)))

    def _put(self, level: int, variable: Variable, task: TileTask, block: NDArray[Any]) -> None:
        factor = 2**level
        size = self.spec.tile_size // factor
        rows = slice(task.row * size, task.row * size + block.shape[-2])
        cols = slice(task.col * size, task.col * size + block.shape[-1])
        array = _array(self._groups[level], variable.name)
        array[(task.time, ..., rows, cols)] = block
        if self._root is not None:
            prefix = self._root / (LEVELS[level - 1] if level else "") / variable.name / "c" / str(task.time)
            chunk = array.chunks[-1]
            for i in range(rows.start // chunk, -(-rows.stop // chunk)):
                for j in range(cols.start // chunk, -(-cols.stop // chunk)):
                    _sync(prefix / ("0/" if block.ndim == 3 else "") / str(i) / str(j))

    def finish(self, task: TileTask, status: Status, provenance: Mapping[str, Any]) -> None:
        """Record how a tile was made and then, last of all, that it is finished."""
        where = task.time, task.row, task.col
        _array(self._groups[0], "provenance")[where] = json.dumps(provenance, separators=(",", ":"))
        _array(self._groups[0], "status")[where] = int(status)
        if self._root is not None:
            _sync(self._root / "status" / "c" / str(task.time) / str(task.row) / str(task.col))

    def statuses(self) -> NDArray[np.uint8]:
        """(time, tile rows, tile columns) uint8 of `Status` values."""
        return read_statuses(_array(self._groups[0], "status"))

    def mark(self, statuses: NDArray[np.uint8]) -> None:
        """Write many statuses at once (the driver, before any worker starts)."""
        _array(self._groups[0], "status")[...] = statuses

    def provenance(self, task: TileTask) -> dict[str, Any]:
        """How a tile was made; empty if it was not yet."""
        text = np.asarray(_array(self._groups[0], "provenance")[task.time, task.row, task.col])
        return dict(json.loads(str(text[()]) or "{}"))


def create_cube(uri: str, spec: CubeSpec, fingerprint: str, attributes: Mapping[str, Any]) -> Cube:
    """Create an empty cube: all metadata and coordinates, no data.

    The spec is written last, so a cube whose creation was killed is recognised and made anew.

    Raises:
        CubeError: if something that is not a half-made SpacEX cube is already there.
    """
    found = read_attributes(uri)
    if found is not None and ("spacex_format" not in found or "spacex_spec" in found):
        raise CubeError(f"{uri} already exists", do="Choose another --output.")
    create(uri, spec)
    group = zarr.open_group(uri, mode="r+")
    group.update_attributes({**attributes, "fingerprint": fingerprint, "spacex_spec": spec.model_dump_json()})
    consolidate(uri)
    return Cube(uri)


def consolidate(uri: str) -> None:
    """Gather all metadata in the root, so that remote readers open the cube with one request."""
    with warnings.catch_warnings():
        # zarr warns that consolidated metadata is no part of the v3 specification; xarray and OpenLayers use it
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(uri)


def read_attributes(uri: str) -> dict[str, Any] | None:
    """Attributes of the store's root group, or None if nothing is there.

    Raises:
        CubeError: if something else than a Zarr group is there, or it cannot be reached.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        if fs.exists(f"{path}/zarr.json"):
            return dict(json.loads(fs.cat_file(f"{path}/zarr.json")).get("attributes", {}))
        if fs.exists(path) and fs.find(path, maxdepth=1):
            raise CubeError(f"{uri} exists and is not a SpacEX cube", do="Choose another --output.")
    except CubeError:
        raise
    except Exception as error:
        raise CubeError(f"cannot reach {uri}", got=f"{type(error).__name__}: {error}") from error
    return None


def local_path(uri: str) -> Path | None:
    """The folder behind a local URI, or None for object stores and memory."""
    fs, path = fsspec.core.url_to_fs(uri)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return Path(path) if "file" in protocols else None


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise CubeError(f"{name} in {group.store_path} is no array", do="The cube is damaged; make it anew.")
    return found


def read_statuses(array: zarr.Array[Any]) -> NDArray[np.uint8]:
    """The states of all tiles; one whose chunk cannot be decoded (cut short by a full disk) is *not yet* done."""
    try:
        return np.asarray(array[...], dtype=np.uint8)
    except OSError:  # the store is out of reach: that says nothing about the tiles
        raise
    except Exception:
        found = np.full(array.shape, Status.NOT_YET, np.uint8)
    for where in np.ndindex(array.shape):
        try:
            found[where] = array[where]
        except OSError:
            raise
        except Exception as error:
            task = TileTask(*map(int, where))
            log.warning("the state of tile %s cannot be read (%s): it counts as not yet done", task, error)
    return found


def _shrink(values: NDArray[Any], level: int) -> NDArray[Any]:
    """Mean of the valid pixels of each 2^level × 2^level square (…, height, width)."""
    if level == 0:
        return values
    factor = 2**level
    *rest, height, width = values.shape
    squares = values.reshape(*rest, height // factor, factor, width // factor, factor)
    valid = np.isfinite(squares)
    count = valid.sum(axis=(-3, -1))
    total = np.where(valid, squares, 0).sum(axis=(-3, -1), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[Any] = (total / count).astype(np.float32)
    return means


def _sync(file: Path) -> None:
    """Force a chunk to the disk; a chunk of nothing but fill values has no file."""
    if not file.exists():
        return
    descriptor = os.open(file, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise CubeError(f"chunk {file} is empty after writing", do="Check the disk's free space.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
