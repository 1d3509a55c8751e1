"""What stands in a cube: its variables, their encodings, and the writing of an empty one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from spacex.errors import RequestError
from spacex.grid import Grid, Tiling, Window
from spacex.mapping import geometadata
from spacex.settings import Settings

CHUNK = 512
"""Side of a chunk in pixels at full resolution."""
LEVELS = ("1", "2")
"""Groups of the overviews, each at half the resolution of the one before."""
KEEP_BITS = 10
"""Mantissa bits kept of float32 maps: a relative error of at most 2^-11, 0.05 %."""
NAN = "AAAAAAAA+H8="
"""float64 NaN in base 64: how xarray spells `_FillValue` NaN in Zarr format 3."""


class CubeSpec(Settings):
    """All that fixes a cube's shape and content; stored in it, so that it opens without the request."""

    crs: str
    resolution: float
    extent: tuple[int, int, int, int]
    """(row, col, height, width) on the global grid."""
    tile_size: int
    intervals: tuple[tuple[str, str], ...]
    """First and last day of every time step, ISO 8601."""
    maps: dict[str, str]
    """Attribution variables and the sentence that says how each was made."""
    display: tuple[str, ...]
    """Bands of the composite kept in the overviews, in the order red, green, blue where they exist."""


@dataclass(frozen=True)
class Variable:
    """One (time, …, y, x) variable: its storage type, no-data value, attributes and packing."""

    name: str
    dtype: str
    fill: float | int
    encode: Callable[[NDArray[Any]], NDArray[Any]]
    """From float32 with NaN (or counts) to what is stored."""
    attributes: dict[str, Any] = field(default_factory=dict)
    bands: tuple[str, ...] = ()
    """Names along an extra `band` dimension; empty for none."""


def variables(spec: CubeSpec) -> Iterator[tuple[Variable, ...]]:
    """The variables of the root group and of each overview."""
    maps = tuple(
        Variable(
            name,
            "f4",
            np.nan,
            bitround,
            {"long_name": name.replace("_", " "), "comment": made, "_FillValue": NAN},
        )
        for name, made in spec.maps.items()
    )
    naturalness = Variable(
        "naturalness",
        "u1",
        0,
        _pack_score,
        {
            "long_name": "naturalness",
            "comment": "the classifier's score of the 256 × 256 chips around a pixel, blended; 1 = natural",
            "units": "1",
            "scale_factor": 0.004,
            "add_offset": -0.004,
            "_FillValue": 0,
        },
    )
    observations = Variable(
        "observations", "u2", 0, _count, {"long_name": "clear observations in the composite", "units": "1"}
    )
    composite = Variable(
        "composite",
        "u2",
        0,
        _pack_reflectance,
        {
            "long_name": "surface reflectance",
            "units": "1",
            "scale_factor": 0.0001,
            "add_offset": 0.0,
            "_FillValue": 0,
        },
        spec.display,
    )
    yield (*maps, naturalness, observations)
    for _ in LEVELS:
        yield (*maps, naturalness, composite)


