"""Which source pixel lies under each pixel of the cube: an exact, window-independent resampling.

Why not GDAL's warper (which odc-stac uses across projections)? It interpolates coordinates between the ends
of each line *of the window it is asked for*, with an error of up to an eighth of a pixel, so the neighbour it
picks depends on the window: reading one scene through ``odc.stac.load`` once in a large window and once in
small ones gave different values in up to 0.17 % of the pixels. SpacEX promises that a pixel gets the same
answer whatever was asked around it. So coordinates are projected exactly at the nodes of a fixed lattice,
every 16 pixels of the CRS's own grid, and interpolated bilinearly in between (error below 0.0001 pixel
between EPSG:3035 and UTM). Each pixel's source address is then a function of its position alone. One address
table serves all scenes and bands of a UTM zone, which also makes it faster than one warp per file.

Nearest neighbour is the default because the data sets the networks learn from were exported by Earth
Engine, whose default it is, and because it keeps real measured values: no pixel mixes cloud into clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.grid import Window

Resampling = Literal["nearest", "bilinear"]

NODE_SPACING = 16
"""Pixels between points that are projected exactly."""

CELL = 64
"""Pixels a side of the squares of a grid for which a table knows what part of the source they need."""

Part = tuple[slice, slice]
"""Rows and columns of a grid."""

WHOLE: Part = (slice(None), slice(None))


@dataclass(frozen=True)
class Lattice:
    """All pixels a source could have: its CRS, pixel size, and where an edge lies.

    Files of one UTM zone and pixel size share a lattice, since MGRS tiles start at whole pixels.
    """

    crs: str
    """CRS of the source, e.g. "EPSG:32634"."""
    resolution: float
    """Side of a pixel in the CRS's units."""
    east: float = 0.0
    """East coordinate of column 0's left edge."""
    north: float = 0.0
    """North coordinate of row 0's upper edge."""


