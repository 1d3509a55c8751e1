"""The Zarr cube: created once by the driver, then filled tile by tile, each tile by one owner.

Layout (Zarr format 3, chunks of 512 × 512, bits shuffled and compressed, with checksum)::

    0/                      full resolution
      attribution, …        (time, y, x)  float32, NaN = no data, mantissa rounded to `KEEP_BITS`
      naturalness           (time, y, x)  uint8, 0 = no data, value = 0.004 * code - 0.004
      observations          (time, y, x)  uint16, clear observations behind the composite
    1/, 2/, …               the same maps at half the resolution each, and the `composite`, down to one chunk
    tiles/                  status, provenance  (time, tile_y, tile_x), one chunk per tile

A tile is a whole number of chunks at full resolution and at the overviews it writes, so no two writers ever share
one. Its data is written and synced first, then its provenance, and its status last: a killed run leaves every tile
either done or not done. Nothing is read back and changed, so writing a tile twice changes nothing. Overviews whose
chunks span several tiles are made when a run ends (`spacex.cube.overviews`).
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import NDArray

from spacex.cube.encoding import Variable, halve
from spacex.cube.layout import (
    FORMAT,
    TILES,
    CubeSpec,
    create,
    holds,
    levels_attributes,
    variables,
    written_by_tiles,
)
from spacex.errors import CubeError
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Grid, Window
from spacex.storage import local_path

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

OBJECTS = ("request", "checkpoint")
"""Attributes of the root that are objects, kept as JSON text: NetCDF has no other way to hold them."""


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
        check_format(uri, found)
        self.attributes = found
        self.spec = CubeSpec.model_validate_json(found["spacex_spec"])
        self.fingerprint = str(found["fingerprint"])
        self.grid = Grid(self.spec.crs, self.spec.resolution)
        self.extent = Window(*self.spec.extent)
        self.tiling = self.spec.tiling
        self._group = zarr.open_group(uri, mode="r+", use_consolidated=False)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._root = local_path(uri)

    def window(self, task: TileTask) -> Window:
        """The pixels this task owns."""
        return self.tiling.window(task.row, task.col)

    def write(self, task: TileTask, tile: TileMaps) -> None:
        """Write a tile's data at full resolution and in the overviews it owns, and see it safely down."""
        given: dict[str, NDArray[Any]] = {**tile.maps, "observations": tile.observations, "composite": tile.composite}
        for variable in variables(self.spec):
            values = given[variable.name]
            for _ in range(variable.first):
                values = halve(values)
            for level in range(variable.first, self.spec.levels):
                if not holds(variable, level) or not written_by_tiles(self.spec, variable, level):
                    break
                block = variable.encode(values)
                size = self.spec.tile_size >> level
                self.put(variable, level, task.time, task.row * size, task.col * size, block)
                values = halve(variable.decode(block))

    def put(self, variable: Variable, level: int, time: int, row: int, col: int, block: NDArray[Any]) -> None:
        """Write whole chunks of one variable, and see them safely down.

        Args:
            variable: what to write.
            level: into which level.
            time: index of the time step.
            row: first row of the block, at that level; a multiple of the chunk.
            col: first column.
            block: (…, height, width), encoded.
        """
        array = self.array(f"{level}/{variable.name}")
        rows, cols = slice(row, row + block.shape[-2]), slice(col, col + block.shape[-1])
        array[(time, ..., rows, cols)] = block
        if self._root is not None:
            prefix = self._root / str(level) / variable.name / "c" / str(time) / ("0" if variable.bands else "")
            chunk = array.chunks[-1]
            for i in range(rows.start // chunk, -(-rows.stop // chunk)):
                for j in range(cols.start // chunk, -(-cols.stop // chunk)):
                    _sync(prefix / str(i) / str(j))

    def array(self, name: str) -> zarr.Array[Any]:
        """An array of the cube, by its path from the root."""
        if name not in self._arrays:
            found = self._group[name]
            if not isinstance(found, zarr.Array):
                raise CubeError(f"{name} in {self.uri} is no array", do="The cube is damaged; make it anew.")
            self._arrays[name] = found
        return self._arrays[name]

    def forget(self) -> None:
        """Look at every array's shape anew: they were lengthened."""
        self._arrays.clear()

    def finish(self, task: TileTask, status: Status, provenance: Mapping[str, Any]) -> None:
        """Record how a tile was made and then, last of all, that it is finished."""
        where = task.time, task.row, task.col
        self.array(f"{TILES}/provenance")[where] = json.dumps(provenance, separators=(",", ":"))
        self.array(f"{TILES}/status")[where] = int(status)
        if self._root is not None:
            _sync(self._root / TILES / "status" / "c" / str(task.time) / str(task.row) / str(task.col))

    def statuses(self) -> NDArray[np.uint8]:
        """(time, tile rows, tile columns) uint8 of `Status` values."""
        return read_statuses(self.array(f"{TILES}/status"))

    def mark(self, statuses: NDArray[np.uint8]) -> None:
        """Write many statuses at once (the driver, before any worker starts)."""
        self.array(f"{TILES}/status")[...] = statuses

    def provenance(self, task: TileTask) -> dict[str, Any]:
        """How a tile was made; empty if it was not yet."""
        text = np.asarray(self.array(f"{TILES}/provenance")[task.time, task.row, task.col])
        return dict(json.loads(str(text[()]) or "{}"))

    def levels_there(self) -> int:
        """Number of levels that are up to date, as the root says now; less than all in a run."""
        return len((read_attributes(self.uri) or {})["multiscales"]["layout"])

    def name_levels(self, levels: int, attributes: Mapping[str, str]) -> None:
        """Say in the root's attributes which levels are there, in one write.

        Args:
            levels: how many, from full resolution on.
            attributes: further attributes of the root to set.
        """
        there = levels_attributes(self.spec, levels)
        # opened with its consolidated metadata, which is written back with the attributes
        with zarr.config.set({"json_indent": None}):
            zarr.open_group(self.uri, mode="r+").update_attributes({**there, **attributes})


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
    words = {name: value for name, value in attributes.items() if isinstance(value, str)}
    for level in range(spec.levels):
        # a subset saved from any level keeps its title and licence
        zarr.open_group(uri, mode="r+", path=str(level)).update_attributes(words)
    objects = {name: json.dumps(value) for name, value in attributes.items() if name not in words}
    own = {"fingerprint": fingerprint, "spacex_spec": spec.model_dump_json()}
    group.update_attributes({**words, **objects, **own})
    consolidate(uri)
    return Cube(uri)


def check_format(uri: str, attributes: Mapping[str, Any]) -> None:
    """See that a cube has the layout this version writes.

    Raises:
        CubeError: if it was made by another version.
    """
    if attributes.get("spacex_format") != FORMAT:
        raise CubeError(
            f"{uri} was made by another version of SpacEX",
            got=f"spacex_format {attributes.get('spacex_format')}",
            expected=FORMAT,
            do="spacex.cube.reader.open_cube reads it; to map on, choose another --output.",
        )


def consolidate(uri: str) -> None:
    """Gather all metadata in the root, so that remote readers open the cube with one request."""
    with warnings.catch_warnings(), zarr.config.set({"json_indent": None}):
        # zarr warns that consolidated metadata is no part of the v3 specification; xarray and OpenLayers use it
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(uri)


def read_attributes(uri: str) -> dict[str, Any] | None:
    """Attributes of the store's root group, or None if nothing is there; those kept as JSON text are decoded.

    Raises:
        CubeError: if something else than a Zarr group is there, or it cannot be reached.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        if fs.exists(f"{path}/zarr.json"):
            return _decoded(json.loads(fs.cat_file(f"{path}/zarr.json")).get("attributes", {}))
        if fs.exists(path) and fs.find(path, maxdepth=1):
            raise CubeError(f"{uri} exists and is not a SpacEX cube", do="Choose another --output.")
    except CubeError:
        raise
    except Exception as error:
        raise CubeError(f"cannot reach {uri}", got=f"{type(error).__name__}: {error}") from error
    return None


def read_statuses(array: zarr.Array[Any]) -> NDArray[np.uint8]:
    """The states of all tiles; one whose chunk cannot be decoded (cut short by a full disk) is *not yet* done."""
    try:
        return np.asarray(array[...], dtype=np.uint8)
    except OSError:  # the store is out of reach: that says nothing about the tiles
        raise
    except Exception:
        found = np.full(array.shape, Status.PENDING, np.uint8)
    for where in np.ndindex(array.shape):
        try:
            found[where] = array[where]
        except OSError:
            raise
        except Exception as error:
            task = TileTask(*map(int, where))
            log.warning("the state of tile %s cannot be read (%s): it counts as not yet done", task, error)
    return found


def _decoded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(value) if name in OBJECTS and isinstance(value, str) else value
        for name, value in attributes.items()
    }


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
