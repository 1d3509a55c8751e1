"""Which source pixel lies under each pixel of the cube: an exact, window-independent resampling.

Why not GDAL's warper (which odc-stac uses across projections)? It interpolates coordinates between the ends
of each line *of the window it is asked for*, with an error of up to an eighth of a pixel, so the neighbour it
picks depends on the window: reading one scene through ``odc.stac.load`` once in a large window and once in
small ones gave different values in up to 0.17 % of the pixels. SpacEX promises that a pixel gets the same
answer whatever was asked around it. So here a pixel's source address is a function of its place alone
(`spacex.sentinel2.pixel_grid`). One address table serves all scenes and bands of a UTM zone, which also makes it
faster than one warp per file.

Nearest neighbour is the default because the data sets the networks learn from were exported by Earth
Engine, whose default it is, and because it keeps real measured values: no pixel mixes cloud into clear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.grid import Window
from spacex.sentinel2.pixel_grid import PixelGrid, PixelTransform

Resampling = Literal["nearest", "bilinear"]

CELL = 64
"""Pixels a side of the squares of a grid for which a table knows what part of the source they need."""

ROUNDING = 1e-6
"""Source pixels, far more than the rounding of a position, by which what a square needs is taken too large."""

Part = tuple[slice, slice]
"""Rows and columns of a grid."""

Value = TypeVar("Value", bound=np.generic)

WHOLE: Part = (slice(None), slice(None))


@dataclass(frozen=True)
class ResamplingTable:
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

    def take(self, source: NDArray[Value], part: Part = WHOLE) -> NDArray[Value]:
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


def squares(wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The squares of `CELL` pixels in which anything is wanted, (cell rows, cell columns), of a mask (y, x)."""
    strips = np.array([wanted[start : start + CELL].any(axis=0) for start in range(0, len(wanted), CELL)])
    found: NDArray[np.bool_] = np.logical_or.reduceat(strips, np.arange(0, wanted.shape[1], CELL), axis=1)
    return found


def sampling(geobox: GeoBox, lattice: PixelGrid, how: Resampling = "nearest", margin: int = 0) -> ResamplingTable:
    """Builds the address table of a grid in a source lattice.

    Args:
        geobox: north-up grid of the cube.
        lattice: where the source's pixels are.
        how: nearest neighbour or bilinear.
        margin: source pixels to hold on all sides beyond those addressed.
    """
    fraction = None
    if how == "bilinear":
        fraction = np.empty(geobox.shape, np.float32), np.empty(geobox.shape, np.float32)
        half = lattice.resolution / 2  # counted from the pixels' centres, not from their corners
        lattice = replace(lattice, east=lattice.east + half, north=lattice.north - half)
    positions = PixelTransform.of(geobox, lattice)
    cells, window = _needed(positions, margin, margin + (fraction is not None))
    index = np.empty(geobox.shape, np.intp)
    first = window.row * window.width + window.col
    for rows, position in positions.strips():
        low = np.floor(position)
        if fraction:
            fraction[0][rows], fraction[1][rows] = position - low
        down, right = low
        down *= window.width  # whole numbers far below 2**53, so exact
        down += right
        down -= first
        index[rows] = down
    return ResamplingTable(window, index, fraction, cells)


def _needed(positions: PixelTransform, margin: int, reach: int) -> tuple[NDArray[np.int64], Window]:
    """Source pixels that each square of a grid needs (`ResamplingTable.cells`), and the window that holds them all.

    Between nodes positions are bilinear, so the outermost of a square lie where it ends, or the space between nodes.
    """
    ends = [side.ends(CELL) for side in (positions.rows, positions.cols)]
    starts = [np.searchsorted(end, np.arange(0, size, CELL)) for end, size in zip(ends, positions.shape, strict=True)]
    at = positions.at(*ends)
    lowest, highest = (reduce.reduceat(reduce.reduceat(at, starts[0], axis=1), starts[1], axis=2)
                       for reduce in (np.minimum, np.maximum))  # fmt: skip
    low, high = np.floor(lowest - ROUNDING) - margin, np.floor(highest + ROUNDING) + reach
    cells = np.stack([low[0], high[0], low[1], high[1]], axis=-1).astype(np.int64)
    top, left = (int(cells[..., start].min()) for start in (0, 2))
    bottom, right = (int(cells[..., stop].max()) for stop in (1, 3))
    return cells, Window(top, left, bottom - top + 1, right - left + 1)
