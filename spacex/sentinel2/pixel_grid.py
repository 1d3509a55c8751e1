"""Where the pixels of a grid lie in a source: projected exactly at fixed nodes, interpolated in between.

The nodes are every 16 pixels of the grid's CRS, counted from its origin, so a pixel's position is a function of its
place alone, whatever window it is asked in. Between EPSG:3035 and UTM the error is below 0.0001 pixel.
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
class _Side:
    """The pixel centres along one side of a grid, between nodes."""

    nodes: NDArray[np.float64]
    """Coordinates of the nodes, from the one before the first pixel to the one behind the last."""
    node: NDArray[np.intp]
    """For each pixel, which node is before it."""
    fraction: NDArray[np.float64]
    """For each pixel, its share of the way to the next node."""

    @classmethod
    def of(cls, edge: float, step: float, pixels: int) -> _Side:
        spacing = step * NODE_SPACING
        # fractions of the global position, not of the window's, so that rounding cannot depend on the window
        place = (edge + (np.arange(pixels) + 0.5) * step) / spacing
        node = np.floor(place)
        nodes = np.arange(node[0], node[-1] + 2) * spacing
        return cls(nodes, (node - node[0]).astype(np.intp), place - node)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Each node with the pixels behind it."""
        starts = np.flatnonzero(np.diff(self.node, prepend=-1)).tolist()
        yield from enumerate(map(slice, starts, [*starts[1:], self.node.size]))

    def ends(self, cell: int) -> NDArray[np.intp]:
        """The first and last pixels between nodes, and of every so many pixels; ascending."""
        breaks = [*np.flatnonzero(np.diff(self.node)), *range(cell - 1, self.node.size, cell)]
        last = np.unique([*breaks, self.node.size - 1])
        return np.unique([0, *last, *last[:-1] + 1])


@dataclass(frozen=True)
class PixelTransform:
    """Positions (down, right) in a lattice of all pixel centres of a grid, in the lattice's pixels."""

    rows: _Side
    cols: _Side
    lines: NDArray[np.float64]
    """(2, node rows, x) positions of the grid's columns where they cross the rows of nodes."""

    @classmethod
    def of(cls, geobox: GeoBox, lattice: PixelGrid) -> PixelTransform:
        """Those of a north-up grid."""
        transform, (height, width) = geobox.transform, geobox.shape
        rows, cols = _Side.of(transform.f, transform.e, height), _Side.of(transform.c, transform.a, width)
        east, north = transformer(str(geobox.crs), lattice.crs).transform(*np.meshgrid(cols.nodes, rows.nodes))
        nodes = np.stack([lattice.north - north, east - lattice.east]) / lattice.resolution
        return cls(rows, cols, nodes[..., cols.node] + np.diff(nodes)[..., cols.node] * cols.fraction)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.rows.node.size, self.cols.node.size

    def strips(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Rows between two nodes, and (2, rows, x) positions: a few, which stay in the processor's cache."""
        for node, rows in self.rows.runs():
            above, below = self.lines[:, node : node + 2].swapaxes(0, 1)
            position = (below - above)[:, None] * self.rows.fraction[rows, None]
            position += above[:, None]
            yield rows, position

    def at(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float64]:
        """(2, rows, columns) positions at some rows and columns alone."""
        lines, node = self.lines[..., cols], self.rows.node[rows]
        return lines[:, node] + np.diff(lines, axis=1)[:, node] * self.rows.fraction[rows, None]


@lru_cache(maxsize=32)
def transformer(source: str, target: str) -> Transformer:
    """From one CRS to another, east before north; kept, because making one takes longer than using it."""
    return Transformer.from_crs(source, target, always_xy=True)
