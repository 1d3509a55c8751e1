"""Labels on the global grid: which chips lie in the natural or the anthropogenic class by polygons and land cover.

Candidates start at whole multiples of `LATTICE` pixels of the global grid. Labels are rasterised in cells of `CELL`
pixels, a thousand to a chip: a cell belongs to a class where its middle lies in a polygon of the class (or in a class
of the land cover), so a chip's share in its class is right to about a hundredth. No scene is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from shapely.geometry.base import BaseGeometry

from spacex.dataset_building.request import LandCover, codes_of
from spacex.datasets.corine import corine_codes
from spacex.errors import DataError
from spacex.grid import CHIP, Grid, Window
from spacex.rasters import open_raster

CELL = 8
"""Pixels along a cell: 80 m, finer than CORINE's 100 m."""
LATTICE = 128
"""Pixels between the starts of candidates, half a chip: a coarser lattice misses the chips of small parks."""
SQUARE = 512
"""Cells along a square of land that is rasterised at a time: 41 km."""
MAX_SQUARES = 200_000
"""At 10 m, the land of the Earth has 90,000."""
COVER_BLOCK = 2048
"""Pixels along the squares that count as polygons where land cover labels the class: 20 km."""
_STEP, _SIDE = LATTICE // CELL, CHIP // CELL

NATURAL, ANTHROPOGENIC = 1, 0
"""Labels, as AnthroProtect's."""

