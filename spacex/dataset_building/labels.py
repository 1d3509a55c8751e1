"""What lies where, by the statements alone: which chips of the global grid lie in which class.

Chips that may be drawn start at whole multiples of `LATTICE` pixels of the global grid. The land is looked at in cells
of `CELL` pixels, a thousand to a chip: a cell belongs to a class where its middle lies in a polygon of it (or in a
class of the land cover), so a chip's share in its class is right to about a hundredth. No scene is looked at.
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
"""Pixels between places a chip may have, half a chip: small parks hold chips that no coarser lattice finds."""
SQUARE = 512
"""Cells along a square of land looked at in one go: 41 km."""
MOST_SQUARES = 200_000
"""Squares that are looked through: at 10 m, the land of the Earth has 90,000."""
ESTATE = 2048
"""Pixels along the squares that count as polygons where land cover states the class: 20 km."""
_STEP, _SIDE = LATTICE // CELL, CHIP // CELL

NATURAL, HUMAN = 1, 0
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
    """`NATURAL` or `HUMAN`."""
    owner: NDArray[np.int64]
    """Index of the polygon most of the chip lies in; below 0: no polygon, one number per square of `ESTATE`."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[Any]) -> Candidates:
        """Some of them, by mask or index."""
        return Candidates(self.row[which], self.col[which], self.label[which], self.owner[which])

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Candidates:
        """All of several, in their order."""
        kinds = {"row": np.int64, "col": np.int64, "label": np.int8, "owner": np.int64}
        return cls(**{name: np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in parts)]).astype(kind)
                      for name, kind in kinds.items()})  # fmt: skip

    def boxes(self, grid: Grid) -> NDArray[np.object_]:
        """The chips as rectangles in the grid's CRS, (n,)."""
        r = grid.resolution
        left, top = self.col * r, -self.row * r
        return np.asarray(shapely.box(left, top - CHIP * r, left + CHIP * r, top))


