"""Layout of a cube: its levels, the variables of each, and the writing of an empty one.

Level 0 is full resolution; every further level halves it, until the whole map fits into one chunk. Each level is a
group named by its number; the group `tiles` has the arrays with one value per tile.

The arrays cover whole tiles of the global tile lattice (`spacex.grid.Tiling`), which is more than the extent asked
for. A tile's chunks therefore hold the same pixels in every cube that has the tile, and a cube that is extended
keeps them. Readers cut the extent out again (`spacex.cube.levels`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from zarr.codecs import ZstdCodec

from spacex.attribution.names import HIGH, LOW, LOWERED, NOISE, PICTURES, RAISED, SPREAD
from spacex.cube import encoding, geo_metadata
from spacex.cube.encoding import Variable
from spacex.errors import RequestError
from spacex.grid import Grid, Tiling, Window
from spacex.settings import Settings

FORMAT = 3
"""Version of the layout, `spacex_format` in the root's attributes. In format 2 the arrays covered the extent alone,
and tiles were counted from its upper-left corner. Format 1 had full resolution in the root and two overviews."""
CHUNK = 512
"""Side of a chunk in pixels."""
TILES = "tiles"
"""Group of the arrays with one value per tile."""
QUANTITIES = {
    "attribution": "reflectance",
    "dissimilarity": "dissimilarity index over its threshold",
    NOISE: "classifier's score",
    SPREAD: "classifier's score",
}
"""What a map counts; those not named here count the classifier's logits per pixel."""


class CubeSpec(Settings):
    """Shape and content of a cube; stored in its root as JSON, so that the cube opens without the request."""

    format: int = FORMAT
    crs: str
    resolution: float
    """Side of a pixel in metres."""
    extent: tuple[int, int, int, int]
    """(row, col, height, width) of the pixels asked for, on the global grid."""
    tile_size: int
    """Side of a tile in pixels."""
    intervals: tuple[tuple[str, str], ...]
    """First and last day of every time step, ISO 8601."""
    maps: dict[str, str]
    """Attribution variables and the sentence that says how each was made."""
    dissimilarity: str = ""
    """How the map of that name was made; empty where the checkpoint has no area of applicability."""
    display: tuple[str, ...]
    """Bands of the composite in the overviews: red, green, blue where they exist."""
    bands: tuple[str, ...] = ()
    """Bands of the maps `x_plus` and `x_minus`, where they are asked for: all that the networks see."""

    @property
    def tiling(self) -> Tiling:
        """The cube's tiles, from format 3 on."""
        return Tiling(Window(*self.extent), self.tile_size)

    @property
    def stored(self) -> Window:
        """The pixels that the arrays of full resolution cover."""
        return self.tiling.pixels if self.format >= 3 else Window(*self.extent)

    @property
    def geobox(self) -> GeoBox:
        """The grid of the arrays of full resolution."""
        return Grid(self.crs, self.resolution).geobox(self.stored)

    def crop(self, level: int) -> tuple[slice, slice]:
        """Rows and columns of a level's arrays that the extent touches."""
        stored, (row, col, height, width) = self.stored, self.extent
        window = Window(row - stored.row, col - stored.col, height, width).coarsen(2**level)
        return slice(window.row, window.stop_row), slice(window.col, window.stop_col)

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the maps that hold one value per chip, blended."""
        return ("naturalness", "dissimilarity") if self.dissimilarity else ("naturalness",)

    @property
    def levels(self) -> int:
        """Number of levels, full resolution included: at least 2, the last in one chunk."""
        return 1 + max(1, math.ceil(math.log2(max(self.stored.shape) / CHUNK)))


def variables(spec: CubeSpec) -> tuple[Variable, ...]:
    """All variables over (time, …, y, x)."""
    maps = [_map(name, made, spec.bands) for name, made in spec.maps.items()]
    scores = [encoding.naturalness()]
    if spec.dissimilarity:
        scores.append(encoding.float_map("dissimilarity", spec.dissimilarity, QUANTITIES["dissimilarity"]))
    return (*maps, *scores, encoding.observations(), encoding.composite(spec.display))


def variables_by_name(spec: CubeSpec) -> dict[str, Variable]:
    """The same by their names."""
    return {variable.name: variable for variable in variables(spec)}


def _map(name: str, made: str, bands: tuple[str, ...]) -> Variable:
    if name in PICTURES:
        return encoding.picture(name, made, bands)
    if name in (RAISED, LOWERED, LOW, HIGH):
        return encoding.score(name, made)
    return encoding.float_map(name, made, QUANTITIES.get(name, "logits per pixel"))


def holds(variable: Variable, level: int) -> bool:
    """True if a level has this variable."""
    return level == variable.first or (variable.overviews and level > variable.first)


def chunk_side(spec: CubeSpec, variable: Variable, level: int) -> int:
    """Side of a variable's chunks in pixels."""
    # at its first level a variable is written by tiles, so a tile must be a whole number of chunks there
    return math.gcd(CHUNK, spec.tile_size >> level) if level == variable.first else CHUNK


def written_by_tiles(spec: CubeSpec, variable: Variable, level: int) -> bool:
    """Whether tiles write this level: each is a whole number of its chunks. Else `make_overviews` makes them."""
    return level == variable.first or spec.tile_size % (CHUNK << level) == 0


