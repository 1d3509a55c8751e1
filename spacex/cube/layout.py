"""Layout of a cube: its levels, the variables of each, and the writing of an empty one.

Level 0 is full resolution; every further level halves it, until the whole map fits into one chunk. Each level is a
group named by its number; the states of the tiles are in the group `tiles`.

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

from spacex.cube import encoding
from spacex.cube import geo_metadata as geometadata
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
QUANTITIES = {"attribution": "reflectance", "dissimilarity": "dissimilarity index over its threshold"}
"""What a map counts; those not named here count the classifier's logits per pixel."""


class CubeSpec(Settings):
    """Shape and content of a cube; stored in its root as JSON, so that the cube opens without the request."""

    format: int = FORMAT
    """Version of the layout."""
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
    """How the map of that name was made; empty where the checkpoint does not know."""
    display: tuple[str, ...]
    """Bands of the composite kept in the overviews, in the order red, green, blue where they exist."""

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
        """Where the arrays of full resolution lie."""
        return Grid(self.crs, self.resolution).geobox(self.stored)

    def crop(self, level: int) -> tuple[slice, slice]:
        """Rows and columns of a level's arrays that the extent touches."""
        stored, (row, col, height, width) = self.stored, self.extent
        window = Window(row - stored.row, col - stored.col, height, width).coarsen(2**level)
        return slice(window.row, window.stop_row), slice(window.col, window.stop_col)

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the maps that say something of whole chips."""
        return ("naturalness", "dissimilarity") if self.dissimilarity else ("naturalness",)

    @property
    def levels(self) -> int:
        """Number of levels, full resolution included: at least 2, the last in one chunk."""
        return 1 + max(1, math.ceil(math.log2(max(self.stored.shape) / CHUNK)))


def variables(spec: CubeSpec) -> tuple[Variable, ...]:
    """All variables over (time, …, y, x)."""
    maps = (
        encoding.float_map(name, made, QUANTITIES.get(name, "logits per pixel")) for name, made in spec.maps.items()
    )
    scores = [encoding.naturalness()]
    if spec.dissimilarity:
        scores.append(encoding.float_map("dissimilarity", spec.dissimilarity, QUANTITIES["dissimilarity"]))
    return (*maps, *scores, encoding.observations(), encoding.composite(spec.display))


def holds(variable: Variable, level: int) -> bool:
    """True if a level has this variable."""
    return level == variable.first or (variable.overviews and level > variable.first)


def chunk_side(spec: CubeSpec, variable: Variable, level: int) -> int:
    """Pixels a side of a variable's chunks: 512, or less where a tile would not own whole ones at its first level."""
    return math.gcd(CHUNK, spec.tile_size >> level) if level == variable.first else CHUNK


def written_by_tiles(spec: CubeSpec, variable: Variable, level: int) -> bool:
    """True if a tile is a whole number of this level's chunks, so that it owns them; else the run's end makes them."""
    return level == variable.first or spec.tile_size % (CHUNK << level) == 0


def levels_of_tiles(spec: CubeSpec) -> int:
    """Number of levels whose every variable is written by tiles: those that are there while a run goes on."""
    whole = (all(written_by_tiles(spec, v, k) for v in variables(spec) if holds(v, k)) for k in range(spec.levels))
    return next((level for level, there in enumerate(whole) if not there), spec.levels)


def levels_attributes(spec: CubeSpec, levels: int) -> dict[str, Any]:
    """The root's account of where the cube is and which levels, counted from full resolution, are there."""
    return geometadata.of_root([geometadata.coarsen(spec.geobox, level) for level in range(levels)])