class LabelGrid:
    """The statements on the global grid.

    Args:
        grid: the global grid.
        natural: polygons of the natural class in the grid's CRS, (n,).
        human: those of the anthropogenic class; none if only land cover states it.
        cover: CORINE raster, whose `human` classes state the anthropogenic class too.
    """

    def __init__(
        self, grid: Grid, natural: NDArray[np.object_], human: NDArray[np.object_], cover: LandCover | None = None
    ) -> None:
        self.grid, self._cells = grid, Grid(grid.crs, grid.resolution * CELL)
        self._shapes = {NATURAL: natural, HUMAN: human}
        self._trees = {label: shapely.STRtree(shapes) for label, shapes in self._shapes.items()}
        self._cover = cover if cover is not None and cover.human else None
        self.best = {NATURAL: 0.0, HUMAN: 0.0}
        """Largest share of a chip in each class seen so far."""

    @cached_property
    def extent(self) -> BaseGeometry:
        """The rectangle around all polygons, in the grid's CRS."""
        return shapely.box(*shapely.total_bounds(np.concatenate([*self._shapes.values()])))

    def squares(self, reach: BaseGeometry) -> list[Window]:
        """Squares of cells, on the global grid, in which chips begin that touch `reach` and any statement."""
        box = self._cells.window(*reach.bounds)
        rows = range((box.row - _SIDE) // SQUARE, -(-box.stop_row // SQUARE))
        cols = range((box.col - _SIDE) // SQUARE, -(-box.stop_col // SQUARE))
        if len(rows) * len(cols) > MOST_SQUARES:
            got = f"{len(rows) * len(cols):,} squares of {SQUARE * self._cells.resolution / 1000:g} km"
            raise DataError("the statements reach too far", got=got, expected=f"at most {MOST_SQUARES:,}",
                            do="Give --bbox or --area.")  # fmt: skip
        all_ = (Window(row * SQUARE, col * SQUARE, SQUARE, SQUARE) for row in rows for col in cols)
        return [square for square in all_ if self._states(square) and self.box(square).intersects(reach)]

    def box(self, square: Window) -> BaseGeometry:
        """The ground of all chips that begin in a square of cells, a rectangle in the grid's CRS."""
        return shapely.box(*self._cells.geobox(_reaching(square)).boundingbox)

    def _states(self, square: Window) -> bool:
        found = any(len(tree.query(self.box(square))) for tree in self._trees.values())
        return found or self._cover is not None

    def look(self, square: Window, share: float) -> Candidates:
        """The chips that start in a square and lie in a class.

        Args:
            square: one of `squares`.
            share: of a chip that must lie in its class. An anthropogenic one must lie outside all natural polygons.
        """
        wide = _reaching(square)
        natural, human = self._paint(NATURAL, wide), self._paint(HUMAN, wide)
        touched = self._paint(NATURAL, wide, all_touched=True) > 0
        if self._cover is not None:
            human = np.where((human == 0) & self._covered(wide), -1, human).astype(np.int32)
        wild = _shares(natural != 0)
        tame = np.where(_shares(touched) > 0, 0.0, _shares(human != 0))
        self.best[NATURAL] = max(self.best[NATURAL], float(wild.max()))
        self.best[HUMAN] = max(self.best[HUMAN], float(tame.max()))
        found = [(NATURAL, natural, wild >= share), (HUMAN, human, (tame >= share) & (wild < share))]
        return Candidates.joined([self._candidates(square, label, codes, where) for label, codes, where in found])

    def _candidates(self, square: Window, label: int, codes: Codes, where: Bools) -> Candidates:
        places = np.argwhere(where)
        row = (square.row + places[:, 0] * _STEP) * CELL
        col = (square.col + places[:, 1] * _STEP) * CELL
        owners = [_most(codes[r * _STEP :, c * _STEP :][:_SIDE, :_SIDE]) for r, c in places]
        owner = np.array(owners, np.int64).reshape(-1)
        owner = np.where(owner < 0, estate_of(row, col), owner)
        return Candidates(row, col, np.full(len(row), label, np.int8), owner)

    def _paint(self, label: int, window: Window, all_touched: bool = False) -> Codes:
        """(height, width) index of the polygon each cell lies in, from 1; 0 where it lies in none."""
        box = shapely.box(*self._cells.geobox(window).boundingbox)
        hits = self._trees[label].query(box, predicate="intersects")
        parts = shapely.clip_by_rect(self._shapes[label][hits], *box.bounds)
        areas = shapely.area(parts)
        order = [i for i in np.lexsort((hits, -areas)) if areas[i] > 0]  # small ones lie on large ones
        shapes = [(parts[i], int(hits[i]) + 1) for i in order]
        if not shapes:
            return np.zeros(window.shape, np.int32)
        transform = self._cells.transform(window)
        painted = rasterize(shapes, window.shape, transform=transform, all_touched=all_touched, dtype="int32")
        return np.asarray(painted, np.int32)

    def _covered(self, window: Window) -> Bools:
        assert self._cover is not None
        return np.isin(read_cover(self._cover.file, self._cells, window), codes_of(self._cover.human))


def _reaching(square: Window) -> Window:
    """The cells of all chips that begin in a square."""
    return Window(square.row, square.col, square.height + _SIDE - _STEP, square.width + _SIDE - _STEP)


def estate_of(row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.int64]:
    """A negative number for the square of `ESTATE` pixels in which chips lie; see `estate_window`."""
    middle_row, middle_col = row + CHIP // 2, col + CHIP // 2
    return -1 - (((middle_row // ESTATE + 2**20) << 21) + (middle_col // ESTATE + 2**20))


def estate_window(owner: int) -> Window:
    """The square that `estate_of` gave a number."""
    row, col = divmod(-1 - owner, 2**21)
    return Window((row - 2**20) * ESTATE, (col - 2**20) * ESTATE, ESTATE, ESTATE)


def _shares(mask: Bools) -> NDArray[np.float64]:
    """Share of each chip of the lattice that is True."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    low = slice(0, mask.shape[0] - _SIDE + 1, _STEP), slice(0, mask.shape[1] - _SIDE + 1, _STEP)
    high = slice(_SIDE, None, _STEP), slice(_SIDE, None, _STEP)
    inside = sums[high] - sums[low[0], high[1]] - sums[high[0], low[1]] + sums[low]
    return np.asarray(inside / _SIDE**2)


def _most(codes: Codes) -> int:
    """Index of the polygon that most of some cells lie in; -1 if that is the land cover's class."""
    values, counts = np.unique(codes[codes != 0], return_counts=True)
    most = int(values[counts.argmax()])
    return most - 1 if most > 0 else -1


def read_cover(file: str, grid: Grid, window: Window) -> NDArray[np.uint16]:
    """CORINE level-3 codes of a raster, brought to a grid by the nearest cell: (height, width), 0 = no data.

    Raises:
        DataError: if it cannot be read, or holds other classes than CORINE's.
    """
    try:
        with (
            open_raster(file) as source,
            WarpedVRT(
                source, crs=grid.crs, transform=grid.transform(window), width=window.width, height=window.height,
                src_nodata=0 if source.nodata is None else source.nodata, nodata=0, resampling=Resampling.nearest,
            ) as warped,
        ):  # fmt: skip
            return corine_codes(warped.read(1))
    except RasterioError as error:
        raise DataError(f"--land-cover cannot be read: {file}", got=error) from error


def check_cover(file: str) -> None:
    """Refuse a land cover that is no GeoTIFF, has no CRS, or no whole numbers.

    Raises:
        DataError: naming what is wrong.
    """
    try:
        with open_raster(file) as source:
            driver, crs, dtype = source.driver, source.crs, np.dtype(source.dtypes[0])
    except RasterioError as error:
        raise DataError(f"--land-cover cannot be read: {file}", got=error, expected="a GeoTIFF") from error
    if driver != "GTiff":
        raise DataError(f"--land-cover is no GeoTIFF: {file}", got=driver)
    if crs is None:
        do = "Give it one, e.g. with `gdal_edit.py -a_srs EPSG:3035`."
        raise DataError(f"--land-cover has no CRS: {file}", do=do)
    if dtype.kind not in "iu":
        raise DataError(f"--land-cover holds no classes: {file}", got=str(dtype), expected="whole numbers")
