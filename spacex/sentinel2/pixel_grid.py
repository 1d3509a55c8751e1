"""Where the pixels of a grid lie in a source: projected exactly at fixed nodes, interpolated in between.

Nodes lie every 16 pixels of the grid's CRS, counted from its origin, so a pixel's position is a function of its place
alone, whatever window it is asked in. Between EPSG:3035 and UTM the error is below 0.0001 pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

NODE_SPACING = 16
"""Pixels between points that are projected exactly."""


@dataclass(frozen=True)
class PixelGrid:
    """The unbounded grid of pixels that a source's files lie on: its CRS, pixel size, and where an edge lies.

    Files of one UTM zone and pixel size share a grid, since MGRS tiles start at whole pixels.
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
class _Axis:
    """The pixel centres along one axis of a grid, between nodes."""

    nodes: NDArray[np.float64]
    """Coordinates of the nodes, from the one before the first pixel to the one behind the last."""
    node: NDArray[np.intp]
    """For each pixel, the index of the node before it."""
    fraction: NDArray[np.float64]
    """For each pixel, its share of the way to the next node."""

    @classmethod
    def of(cls, edge: float, step: float, pixels: int) -> _Axis:
        spacing = step * NODE_SPACING
        # fractions of the global position, not of the window's, so that rounding cannot depend on the window
        position = (edge + (np.arange(pixels) + 0.5) * step) / spacing
        node = np.floor(position)
        nodes = np.arange(node[0], node[-1] + 2) * spacing
        return cls(nodes, (node - node[0]).astype(np.intp), position - node)

    def extreme_pixels(self, block: int) -> NDArray[np.intp]:
        """The first and last pixels of every node cell and of every block of so many pixels; ascending."""
        breaks = [*np.flatnonzero(np.diff(self.node)), *range(block - 1, self.node.size, block)]
        last = np.unique([*breaks, self.node.size - 1])
        return np.unique([0, *last, *last[:-1] + 1])


@dataclass(frozen=True)
class PixelTransform:
    """Positions (down, right) of a grid's pixel centres in a source grid, in source pixels."""

    rows: _Axis
    cols: _Axis
    node_rows: NDArray[np.float64]
    """(2, node rows, x) positions along the rows of nodes, interpolated to the grid's columns."""

    @classmethod
    def of(cls, geobox: GeoBox, source: PixelGrid) -> PixelTransform:
        """Project the nodes of a north-up grid, and interpolate along their rows."""
        affine, (height, width) = geobox.transform, geobox.shape
        rows, cols = _Axis.of(affine.f, affine.e, height), _Axis.of(affine.c, affine.a, width)
        east, north = transformer(str(geobox.crs), source.crs).transform(*np.meshgrid(cols.nodes, rows.nodes))
        nodes = np.stack([source.north - north, east - source.east]) / source.resolution
        return cls(rows, cols, nodes[..., cols.node] + np.diff(nodes)[..., cols.node] * cols.fraction)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.rows.node.size, self.cols.node.size

    def row_strips(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The rows between two nodes, and their (2, rows, x) positions: small enough for the processor's cache."""
        starts = np.flatnonzero(np.diff(self.rows.node, prepend=-1)).tolist()
        for node, rows in enumerate(map(slice, starts, [*starts[1:], self.rows.node.size])):
            above, below = self.node_rows[:, node : node + 2].swapaxes(0, 1)
            position = (below - above)[:, None] * self.rows.fraction[rows, None]
            position += above[:, None]
            yield rows, position

    def at(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float64]:
        """(2, rows, columns) positions at some rows and columns alone."""
        node_rows, node = self.node_rows[..., cols], self.rows.node[rows]
        return node_rows[:, node] + np.diff(node_rows, axis=1)[:, node] * self.rows.fraction[rows, None]


@lru_cache(maxsize=32)
def transformer(source: str, target: str) -> Transformer:
    """From one CRS to another, east before north; cached, because making one takes longer than using it."""
    return Transformer.from_crs(source, target, always_xy=True)