Codes = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Chips that lie in a class, arrays (n,)."""

    row: NDArray[np.int64]
    """First row on the global grid."""
    col: NDArray[np.int64]
    label: NDArray[np.int8]
    """`NATURAL` or `ANTHROPOGENIC`."""
    polygon_id: NDArray[np.int64]
    """Index of the polygon most of the chip lies in; below 0: none, but the block of `cover_block_id`."""
    share: NDArray[np.float32]
    """Of the chip in its class."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[Any]) -> Candidates:
        """Some of them, by mask or index."""
        return Candidates(*(column[which] for column in vars(self).values()))

    @classmethod
    def concatenate(cls, parts: list[Candidates]) -> Candidates:
        """All of several, in their order."""
        empty = cls(*(np.empty(0, np.int64),) * 2, np.empty(0, np.int8), np.empty(0, np.int64), np.empty(0, np.float32))
        columns = zip(*(vars(part).values() for part in (empty, *parts)), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def boxes(self, grid: Grid) -> NDArray[np.object_]:
        """The chips as rectangles in the grid's CRS, (n,)."""
        r = grid.resolution
        left, top = self.col * r, -self.row * r
        return np.asarray(shapely.box(left, top - CHIP * r, left + CHIP * r, top))


class LabelGrid:
    """Rasterises labels and finds the chips that lie in a class.

    `natural` and `anthropogenic` are polygons (n,) in the grid's CRS; the anthropogenic classes of `cover` count too.
    """

    def __init__(
        self,
        grid: Grid,
        natural: NDArray[np.object_],
        anthropogenic: NDArray[np.object_],
        cover: LandCover | None = None,
    ) -> None:
        self.grid, self._cells = grid, Grid(grid.crs, grid.resolution * CELL)
        self._shapes = {NATURAL: natural, ANTHROPOGENIC: anthropogenic}
        self._trees = {label: shapely.STRtree(shapes) for label, shapes in self._shapes.items()}
        self._cover = cover if cover is not None and cover.anthropogenic else None
        self.largest_share = {NATURAL: 0.0, ANTHROPOGENIC: 0.0}
        """Largest share of a chip in each class so far."""

    @cached_property
    def extent(self) -> BaseGeometry:
        """The rectangle around all polygons, in the grid's CRS."""
        return shapely.box(*shapely.total_bounds(np.concatenate([*self._shapes.values()])))

    def squares(self, area: BaseGeometry) -> list[Window]:
        """Squares of cells, on the global grid, in which chips begin that touch `area` and any label."""
        # a chip reaches beyond the square it begins in, so squares begin one chip before the area
        box = self._cells.window(*area.bounds)
        rows = range((box.row - _SIDE) // SQUARE, -(-box.stop_row // SQUARE))
        cols = range((box.col - _SIDE) // SQUARE, -(-box.stop_col // SQUARE))
        if len(rows) * len(cols) > MAX_SQUARES:
            got, expected = f"{len(rows) * len(cols):,} squares of land", f"at most {MAX_SQUARES:,}"
            raise DataError("the labelled land is too large", got=got, expected=expected, do="Give --bbox or --area.")
        squares = (Window(row * SQUARE, col * SQUARE, SQUARE, SQUARE) for row in rows for col in cols)
        return [square for square in squares if self._has_labels(square) and self.box(square).intersects(area)]

    def box(self, square: Window) -> BaseGeometry:
        """The ground of all chips that begin in a square of cells, a rectangle in the grid's CRS."""
        return shapely.box(*self._cells.geobox(_with_chips(square)).boundingbox)

    def _has_labels(self, square: Window) -> bool:
        return self._cover is not None or any(len(tree.query(self.box(square))) for tree in self._trees.values())

    def candidates(self, square: Window, share: float) -> Candidates:
        """The chips that start in one of `squares` and of which `share` lies in their class.

        An anthropogenic chip must lie outside all natural polygons.
        """
        window = _with_chips(square)
        natural, anthropogenic = self._rasterize(NATURAL, window), self._rasterize(ANTHROPOGENIC, window)
        if self._cover is not None:
            # -1 where land cover labels the cell and no polygon does
            codes = read_cover(self._cover.file, self._cells, window)
            labelled = np.isin(codes, codes_of(self._cover.anthropogenic))
            anthropogenic = np.where((anthropogenic == 0) & labelled, -1, anthropogenic).astype(np.int32)
        # a natural polygon excludes anthropogenic chips from every cell it touches, not only those it has the middle of
        touched = self._rasterize(NATURAL, window, all_touched=True) > 0
        shares = {NATURAL: _shares(natural != 0)}
        shares[ANTHROPOGENIC] = np.where(_shares(touched) > 0, 0.0, _shares(anthropogenic != 0))
        for label, values in shares.items():
            self.largest_share[label] = max(self.largest_share[label], float(values.max()))
        is_natural = shares[NATURAL] >= share
        is_anthropogenic = (shares[ANTHROPOGENIC] >= share) & ~is_natural
        parts = (NATURAL, natural, is_natural), (ANTHROPOGENIC, anthropogenic, is_anthropogenic)
        return Candidates.concatenate(
            [_candidates(square, label, codes, where, shares[label]) for label, codes, where in parts]
        )

    def _rasterize(self, label: int, window: Window, all_touched: bool = False) -> Codes:
        """(height, width) index of the polygon each cell lies in, from 1; 0 where it lies in none."""
        box = shapely.box(*self._cells.geobox(window).boundingbox)
        # clip first: rasterising a whole country for one square is slow
        hits = self._trees[label].query(box, predicate="intersects")
        parts = shapely.clip_by_rect(self._shapes[label][hits], *box.bounds)
        areas = shapely.area(parts)
        # later shapes replace earlier ones, so small polygons come after the large ones they lie on
        order = [i for i in np.lexsort((hits, -areas)) if areas[i] > 0]
        shapes = [(parts[i], int(hits[i]) + 1) for i in order]
        if not shapes:
            return np.zeros(window.shape, np.int32)
        transform = self._cells.transform(window)
        cells = rasterize(shapes, window.shape, transform=transform, all_touched=all_touched, dtype="int32")
        return np.asarray(cells, np.int32)


def _with_chips(square: Window) -> Window:
    """The cells of all chips that begin in a square."""
    return Window(square.row, square.col, square.height + _SIDE - _STEP, square.width + _SIDE - _STEP)


def _candidates(square: Window, label: int, codes: Codes, where: Bools, shares: NDArray[np.float64]) -> Candidates:
    """Candidates of one class at the True positions of a square's lattice."""
    positions = np.argwhere(where)
    row = (square.row + positions[:, 0] * _STEP) * CELL
    col = (square.col + positions[:, 1] * _STEP) * CELL
    ids = [_most_frequent(codes[r * _STEP :, c * _STEP :][:_SIDE, :_SIDE]) for r, c in positions]
    polygon_id = np.array(ids, np.int64).reshape(-1)
    polygon_id = np.where(polygon_id < 0, cover_block_id(row, col), polygon_id)
    return Candidates(row, col, np.full(len(row), label, np.int8), polygon_id, shares[where].astype(np.float32))


def cover_block_id(row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.int64]:
    """A negative number for the square of `COVER_BLOCK` pixels in which a chip's middle lies."""
    middle_row, middle_col = row + CHIP // 2, col + CHIP // 2
    # both indices as 21 bits of one number; 2**20 makes them positive
    return -1 - (((middle_row // COVER_BLOCK + 2**20) << 21) + (middle_col // COVER_BLOCK + 2**20))


def cover_block_window(block_id: int) -> Window:
    """The square that `cover_block_id` gave a number."""
    row, col = divmod(-1 - block_id, 2**21)
    return Window((row - 2**20) * COVER_BLOCK, (col - 2**20) * COVER_BLOCK, COVER_BLOCK, COVER_BLOCK)


def _shares(mask: Bools) -> NDArray[np.float64]:
    """Share of each chip of the lattice that is True."""
    chips = np.lib.stride_tricks.sliding_window_view(mask, (_SIDE, _SIDE))[::_STEP, ::_STEP]
    return np.asarray(chips.mean(axis=(2, 3)))


def _most_frequent(codes: Codes) -> int:
    """Index of the polygon that most of some cells lie in; -1 if most are labelled by land cover."""
    values, counts = np.unique(codes[codes != 0], return_counts=True)
    return max(int(values[counts.argmax()]) - 1, -1)


def read_cover(file: str, grid: Grid, window: Window) -> NDArray[np.uint16]:
    """CORINE level-3 codes of a raster, resampled to a grid by the nearest cell: (height, width), 0 = no data."""
    target = {"crs": grid.crs, "transform": grid.transform(window), "width": window.width, "height": window.height}
    try:
        with open_raster(file) as source:
            no_data = {"src_nodata": 0 if source.nodata is None else source.nodata, "nodata": 0}
            with WarpedVRT(source, **target, **no_data, resampling=Resampling.nearest) as warped:
                return corine_codes(warped.read(1))
    except RasterioError as error:
        raise DataError(f"--land-cover cannot be read: {file}", got=error) from error


def check_cover(file: str) -> None:
    """Refuse a land cover that is no GeoTIFF, has no CRS, or no whole numbers."""
    try:
        with open_raster(file, formats=("GTiff",)) as source:
            crs, dtype = source.crs, np.dtype(source.dtypes[0])
    except RasterioError as error:
        raise DataError(f"--land-cover cannot be read: {file}", got=error, expected="a GeoTIFF") from error
    if crs is None:
        raise DataError(f"--land-cover has no CRS: {file}", do="Give it one: `gdal_edit.py -a_srs EPSG:3035`.")
    if dtype.kind not in "iu":
        raise DataError(f"--land-cover holds no classes: {file}", got=str(dtype), expected="whole numbers")