@dataclass(frozen=True)
class Sampling:
    """Addresses in one source lattice for every pixel of a grid."""

    window: Window
    """The part of the source lattice that is needed."""
    index: NDArray[np.intp]
    """(y, x) position in the flattened window: of the nearest pixel, or of the upper left of four."""
    fraction: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """(down, right) distance from that pixel's centre in pixels, (y, x) each; None for nearest."""
    cells: NDArray[np.int64]
    """(cell rows, cell columns, 4): first row, last row, first column, last column of the source that each square of
    `CELL` pixels needs."""

    def take(self, source: NDArray[np.generic], part: Part = WHOLE) -> NDArray[np.generic]:
        """Nearest values at the pixels of a part of the grid.

        Args:
            source: values of the window, of its shape.
            part: rows and columns of the grid.

        Returns:
            (y, x) of the source's dtype.
        """
        return np.take(source.reshape(-1), self.index[part], mode="clip")

    def blend(self, source: NDArray[np.uint16], part: Part = WHOLE) -> NDArray[np.uint16]:
        """DN at the pixels of a part of the grid: nearest, or bilinear where the sampling has fractions.

        Args:
            source: DN of the window, 0 = no data.
            part: rows and columns of the grid.

        Returns:
            (y, x) DN; with bilinear, 0 wherever one of the four neighbours is 0.
        """
        index = self.index[part]
        if self.fraction is None:
            return np.take(source.reshape(-1), index, mode="clip")
        flat, width = source.reshape(-1), self.window.width
        down, right = (share[part] for share in self.fraction)
        corners = [np.take(flat, index + step, mode="clip") for step in (0, 1, width, width + 1)]
        upper = corners[0] * (1 - right) + corners[1] * right
        lower = corners[2] * (1 - right) + corners[3] * right
        mixed = np.rint(upper * (1 - down) + lower * down).astype(np.uint16)
        mixed[np.minimum.reduce(corners) == 0] = 0
        return mixed

    def places(self, wanted: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """What is needed of the source, (n, 4) as in `cells`, for the squares in which a pixel is wanted.

        Args:
            wanted: (y, x) of the grid; None for every pixel.
        """
        if wanted is None:
            return self.cells.reshape(-1, 4)
        found: NDArray[np.int64] = self.cells[_by_cell(np.logical_or, wanted)]
        return found


def sampling(geobox: GeoBox, lattice: Lattice, how: Resampling = "nearest", margin: int = 0) -> Sampling:
    """Builds the address table of a grid in a source lattice.

    Args:
        geobox: north-up grid of the cube.
        lattice: where the source's pixels are.
        how: nearest neighbour or bilinear.
        margin: source pixels to hold on all sides beyond those addressed.
    """
    row, col = (np.empty(geobox.shape, np.int32) for _ in range(2))
    fraction = tuple(np.empty(geobox.shape, np.float32) for _ in range(2)) if how == "bilinear" else ()
    for start in range(0, geobox.shape[0], CELL):  # in strips that stay in the processor's cache
        rows = slice(start, min(start + CELL, geobox.shape[0]))
        east, north = _project(geobox[rows, :], lattice.crs)
        for position, place, part in (((lattice.north - north), row, 0), ((east - lattice.east), col, 1)):
            position /= lattice.resolution
            if fraction:
                position -= 0.5
            place[rows] = low = np.floor(position)
            if fraction:
                fraction[part][rows] = position - low
    return _addresses(row, col, margin, (fraction[0], fraction[1]) if fraction else None)


def _addresses(
    row: NDArray[np.int32],
    col: NDArray[np.int32],
    margin: int,
    fraction: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> Sampling:
    """The table of these source pixels, of the upper left of four where there are fractions."""
    reach = margin + (fraction is not None)
    ends = (_by_cell(np.minimum, row) - margin, _by_cell(np.maximum, row) + reach,
            _by_cell(np.minimum, col) - margin, _by_cell(np.maximum, col) + reach)  # fmt: skip
    cells = np.stack(ends, axis=-1).astype(np.int64)
    top, left = int(cells[..., 0].min()) + margin - reach, int(cells[..., 2].min()) + margin - reach
    window = Window(top, left, int(cells[..., 1].max()) - top + 1, int(cells[..., 3].max()) - left + 1)
    row -= window.row
    col -= window.col
    index = np.empty(row.shape, np.intp)
    np.multiply(row, window.width, out=index)  # far below 2**31 even for a whole scene of 109.8 km
    index += col
    return Sampling(window, index, fraction, cells)


def _by_cell(reduce: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """One value for each square of `CELL` pixels."""
    across = reduce.reduceat(values, np.arange(0, values.shape[1], CELL), axis=1)
    return np.asarray(reduce.reduceat(across, np.arange(0, values.shape[0], CELL), axis=0))


def _project(geobox: GeoBox, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (east, north) in `crs` of all pixel centres, each (y, x)."""
    transform, (height, width) = geobox.transform, geobox.shape
    step_x, step_y = transform.a * NODE_SPACING, transform.e * NODE_SPACING
    x = (transform.c + (np.arange(width) + 0.5) * transform.a) / step_x
    y = (transform.f + (np.arange(height) + 0.5) * transform.e) / step_y
    nodes_x, nodes_y = (np.arange(np.floor(p[0]), np.floor(p[-1]) + 2) for p in (x, y))
    grid_x, grid_y = np.meshgrid(nodes_x * step_x, nodes_y * step_y)
    east, north = _transformer(str(geobox.crs), crs).transform(grid_x, grid_y)
    return _interpolate(east, y, x), _interpolate(north, y, x)


def _interpolate(
    nodes: NDArray[np.float64], y: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Bilinear values at positions counted in nodes of the global lattice; `nodes` starts below the first."""
    r, c = (np.floor(p).astype(np.int64) for p in (y, x))
    # fractions of the global position, not of the window's, so that rounding cannot depend on the window
    down, right = (y - r)[:, None], x - c
    r, c = r - r[0], c - c[0]
    lines = nodes[:, c] * (1 - right) + nodes[:, c + 1] * right
    out: NDArray[np.float64] = lines[r] * (1 - down) + lines[r + 1] * down
    return out


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