def create(uri: str, spec: CubeSpec) -> None:
    """Write groups, arrays and coordinates of an empty cube, replacing a half-made one.

    Raises:
        RequestError: if the tile size is no multiple of the chunk.
    """
    if spec.tile_size < CHUNK or spec.tile_size % CHUNK:
        raise RequestError(
            "tile size", got=spec.tile_size, expected=f"a multiple of the chunk, {CHUNK} pixels"
        )
    grid, extent = Grid(spec.crs, spec.resolution), Window(*spec.extent)
    root = zarr.open_group(uri, mode="w", attributes={"spacex_format": 1})
    for level, variable_set in enumerate(variables(spec)):
        coarse_grid, coarse = geometadata.coarsen(grid, extent, level)
        group = root if level == 0 else root.create_group(LEVELS[level - 1])
        group.update_attributes(geometadata.of_group(coarse_grid, coarse))
        _coordinates(group, coarse_grid, coarse, spec)
        for variable in variable_set:
            _array(group, variable, coarse_grid, coarse, spec, CHUNK // 2**level)
    root.update_attributes(geometadata.multiscales(grid, extent, len(LEVELS)))
    _per_tile(root, spec, Tiling(extent, spec.tile_size))


def _array(
    group: zarr.Group, variable: Variable, grid: Grid, extent: Window, spec: CubeSpec, chunk: int
) -> None:
    times, bands = len(spec.intervals), len(variable.bands)
    group.create_array(
        variable.name,
        shape=(times, *([bands] if bands else []), *extent.shape),
        chunks=(1, *([bands] if bands else []), chunk, chunk),
        dtype=variable.dtype,
        fill_value=variable.fill,
        dimension_names=["time", *(["band"] if bands else []), "y", "x"],
        compressors=ZstdCodec(level=3, checksum=True),
        attributes={**geometadata.of_array(grid, extent), **variable.attributes},
    )
    if bands:
        _vector(group, "band", np.array(variable.bands, dtype="U"), {"long_name": "Sentinel-2 band"})


def _per_tile(root: zarr.Group, spec: CubeSpec, tiling: Tiling) -> None:
    shape = (len(spec.intervals), *tiling.shape)
    names = ["time", "tile_y", "tile_x"]
    meanings = "not_yet done no_data outside failed"
    root.create_array(
        "status", shape=shape, chunks=(1, 1, 1), dtype="u1", fill_value=0, dimension_names=names, compressors=None,
        attributes={"long_name": "state of each tile", "flag_values": list(range(5)), "flag_meanings": meanings},
    )  # fmt: skip
    root.create_array(
        "provenance", shape=shape, chunks=(1, 1, 1), dtype="string", fill_value="", dimension_names=names,
        compressors=ZstdCodec(level=3, checksum=True),
        attributes={"long_name": "how each tile was made, as JSON: scenes, offsets, seconds, worker"},
    )  # fmt: skip


def _coordinates(group: zarr.Group, grid: Grid, extent: Window, spec: CubeSpec) -> None:
    for name, (values, attributes) in geometadata.centres(grid, extent).items():
        _vector(group, name, values, attributes)
    days = np.array(spec.intervals, dtype="datetime64[D]").astype("int64")
    calendar: dict[str, Any] = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    first = {
        "standard_name": "time",
        "axis": "T",
        "bounds": "time_bounds",
        "long_name": "first day",
        **calendar,
    }
    _vector(group, "time", days[:, 0], first)
    bounds = group.create_array(
        "time_bounds", shape=days.shape, dtype="i8", dimension_names=["time", "bound"], attributes=calendar
    )
    bounds[...] = days
    crs = group.create_array(
        "spatial_ref",
        shape=(),
        dtype="i4",
        dimension_names=[],
        attributes=geometadata.spatial_ref(grid, extent),
    )
    crs[...] = 0


def _vector(group: zarr.Group, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    text = values.dtype.kind == "U"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        dimension_names=[name],
        attributes=attributes,
    )
    array[...] = values.astype(object) if text else values


def bitround(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round float32 to `KEEP_BITS` mantissa bits, half to even, so that zstd finds something to compress.

    NaN stays NaN. Zender 2016, "Bit Grooming", and its round-to-nearest successor.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).copy()
    drop = 23 - KEEP_BITS
    bits += np.uint32((1 << (drop - 1)) - 1) + ((bits >> np.uint32(drop)) & np.uint32(1))
    bits &= np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    rounded = bits.view(np.float32)
    rounded[np.isnan(values)] = np.nan
    return rounded


def _pack_score(score: NDArray[Any]) -> NDArray[np.uint8]:
    codes = np.where(np.isnan(score), 0, np.clip(np.nan_to_num(score), 0, 1) * 250 + 1)
    return np.rint(codes).astype(np.uint8)


def _pack_reflectance(values: NDArray[Any]) -> NDArray[np.uint16]:
    # a valid pixel never becomes 0, which means no data
    codes = np.where(np.isnan(values), 0, np.clip(np.nan_to_num(values) * 10_000, 1, 65_535))
    return np.rint(codes).astype(np.uint16)


def _count(values: NDArray[Any]) -> NDArray[np.uint16]:
    return values.astype(np.uint16)
