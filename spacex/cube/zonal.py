"""The pixels of a cube under polygons, block by block: which they are, and how much of each a polygon covers.

Memory grows with a block and not with the cube or the polygons. Tiles are visited once each, in the order of the
lattice, with all the zones that touch them; statistics that add up over pixels therefore need one pass. The share of a
pixel that lies within a polygon is exact (exactextract, after Baston), so that zones smaller than a pixel count too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import shapely
from numpy.typing import NDArray

from spacex.cube.layout import CHUNK
from spacex.cube.store import Cube
from spacex.execution.tasks import Status
from spacex.grid import Grid, Window
from spacex.region import Region

BLOCK = 2048
"""Longest side in pixels of a block."""


@dataclass(frozen=True)
class ZonePixels:
    """The pixels of a block that zones cover, (n,) each; one that two zones share is there twice."""

    zones: NDArray[np.int64]
    """Index of the zone."""
    pixels: NDArray[np.int64]
    """Index into the block, row by row."""
    shares: NDArray[np.float64]
    """How much of the pixel the zone covers, above 0 and at most 1."""


@dataclass(frozen=True)
class ZoneBlock:
    """Part of a tile, and the zones that have land in it."""

    position: tuple[int, int]
    """Of the tile in the arrays with one value per tile."""
    statuses: NDArray[np.uint8]
    """(time steps,) `Status` of the tile at each."""
    window: Window
    """The block: the smallest one that holds the zones' land here."""
    zones: NDArray[np.int64]
    """(k,) index of each zone."""
    shapes: NDArray[np.object_]
    """(k,) their polygons within the block."""
    grid: Grid
    region: Region

    @cached_property
    def pixels(self) -> ZonePixels:
        """The zones' pixels, of those whose centre lies in the area that was asked for."""
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource

        # no values are needed, only where the pixels are: one zero stands for all of them
        nothing = np.broadcast_to(np.uint8(0), self.window.shape)
        source = NumPyRasterSource(nothing, *self.grid.geobox(self.window).boundingbox)
        features = [{"type": "Feature", "geometry": shape.__geo_interface__, "properties": {}} for shape in self.shapes]
        table = exact_extract(source, features, ["cell_id", "coverage"], output="pandas")
        pixels, shares = (np.concatenate(list(table[name])) for name in ("cell_id", "coverage"))
        zones = np.repeat(self.zones, table["cell_id"].map(len))
        kept = (shares > 0) & self.region.inside(self.window).ravel()[pixels]
        return ZonePixels(zones[kept], pixels[kept], shares[kept])

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(k,) area of each zone in the block and in the area that was asked for, in pixels."""
        # a tile that has not been mapped needs no pixels, unless the area's edge runs through it
        if self.region.outline.contains(shapely.box(*self.grid.geobox(self.window).boundingbox)):
            return np.asarray(shapely.area(self.shapes) / self.grid.resolution**2)
        covered = self.pixels
        order = np.searchsorted(self.zones, covered.zones)
        return np.bincount(order, weights=covered.shares, minlength=len(self.zones)).astype(np.float64)


def zone_blocks(cube: Cube, shapes: NDArray[np.object_]) -> Iterator[ZoneBlock]:
    """The blocks of a cube that zones have land in, tile by tile; tiles outside the area asked for are left out.

    Args:
        cube: of format 3.
        shapes: (n,) polygons in the cube's CRS, valid; empty ones have land nowhere.
    """
    tree, statuses = shapely.STRtree(shapes), cube.statuses()
    size = cube.spec.tile_size
    # blocks of whole chunks that divide the tile
    side = max(n for n in range(CHUNK, BLOCK + 1, CHUNK) if size % n == 0)
    for row, col in cube.spec.tiling:
        position = cube.spec.tiling.position(row, col)
        tile = cube.spec.tiling.window(row, col)
        of_tile = statuses[(slice(None), *position)]
        if (of_tile == Status.OUTSIDE).all() or not len(tree.query(_box(cube, tile))):
            continue
        for down, right in product(range(0, size, side), repeat=2):
            window = Window(tile.row + down, tile.col + right, side, side).intersect(cube.extent)
            if window.empty:
                continue
            near = np.sort(tree.query(_box(cube, window), predicate="intersects"))
            parts = [_polygons(part) for part in shapely.intersection(shapes[near], _box(cube, window))]
            kept = np.array([not part.is_empty for part in parts], bool)
            if kept.any():
                land = np.array(parts, object)[kept]
                smallest = cube.grid.window(*shapely.total_bounds(land)).intersect(window)
                yield ZoneBlock(position, of_tile, smallest, near[kept], land, cube.grid, cube.region)


def _polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """What of a geometry is polygons: an intersection may have points and lines beside them."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    return shapely.MultiPolygon([part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"])


def _box(cube: Cube, window: Window) -> shapely.Geometry:
    return shapely.box(*cube.grid.geobox(window).boundingbox)