def levels_of_tiles(spec: CubeSpec) -> int:
    """Number of levels, counted from full resolution, that tiles write: the levels that are readable during a run."""
    for level in range(spec.levels):
        if not all(written_by_tiles(spec, variable, level) for variable in variables(spec) if holds(variable, level)):
            return level
    return spec.levels


def levels_attributes(spec: CubeSpec, levels: int) -> dict[str, Any]:
    """Root attributes that publish the first `levels` levels, counted from full resolution."""
    return geo_metadata.root_attributes([geo_metadata.coarsen(spec.geobox, level) for level in range(levels)])


def create(uri: str, spec: CubeSpec) -> None:
    """Write groups, arrays and coordinates of an empty cube, replacing a half-made one.

    Raises:
        RequestError: if the tile size is no multiple of the chunk.
    """
    if spec.tile_size < CHUNK or spec.tile_size % CHUNK:
        raise RequestError("tile size", got=spec.tile_size, expected=f"a multiple of the chunk, {CHUNK} pixels")
    root = zarr.open_group(uri, mode="w", attributes={"spacex_format": FORMAT})
    for level in range(spec.levels):
        box = geo_metadata.coarsen(spec.geobox, level)
        group = root.create_group(str(level), attributes=geo_metadata.group_attributes(box))
        _write_coordinates(group, box, spec)
        for variable in variables(spec):
            if holds(variable, level):
                _create_map(group, variable, box, spec, chunk_side(spec, variable, level))
    root.update_attributes(levels_attributes(spec, levels_of_tiles(spec)))
    _create_tile_arrays(root.create_group(TILES), spec)


def _create_map(group: zarr.Group, variable: Variable, box: GeoBox, spec: CubeSpec, chunk: int) -> None:
    bands = [len(variable.bands)] if variable.bands else []
    group.create_array(
        variable.name,
        shape=(len(spec.intervals), *bands, *box.shape),
        chunks=(1, *bands, chunk, chunk),
        dtype=variable.dtype,
        fill_value=variable.fill,
        dimension_names=["time", *variable.band_dimension, "y", "x"],
        compressors=encoding.compressors(variable.dtype),
        attributes={**geo_metadata.array_attributes(box), **variable.attributes},
    )
    for name in variable.band_dimension:
        if name not in group:  # variables of the same bands share it
            _write_vector(group, name, np.array(variable.bands, dtype="U"), {"long_name": "Sentinel-2 band"})


def _create_tile_arrays(group: zarr.Group, spec: CubeSpec) -> None:
    tiles = spec.tiling.tiles
    shape = (len(spec.intervals), *tiles.shape)
    compressed = ZstdCodec(level=3, checksum=True)
    flags: dict[str, Any] = {"flag_values": list(range(5)), "flag_meanings": "pending done no_data outside failed"}
    provenance = "how each tile was made, as JSON: scenes, offsets, seconds, worker"
    # workers write `status` and `provenance`: a chunk per tile, so that no two ever write the same chunk
    arrays: list[tuple[str, str, tuple[int, ...], ZstdCodec | None, str, dict[str, Any]]] = [
        ("status", "u1", (1, 1, 1), None, "state of each tile", flags),
        ("status_at_end", "u1", (1, *tiles.shape), compressed, "status in one chunk, after the last run", flags),
        ("provenance", "string", (1, 1, 1), compressed, provenance, {}),
    ]
    for name, dtype, chunks, compressor, long_name, attributes in arrays:
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value="" if dtype == "string" else 0,
            dimension_names=["time", "tile_y", "tile_x"],
            compressors=compressor,
            attributes={"long_name": long_name, **attributes},
        )
    rows, cols = np.arange(tiles.row, tiles.stop_row), np.arange(tiles.col, tiles.stop_col)
    for name, numbers, what in (("tile_y", rows, "row, southwards"), ("tile_x", cols, "column, eastwards")):
        _write_vector(group, name, numbers, {"long_name": f"tile {what} in tiles from the CRS origin"})
    _write_time(group, spec)


def _write_coordinates(group: zarr.Group, box: GeoBox, spec: CubeSpec) -> None:
    for name, (values, attributes) in geo_metadata.centres(box).items():
        _write_vector(group, name, values, attributes)
    _write_time(group, spec)
    crs = geo_metadata.spatial_ref(box)
    group.create_array("spatial_ref", shape=(), dtype="i4", dimension_names=[], attributes=crs)[...] = 0


def _write_time(group: zarr.Group, spec: CubeSpec) -> None:
    days = np.array(spec.intervals, dtype="datetime64[D]").astype("int64")
    calendar: dict[str, Any] = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    attributes = {"standard_name": "time", "axis": "T", "bounds": "time_bounds", "long_name": "first day", **calendar}
    _write_vector(group, "time", days[:, 0], attributes)
    names = ["time", "bound"]
    bounds = group.create_array("time_bounds", shape=days.shape, dtype="i8", dimension_names=names, attributes=calendar)
    bounds[...] = days


def _write_vector(group: zarr.Group, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    text = values.dtype.kind == "U"
    dtype = "string" if text else values.dtype
    array = group.create_array(name, shape=values.shape, dtype=dtype, dimension_names=[name], attributes=attributes)
    array[...] = values.astype(object) if text else values
