"""Which source pixel lies under each pixel of the cube: an exact resampling that does not depend on the window.

GDAL's warper (which odc-stac uses across projections) interpolates coordinates between the ends of each line *of the
window it is asked for*, with an error of up to an eighth of a pixel, so the neighbour it picks depends on the window.
SpacEX promises that a pixel gets the same answer whatever was asked around it, so here a pixel's source address is a
function of its place alone (`spacex.sentinel2.pixel_grid`). One table of addresses serves all scenes and bands of a UTM
zone, which also makes it faster than one warp per file.

Nearest neighbour is the default because the data sets the networks learn from were exported by Earth Engine, whose
default it is, and because it keeps measured values: no pixel mixes cloud into clear.
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

BLOCK = 64
"""Side in pixels of the blocks of a grid for which a table knows what part of the source they need."""
ROUNDING = 1e-6
"""Source pixels by which what a block needs is enlarged, far more than the rounding error of a position."""

Roi = tuple[slice, slice]
"""Region of interest: rows and columns of a grid."""
WHOLE: Roi = (slice(None), slice(None))

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class ResamplingTable:
    """Addresses in one source grid for every pixel of a grid."""

    window: Window
    """The part of the source grid that is needed."""
    index: NDArray[np.intp]
    """(y, x) position in the flattened window: of the nearest pixel, or of the upper left of four."""
    fraction: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """(down, right) distance from that pixel's centre in pixels, (y, x) each; None for nearest."""
    block_bounds: NDArray[np.int64]
    """(block rows, block columns, 4): first row, last row, first column, last column of the source that each block of
    `BLOCK` pixels needs."""

    @classmethod
    def build(
        cls, geobox: GeoBox, source: PixelGrid, method: Resampling = "nearest", margin: int = 0
    ) -> ResamplingTable:
        """Compute the addresses of a north-up grid's pixels in a source grid.

        The window includes `margin` source pixels on all sides beyond those addressed.
        """
        fraction = None
        if method == "bilinear":
            fraction = np.empty(geobox.shape, np.float32), np.empty(geobox.shape, np.float32)
            half = source.resolution / 2  # count from the pixels' centres instead of their corners
            source = replace(source, east=source.east + half, north=source.north - half)
        transform = PixelTransform.of(geobox, source)
        block_bounds, window = _needed(transform, margin, margin + (fraction is not None))
        index = np.empty(geobox.shape, np.intp)
        first = window.row * window.width + window.col
        for rows, position in transform.row_strips():
            low = np.floor(position)
            if fraction:
                fraction[0][rows], fraction[1][rows] = position - low
            # flat index within the window, in place and in float: whole numbers far below 2**53 are exact
            down, right = low
            down *= window.width
            down += right
            down -= first
            index[rows] = down
        return cls(window, index, fraction, block_bounds)

    def nearest(self, source: NDArray[Value], roi: Roi = WHOLE) -> NDArray[Value]:
        """The nearest of the window's values for a region of the grid, (y, x)."""
        return np.take(source.reshape(-1), self.index[roi], mode="clip")

    def resample(self, source: NDArray[np.uint16], roi: Roi = WHOLE) -> NDArray[np.uint16]:
        """The window's DN (0 = no data) for a region of the grid by the table's method, (y, x).

        With bilinear, 0 wherever one of the four neighbours is 0.
        """
        if self.fraction is None:
            return self.nearest(source, roi)
        flat, index, width = source.reshape(-1), self.index[roi], self.window.width
        down, right = (share[roi] for share in self.fraction)
        corners = [np.take(flat, index + step, mode="clip") for step in (0, 1, width, width + 1)]
        upper = corners[0] * (1 - right) + corners[1] * right
        lower = corners[2] * (1 - right) + corners[3] * right
        mixed = np.rint(upper * (1 - down) + lower * down).astype(np.uint16)
        mixed[np.minimum.reduce(corners) == 0] = 0
        return mixed


def needed_window(geobox: GeoBox, source: PixelGrid, margin: int = 0) -> Window:
    """The part of a source grid that the nearest pixels of a north-up grid lie in, and `margin` pixels around it."""
    return _needed(PixelTransform.of(geobox, source), margin, margin)[1]


def any_per_block(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks of `BLOCK` pixels hold any True, (block rows, block columns), of a mask (y, x)."""
    strips = np.array([mask[start : start + BLOCK].any(axis=0) for start in range(0, len(mask), BLOCK)])
    blocks: NDArray[np.bool_] = np.logical_or.reduceat(strips, np.arange(0, mask.shape[1], BLOCK), axis=1)
    return blocks


def _needed(transform: PixelTransform, margin: int, reach: int) -> tuple[NDArray[np.int64], Window]:
    """`ResamplingTable.block_bounds`, and the window that holds them all.

    `margin` source pixels are added above and to the left, `reach` below and to the right.
    """
    # between nodes positions are bilinear, so within a block the extreme ones lie at the corners of the block or of the
    # node cells in it: positions are computed at those rows and columns alone
    rows, cols = (axis.extreme_pixels(BLOCK) for axis in (transform.rows, transform.cols))
    position = transform.at(rows, cols)
    # where each block starts among those rows and columns, so that one reduction per axis covers all blocks
    first_row, first_col = (
        np.searchsorted(pixels, np.arange(0, size, BLOCK))
        for pixels, size in zip((rows, cols), transform.shape, strict=True)
    )
    low, high = (
        extreme.reduceat(extreme.reduceat(position, first_row, axis=1), first_col, axis=2)
        for extreme in (np.minimum, np.maximum)
    )
    low, high = np.floor(low - ROUNDING) - margin, np.floor(high + ROUNDING) + reach
    bounds = np.stack([low[0], high[0], low[1], high[1]], axis=-1).astype(np.int64)
    top, left = (int(bounds[..., edge].min()) for edge in (0, 2))
    bottom, right = (int(bounds[..., edge].max()) for edge in (1, 3))
    return bounds, Window(top, left, bottom - top + 1, right - left + 1)
