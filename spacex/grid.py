"""Where pixels are: the global grid, windows on it, and the lattices of chips and tiles.

The global grid has pixel (row 0, column 0) at the origin of the cube's CRS; rows grow southwards, so most
of Europe has negative rows in EPSG:3035. Every position is an integer, and every chip and tile is a
:class:`Window` on that grid. A chip therefore has the same address whatever region was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.errors import RequestError

CHIP = 256
"""Side of a chip in pixels, unless a checkpoint's card says otherwise."""

RESOLUTIONS = (1.0, 1000.0)
"""The smallest and the largest pixel in metres."""


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of whole pixels of the global grid, half open: rows ``row .. row + height - 1``."""

    row: int
    """First row, counted southwards from the CRS origin."""
    col: int
    """First column, counted eastwards from the CRS origin."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise RequestError("a window cannot be smaller than nothing", got=(self.height, self.width))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def stop_row(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def empty(self) -> bool:
        """True if the window holds no pixel."""
        return self.height == 0 or self.width == 0

    def pad(self, pixels: int) -> Window:
        """The window grown by `pixels` on all four sides."""
        return Window(self.row - pixels, self.col - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def intersect(self, other: Window) -> Window:
        """The pixels both windows share; empty (and placed at their nearest corner) if there are none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = max(0, min(self.stop_row, other.stop_row) - row)
        width = max(0, min(self.stop_col, other.stop_col) - col)
        return Window(row, col, height, width)

    def coarsen(self, factor: int) -> Window:
        """The squares of `factor` pixels that the window touches, as a window of the lattice of such squares."""
        row, col = self.row // factor, self.col // factor
        return Window(row, col, -(-self.stop_row // factor) - row, -(-self.stop_col // factor) - col)

    def refine(self, factor: int) -> Window:
        """The reverse of `coarsen`: the pixels of a window of the lattice of squares of `factor` pixels."""
        return Window(self.row * factor, self.col * factor, self.height * factor, self.width * factor)

    def slices(self, inside: Window) -> tuple[slice, slice]:
        """Row and column slices that pick this window out of an array covering `inside`.

        Raises:
            RequestError: if this window is not within `inside`.
        """
        row, col = self.row - inside.row, self.col - inside.col
        if row < 0 or col < 0 or row + self.height > inside.height or col + self.width > inside.width:
            raise RequestError("a window reaches outside its array", got=self, expected=f"within {inside}")
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True)
class Grid:
    """The global pixel grid of one CRS and resolution."""

    crs: str = "EPSG:3035"
    """A projected CRS with metres as its unit."""
    resolution: float = 10.0
    """Side of a pixel in metres."""

    def __post_init__(self) -> None:
        check_crs(self.crs)
        if not 0 < self.resolution < math.inf:
            raise RequestError("the resolution must be positive", got=self.resolution, expected="metres, e.g. 10")

    def transform(self, window: Window) -> Affine:
        """Affine transform from (column, row) within `window` to CRS metres, upper-left corner."""
        r = self.resolution
        return Affine(r, 0.0, window.col * r, 0.0, -r, -window.row * r)

    def geobox(self, window: Window) -> GeoBox:
        """The window as an odc-geo GeoBox (shape, affine, CRS)."""
        return GeoBox(window.shape, self.transform(window), self.crs)

    def window(self, left: float, bottom: float, right: float, top: float, snap: float = 1.0) -> Window:
        """The smallest window that holds a box in CRS metres.

        Its edges are moved outwards to whole multiples of `snap` metres (and of the pixel).
        """
        step = max(1, round(snap / self.resolution))
        unit = step * self.resolution
        # a hair of tolerance, so that a box computed from this very grid comes back unchanged
        first_col, last_col = math.floor(left / unit + 1e-9), -math.floor(-right / unit + 1e-9)
        first_row, last_row = math.floor(-top / unit + 1e-9), -math.floor(bottom / unit + 1e-9)
        return Window(first_row * step, first_col * step, (last_row - first_row) * step, (last_col - first_col) * step)


def chip_windows(area: Window, stride: int, size: int) -> list[Window]:
    """All chips of the global chip lattice that touch `area`, in row-major order.

    Chips start at whole multiples of `stride` of the global grid, never of the area, so that every request
    cuts the same chips.
    """
    if stride < 1 or stride > size:
        raise RequestError("chips would leave gaps", got=f"stride {stride}", expected=f"1 to {size} pixels")
    rows = _starts(area.row, area.stop_row, stride, size)
    cols = _starts(area.col, area.stop_col, stride, size)
    return [Window(row, col, size, size) for row in rows for col in cols]


def bounds(windows: Sequence[Window]) -> Window | None:
    """The smallest window that holds them all; None if there are none."""
    if not windows:
        return None
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    return Window(row, col, max(w.stop_row for w in windows) - row, max(w.stop_col for w in windows) - col)


def window_where(mask: NDArray[np.bool_]) -> Window:
    """The smallest window that holds every True pixel of an array (height, width); empty if there is none."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Window(0, 0, 0, 0)
    return Window(int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)


def _starts(first: int, stop: int, stride: int, size: int) -> range:
    lowest = -((size - 1 - first) // stride)  # smallest multiple k with k * stride + size > first
    return range(lowest * stride, stop, stride) if first < stop else range(0)


def rectangles(cells: Iterable[tuple[int, int]]) -> list[Window]:
    """Cuts a set of cells (row, column) of any lattice into few rectangles that hold each cell once.

    Runs along a row are joined with equal runs in the rows below: good where the cells fill a blunt shape.
    """
    runs, windows = _runs(set(cells)), []
    for row, col, width in sorted(runs):
        height = 0
        while (row + height, col, width) in runs:
            runs.remove((row + height, col, width))
            height += 1
        if height:
            windows.append(Window(row, col, height, width))
    return windows


def _runs(cells: set[tuple[int, int]]) -> set[tuple[int, int, int]]:
    """(row, first column, width) of all runs along rows."""
    runs = set()
    for row, first in cells:
        if (row, first - 1) not in cells:
            width = next(n for n in count(1) if (row, first + n) not in cells)
            runs.add((row, first, width))
    return runs


@cache
def check_crs(crs: str) -> None:
    """Refuse a CRS (anything PROJ understands, e.g. ``EPSG:3035`` or WKT) that is not projected in metres.

    Raises:
        RequestError: if PROJ does not know it, or it is not projected in metres.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_user_input(crs)
    except CRSError as error:
        raise RequestError("the cube's CRS is unknown", got=repr(crs), do="Try EPSG:3035.") from error
    units = {axis.unit_name for axis in known.axis_info}
    if not known.is_projected or units != {"metre"} or len(known.axis_info) != 2:
        raise RequestError("the cube's CRS must be projected in metres", got=crs, do="Try EPSG:3035.")


def snap_metres(resolution: float) -> float:
    """The coarsest of 1, 2, 3, … km that is a whole number of overview pixels (4 × the resolution).

    Raises:
        RequestError: if no multiple of a kilometre up to 20 km fits, or the pixel is too small or too large.
    """
    if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise RequestError("the resolution", got=f"{resolution} m", expected="1 to 1000 m, e.g. 10")
    for kilometres in range(1, 21):
        pixels = 1000 * kilometres / resolution
        if abs(pixels - round(pixels)) < 1e-9 and round(pixels) % 4 == 0:
            return 1000.0 * kilometres
    what = "the resolution does not divide whole kilometres"
    raise RequestError(what, got=f"{resolution} m", expected="e.g. 10, 20, 30, 60")


@dataclass(frozen=True)
class Tiling:
    """The tiles that cover an extent, named by their place on the global tile lattice.

    Tile (row, col) owns the square of `tile_size` pixels from pixel (row * tile_size, col * tile_size) of the global
    grid, so a piece of land has the same tile whatever was asked around it. Rows are negative north of the CRS origin.
    """

    extent: Window
    """The pixels to cover."""
    tile_size: int
    """Side of a tile in pixels."""

    @property
    def tiles(self) -> Window:
        """The tiles themselves: a window of the tile lattice, so in tiles instead of pixels."""
        return self.extent.coarsen(self.tile_size)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of tile rows and tile columns."""
        return self.tiles.shape

    @property
    def pixels(self) -> Window:
        """All pixels of the tiles, on the global grid: the extent grown to whole tiles."""
        return self.tiles.refine(self.tile_size)

    def window(self, row: int, col: int) -> Window:
        """The pixels tile (row, col) owns.

        Raises:
            RequestError: if the tile does not belong to the tiling.
        """
        self.position(row, col)  # refuses a tile of elsewhere
        return Window(row * self.tile_size, col * self.tile_size, self.tile_size, self.tile_size)

    def position(self, row: int, col: int) -> tuple[int, int]:
        """Where tile (row, col) stands in an array with one value per tile."""
        tiles = self.tiles
        if (row, col) not in self:
            expected = f"rows {tiles.row} to {tiles.stop_row - 1}, columns {tiles.col} to {tiles.stop_col - 1}"
            raise RequestError("no such tile", got=(row, col), expected=expected)
        return row - tiles.row, col - tiles.col

    def __contains__(self, tile: object) -> bool:
        """True if tile (row, col) belongs to the tiling."""
        return isinstance(tile, tuple) and not Window(tile[0], tile[1], 1, 1).intersect(self.tiles).empty

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Tiles (row, col) in row-major order."""
        tiles = self.tiles
        return ((r, c) for r in range(tiles.row, tiles.stop_row) for c in range(tiles.col, tiles.stop_col))
