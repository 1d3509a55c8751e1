"""The region asked for, on the global grid: its extent, its tiles, and which pixels lie inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from odc.geo import Geometry
from rasterio.features import geometry_mask
from shapely import prepare
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from spacex.errors import RequestError
from spacex.grid import Grid, Tiling, Window, snap_metres

EDGE_DEGREES = 0.01
"""Longest straight piece of the outline before projecting; a kilometre of parallel sags by millimetres."""

BLOCK = 16_384
"""Pixels a side of the squares by which the outline is cut up for looking things up near a window."""

MOST_TILES = 1_000_000
"""Tiles of a cube's bounding box; Fennoscandia at 10 m has 24,165. The driver looks at each."""


@dataclass(frozen=True)
class Region:
    """An area, projected to the cube's CRS, and the tiles that cover it."""

    area: BaseGeometry
    """Polygon or multipolygon in EPSG:4326."""
    grid: Grid = field(default_factory=Grid)
    """The global grid of the cube."""
    tile_size: int = 1024
    """Side of a tile in pixels."""

    def __post_init__(self) -> None:
        if self.outline.is_empty or not np.isfinite(self.outline.bounds).all():
            raise RequestError(
                f"the area cannot be projected to {self.grid.crs}",
                got=f"bounds {tuple(round(v, 3) for v in self.area.bounds)}",
                do="Choose an area within the CRS's area of use, or another --crs.",
            )
        rows, cols = self.tiling.shape
        if rows * cols > MOST_TILES:
            raise RequestError(
                "the area is too large to map at once",
                got=f"{rows * cols:,} tiles of {self.tile_size} pixels",
                expected=f"at most {MOST_TILES:,}",
                do="Map parts of it, with larger tiles or at a coarser resolution.",
            )

    @cached_property
    def outline(self) -> BaseGeometry:
        """The area in the cube's CRS, its edges cut fine enough to stay straight on the globe."""
        projected = Geometry(self.area, "EPSG:4326").to_crs(self.grid.crs, resolution=EDGE_DEGREES)
        shape: BaseGeometry = projected.geom
        prepare(shape)
        return shape

    @cached_property
    def extent(self) -> Window:
        """The area's bounding box, grown to whole kilometres and whole pixels of the first two overviews."""
        left, bottom, right, top = self.outline.bounds
        return self.grid.window(left, bottom, right, top, snap=snap_metres(self.grid.resolution))

    @property
    def tiling(self) -> Tiling:
        """The tiles of the global lattice that cover the extent."""
        return Tiling(self.extent, self.tile_size)

    @cached_property
    def touched(self) -> NDArray[np.bool_]:
        """(tile rows, tile columns) bool: tiles of which some part lies inside the area."""
        touched = [self.touches(self.tiling.window(row, col)) for row, col in self.tiling]
        return np.array(touched, bool).reshape(self.tiling.shape)

    def touches(self, window: Window) -> bool:
        """True if some of the window lies inside the area."""
        return bool(self.outline.intersects(box(*self.grid.geobox(window).boundingbox)))

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """(height, width) bool: pixels whose centre lies inside the area."""
        if self.outline.contains(box(*self.grid.geobox(window).boundingbox)):
            return np.ones(window.shape, bool)
        near = self._near(window)
        if near.is_empty:
            return np.zeros(window.shape, bool)
        mask: NDArray[np.bool_] = geometry_mask([near], window.shape, self.grid.transform(window), invert=True)
        return mask

    def _near(self, window: Window) -> BaseGeometry:
        """The outline around a window. A country's has 60,000 corners, and rasterising looks at every one."""
        if max(window.shape) > BLOCK:
            return self.outline
        block = window.row // BLOCK, window.col // BLOCK
        if block not in self._blocks:
            whole = Window(block[0] * BLOCK, block[1] * BLOCK, 2 * BLOCK, 2 * BLOCK)
            self._blocks[block] = self._cut(self.outline, whole)
        return self._cut(self._blocks[block], window)

    def _cut(self, outline: BaseGeometry, window: Window) -> BaseGeometry:
        # the cut lies two pixels outside, so that it decides nothing about a pixel of the window
        cut: BaseGeometry = outline.intersection(box(*self.grid.geobox(window.pad(2)).boundingbox))
        return cut

    @cached_property
    def _blocks(self) -> dict[tuple[int, int], BaseGeometry]:
        return {}