def create(uri: str, spec: CubeSpec) -> None:
    """Write groups, arrays and coordinates of an empty cube, replacing a half-made one.

    Raises:
        RequestError: if the tile size is no multiple of the chunk.
    """
    if spec.tile_size < CHUNK or spec.tile_size % CHUNK:
        raise RequestError("tile size", got=spec.tile_size, expected=f"a multiple of the chunk, {CHUNK} pixels")
    root = zarr.open_group(uri, mode="w", attributes={"spacex_format": FORMAT})
    for level in range(spec.levels):
        box = geometadata.coarsen(spec.geobox, level)
        group = root.create_group(str(level), attributes=geometadata.of_group(box))
        _coordinates(group, box, spec)
        for variable in variables(spec):
            if holds(variable, level):
                _array(group, variable, box, spec, chunk_side(spec, variable, level))
    root.update_attributes(levels_attributes(spec, levels_of_tiles(spec)))
    _per_tile(root.create_group(TILES), spec)


def _array(group: zarr.Group, variable: Variable, box: GeoBox, spec: CubeSpec, chunk: int) -> None:
    times, bands = len(spec.intervals), len(variable.bands)
    group.create_array(
        variable.name,
        shape=(times, *([bands] if bands else []), *box.shape),
        chunks=(1, *([bands] if bands else []), chunk, chunk),
        dtype=variable.dtype,
        fill_value=variable.fill,
        dimension_names=["time", *(["band"] if bands else []), "y", "x"],
        compressors=encoding.compressors(variable.dtype),
        attributes={**geometadata.of_array(box), **variable.attributes},
    )
    if bands:
        _vector(group, "band", np.array(variable.bands, dtype="U"), {"long_name": "Sentinel-2 band"})


def _per_tile(group: zarr.Group, spec: CubeSpec) -> None:
    tiles = spec.tiling.tiles
    shape = (len(spec.intervals), *tiles.shape)
    names = ["time", "tile_y", "tile_x"]
    meanings: dict[str, Any] = {"flag_values": list(range(5)), "flag_meanings": "pending done no_data outside failed"}
    group.create_array(
        "status", shape=shape, chunks=(1, 1, 1), dtype="u1", fill_value=0, dimension_names=names, compressors=None,
        attributes={"long_name": "state of each tile", **meanings},
    )  # fmt: skip
    group.create_array(
        "status_at_end", shape=shape, chunks=(1, *shape[1:]), dtype="u1", fill_value=0, dimension_names=names,
        compressors=ZstdCodec(level=3, checksum=True),
        attributes={"long_name": "status in one chunk, as the last run that ended left it", **meanings},
    )  # fmt: skip
    group.create_array(
        "provenance", shape=shape, chunks=(1, 1, 1), dtype="string", fill_value="", dimension_names=names,
        compressors=ZstdCodec(level=3, checksum=True),
        attributes={"long_name": "how each tile was made, as JSON: scenes, offsets, seconds, worker"},
    )  # fmt: skip
    lattice = "of the global grid, in tiles from the CRS origin"
    _vector(group, "tile_y", np.arange(tiles.row, tiles.stop_row), {"long_name": f"tile row {lattice}, southwards"})
    _vector(group, "tile_x", np.arange(tiles.col, tiles.stop_col), {"long_name": f"tile column {lattice}, eastwards"})
    _time(group, spec)


def _coordinates(group: zarr.Group, box: GeoBox, spec: CubeSpec) -> None:
    for name, (values, attributes) in geometadata.centres(box).items():
        _vector(group, name, values, attributes)
    _time(group, spec)
    crs = group.create_array(
        "spatial_ref", shape=(), dtype="i4", dimension_names=[], attributes=geometadata.spatial_ref(box)
    )
    crs[...] = 0


def _time(group: zarr.Group, spec: CubeSpec) -> None:
    days = np.array(spec.intervals, dtype="datetime64[D]").astype("int64")
    calendar: dict[str, Any] = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"}
    words = {"standard_name": "time", "axis": "T", "bounds": "time_bounds", "long_name": "first day", **calendar}
    _vector(group, "time", days[:, 0], words)
    bounds = group.create_array(
        "time_bounds", shape=days.shape, dtype="i8", dimension_names=["time", "bound"], attributes=calendar
    )
    bounds[...] = days


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
