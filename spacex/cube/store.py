"""The Zarr cube: created once by the driver, then filled tile by tile, each tile by one owner.

Layout (Zarr format 3, chunks of 512 × 512, bits shuffled and compressed, with checksum)::

    0/                      full resolution
      attribution, …        (time, y, x)  float32, NaN = no data, mantissa rounded to `KEEP_BITS`
      naturalness           (time, y, x)  uint8, 0 = no data, value = 0.004 * code - 0.004
      observations          (time, y, x)  uint16, clear observations behind the composite
    1/, 2/, …               the same maps at half the resolution each, and the `composite`, down to one chunk
    tiles/                  status, provenance  (time, tile_y, tile_x), one chunk per tile

The arrays cover whole tiles of the global tile lattice. A tile is a whole number of chunks at full resolution and at
the overviews it writes, so no two writers ever share one. Its data is written and synced first, then its provenance,
and its status last: a killed run leaves every tile either done or not done. Nothing is read back and changed, so
writing a tile twice changes nothing. Overviews whose chunks span several tiles are made when a run ends
(`spacex.cube.overviews`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from shapely.geometry import shape

from spacex.cube.attributes import check_format, consolidate, not_a_cube, read_attributes
from spacex.cube.encoding import Variable, downsample_2x
from spacex.cube.layout import (
    FORMAT,
    TILES,
    CubeSpec,
    create,
    holds,
    levels_attributes,
    levels_of_tiles,
    variables,
    written_by_tiles,
)
from spacex.cube.statuses import read_statuses
from spacex.errors import CubeError
from spacex.execution.tasks import Status, TileTask
from spacex.grid import Grid, Window, window_where
from spacex.region import Region
from spacex.storage import local_path

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TileMaps:
    """Everything a finished tile holds, at full resolution, on the window it owns."""

    maps: Mapping[str, Array]
    """Attribution, path attribution and naturalness by name, (height, width) float32, NaN = no data."""
    observations: NDArray[np.uint16]
    """(height, width) uint16; where it is 0, nothing else has data."""
    composite: Array
    """(display bands, height, width) float32 reflectance, NaN = no data; kept in the overviews only."""


class Cube:
    """An existing cube, open for tiles to be written and statuses to be read; one of format 2 is open for reading.

    Args:
        uri: any fsspec URI ending in ``.zarr``.
        attributes: of its root, if they have been read already.

    Raises:
        CubeError: if there is no complete SpacEX cube of a format from 2 on.
    """

    def __init__(self, uri: str, attributes: dict[str, Any] | None = None) -> None:
        self.uri = uri
        attributes = attributes or read_attributes(uri)
        if attributes is None or "spacex_spec" not in attributes:
            raise CubeError(f"no SpacEX cube at {uri}", do="Run jobs/map_region.py with this --output first.")
        check_format(uri, attributes, oldest=2)
        self.attributes = attributes
        # a spec of format 2 does not name its format
        spec = {"format": attributes["spacex_format"], **json.loads(attributes["spacex_spec"])}
        self.spec = CubeSpec.model_validate(spec)
        self.fingerprint = str(attributes["fingerprint"])
        self.grid = Grid(self.spec.crs, self.spec.resolution)
        self.extent = Window(*self.spec.extent)
        self._group = zarr.open_group(uri, mode="r+" if self.spec.format == FORMAT else "r", use_consolidated=False)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._root = local_path(uri)

    @cached_property
    def region(self) -> Region:
        """The area that was asked for."""
        return Region(shape(self.attributes["request"]["area"]), self.grid, self.spec.tile_size)

    def window(self, task: TileTask) -> Window:
        """The pixels this task owns."""
        return self.spec.tiling.window(task.row, task.col)

    def position(self, task: TileTask) -> tuple[int, int, int]:
        """The task's index in the arrays with one value per tile."""
        return (task.time, *self.spec.tiling.position(task.row, task.col))

    def write(self, task: TileTask, tile: TileMaps) -> None:
        """Write a tile's data at full resolution and in the overviews it owns, and sync it to the disk."""
        values_of: dict[str, NDArray[Any]] = {
            **tile.maps,
            "observations": tile.observations,
            "composite": tile.composite,
        }
        # of a tile at the area's edge only the part with data is encoded; its sides are whole pixels at every level
        step = 1 << levels_of_tiles(self.spec)
        cells = window_where(tile.observations > 0).coarsen(step)
        part = Window(*(step * number for number in (cells.row, cells.col, *cells.shape)))
        time, row, col = self.position(task)
        for variable in variables(self.spec):
            values = values_of[variable.name][(..., *part.slices(Window(0, 0, *tile.observations.shape)))]
            for _ in range(variable.first):
                values = downsample_2x(values)
            for level in range(variable.first, self.spec.levels):
                if not holds(variable, level) or not written_by_tiles(self.spec, variable, level):
                    break
                size, here = self.spec.tile_size >> level, part.coarsen(1 << level)
                block = np.full((*values.shape[:-2], size, size), variable.fill, variable.dtype)
                encoded = block[(..., *here.slices(Window(0, 0, size, size)))]
                encoded[...] = variable.encode(values)
                self.put(variable, level, time, row * size, col * size, block)
                # from the stored (rounded) values, so that `make_overviews` would make the same bits
                values = downsample_2x(variable.decode(encoded))

    def put(self, variable: Variable, level: int, time: int, row: int, col: int, block: NDArray[Any]) -> None:
        """Write whole chunks of one variable at one level, and sync them to the disk.

        Args:
            variable: describes the array.
            level: of the array.
            time: index of the time step.
            row: first row of the block, at that level; a multiple of the chunk.
            col: first column.
            block: (…, height, width), encoded.
        """
        array = self.array(f"{level}/{variable.name}")
        rows, cols = slice(row, row + block.shape[-2]), slice(col, col + block.shape[-1])
        array[(time, ..., rows, cols)] = block
        # on a disk each chunk is a file; object stores acknowledge a write only when it is safe
        if self._root is not None:
            prefix = self._root / str(level) / variable.name / "c" / str(time) / ("0" if variable.bands else "")
            chunk = array.chunks[-1]
            for i in range(rows.start // chunk, -(-rows.stop // chunk)):
                for j in range(cols.start // chunk, -(-cols.stop // chunk)):
                    _sync(prefix / str(i) / str(j))

    def array(self, name: str) -> zarr.Array[Any]:
        """An array of the cube, by its path from the root."""
        if name not in self._arrays:
            array = self._group[name]
            if not isinstance(array, zarr.Array):
                raise CubeError(f"{name} in {self.uri} is no array", do="The cube is damaged; make it anew.")
            self._arrays[name] = array
        return self._arrays[name]

    def finish(self, task: TileTask, status: Status, provenance: Mapping[str, Any]) -> None:
        """Record how a tile was made and then, last of all, its status."""
        position = self.position(task)
        self.array(f"{TILES}/provenance")[position] = json.dumps(provenance, separators=(",", ":"))
        self.array(f"{TILES}/status")[position] = int(status)
        if self._root is not None:
            _sync(self._root.joinpath(TILES, "status", "c", *map(str, position)))

    def statuses(self) -> NDArray[np.uint8]:
        """(time, tile rows, tile columns) uint8 of `Status` values."""
        return read_statuses(self.array(f"{TILES}/status"), self.spec.tiling)

    def count_unfinished(self, first_days: Collection[str] | None = None) -> int:
        """Number of tiles that are pending or were given up, in the time steps of these first days or in all."""
        statuses = self.statuses()[[not first_days or first in first_days for first, _ in self.spec.intervals]]
        return int(np.isin(statuses, (Status.PENDING, Status.FAILED)).sum())

    def mark(self, statuses: NDArray[np.uint8]) -> None:
        """Write many statuses at once (the driver, before any worker starts)."""
        self.array(f"{TILES}/status")[...] = statuses

    def provenance(self, task: TileTask) -> dict[str, Any]:
        """How a tile was made; empty if it is pending."""
        text = np.asarray(self.array(f"{TILES}/provenance")[self.position(task)])
        return dict(json.loads(str(text[()]) or "{}"))

    @property
    def published_levels(self) -> int:
        """Number of levels that are up to date; less than all during a run."""
        return len(self.attributes["multiscales"]["layout"])

    def remake(self, request: Mapping[str, Any], fingerprint: str) -> None:
        """Record the request and the fingerprint by which the cube's pending tiles will be made."""
        # opened with its consolidated metadata, which is written back with the attributes
        with zarr.config.set({"json_indent": None}):
            root = zarr.open_group(self.uri, mode="r+")
            root.update_attributes({"request": json.dumps(request), "fingerprint": fingerprint})
        self.attributes |= {"request": request, "fingerprint": fingerprint}
        self.fingerprint = fingerprint

    def publish_levels(self, levels: int, attributes: Mapping[str, str]) -> None:
        """Name the levels that are up to date in the root's attributes, in one write.

        Args:
            levels: how many, from full resolution on.
            attributes: further attributes of the root to set.
        """
        changes = {**levels_attributes(self.spec, levels), **attributes}
        # opened with its consolidated metadata, which is written back with the attributes
        with zarr.config.set({"json_indent": None}):
            zarr.open_group(self.uri, mode="r+").update_attributes(changes)
        self.attributes |= changes


def find_cube(uri: str) -> Cube | None:
    """The cube at `uri`, open for writing; None where nothing is, or a cube whose creation was killed.

    Raises:
        CubeError: if something else is there, or a cube of another format.
    """
    attributes = read_attributes(uri)
    if attributes is None or ("spacex_format" in attributes and "spacex_spec" not in attributes):
        return None
    if "spacex_format" not in attributes:
        raise not_a_cube(uri)
    check_format(uri, attributes)
    return Cube(uri, attributes)


def create_cube(uri: str, spec: CubeSpec, fingerprint: str, attributes: Mapping[str, Any]) -> Cube:
    """Create an empty cube: all metadata and coordinates, no data.

    The spec is written last, so a cube whose creation was killed is recognised and made anew.

    Raises:
        CubeError: if something that is not a half-made SpacEX cube is already there.
    """
    existing = read_attributes(uri)
    if existing is not None and ("spacex_format" not in existing or "spacex_spec" in existing):
        raise CubeError(f"{uri} already exists", do="Choose another --output.")
    create(uri, spec)
    group = zarr.open_group(uri, mode="r+")
    texts = {name: value for name, value in attributes.items() if isinstance(value, str)}
    for level in range(spec.levels):
        # a subset saved from any level keeps its title and licence
        zarr.open_group(uri, mode="r+", path=str(level)).update_attributes(texts)
    objects = {name: json.dumps(value) for name, value in attributes.items() if name not in texts}
    own = {"fingerprint": fingerprint, "spacex_spec": spec.model_dump_json()}
    group.update_attributes({**texts, **objects, **own})
    consolidate(uri)
    return Cube(uri)


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
