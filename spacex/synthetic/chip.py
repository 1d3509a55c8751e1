"""One chip of the embedded data set: its address, its files, and its counterfactual without a pattern."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spacex.datasets.writing import write_tile
from spacex.errors import DataError
from spacex.grid import CHIP, Grid, Window
from spacex.synthetic.landscape import Ground, Landscape, pixel_centres
from spacex.synthetic.noise import Bools, Floats
from spacex.synthetic.sensor import MARGIN, Sky, draw_sky, haze_of, observe, to_dn
from spacex.synthetic.spectra import Cover

Tile = NDArray[np.uint8] | NDArray[np.uint16]
FOLDERS = ("tiles/s2", "tiles/lcs", "tiles/s2_scl", "truth")
"""Folders of a data set; each has a file per chip."""
INNER = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
"""Takes the chip out of ground with a margin."""
_GRID = Grid()
_CELL = 10  # pixels of 10 m along a CORINE raster cell of 100 m
# CORINE codes, and for each its code in MODIS MCD12Q1 (IGBP), CGLS-LC100 and GlobCover 2009
_CORINE = np.array([112, 122, 211, 231, 311, 312, 313, 324, 332, 333, 412, 511, 512], np.uint16)
_MODIS = [13, 13, 12, 10, 4, 1, 5, 8, 16, 10, 11, 17, 17]
_CGLS = [50, 50, 40, 30, 114, 111, 115, 121, 60, 100, 90, 80, 80]
_GLOBCOVER = [190, 190, 14, 20, 50, 90, 100, 110, 200, 150, 180, 210, 210]
_MAPS = np.stack([_CORINE, _MODIS, _CGLS, _GLOBCOVER]).astype(np.uint16)
_BARE = (Cover.SHORE, Cover.ROCK, Cover.CLEARCUT, Cover.SETTLEMENT, Cover.ROAD)
_CIRRUS_HAZE = 0.07  # share of haze from which the scene classification says cirrus
_THIN_CIRRUS, _BARE_SOIL, _VEGETATION, _WATER = 10, 5, 4, 6


@dataclass(frozen=True)
class ChipRecord:
    """What it takes to make a chip again."""

    file: str
    """Name of the chip's file in every folder of the data set."""
    row: int
    """First row of the chip on the global 10 m grid of EPSG:3035."""
    col: int
    """First column."""
    landscape: int
    """Seed of the landscape."""
    sky: int
    """Seed of the acquisition."""
    distractor_level: float
    """Distractors stand where their field exceeds this level; NaN: none."""

    @property
    def window(self) -> Window:
        """The chip's pixels on the global grid."""
        return Window(self.row, self.col, CHIP, CHIP)

    @property
    def conditions(self) -> tuple[Sky, Floats]:
        """The sky the chip was seen through, and its share of haze, (256, 256)."""
        sky = draw_sky(np.random.default_rng(self.sky))
        x, y = pixel_centres(self.window, _GRID)
        return sky, haze_of(sky, x[None, :], y[:, None])


def chip_ground(record: ChipRecord, *, without: Collection[str] = (), distractors: bool = True) -> Ground:
    """The chip's noise-free ground with `MARGIN` pixels more on every side, less the patterns in `without`."""
    level = record.distractor_level if distractors and np.isfinite(record.distractor_level) else None
    window = record.window.pad(MARGIN)
    return Landscape(record.landscape).paint_window(window, without=without, distractor_level=level)


def observe_chip(record: ChipRecord, ground: Ground) -> Floats:
    """The chip as the satellite sees it, reflectance (10, 256, 256) f4, in steps of 0.0001 like the stored tile."""
    sky, haze = record.conditions
    return to_dn(observe(ground.reflectance, haze, sky)).astype(np.float32) / np.float32(10000.0)


def read_records(root: str | Path) -> dict[str, ChipRecord]:
    """All chips of a data set made by ``build_dataset``, by file name; DataError if it has no ``truth/chips.csv``."""
    table = Path(root) / "truth" / "chips.csv"
    if not table.is_file():
        raise DataError("this data set has no exact truth", got=root, expected=f"{table}")
    import pandas as pd  # half a second, which serving the archive need not wait for

    return {row["file"]: ChipRecord(**row) for row in pd.read_csv(table).to_dict("records")}


def counterfactual(
    root: str | Path, file: str, *, without: Collection[str] = ("mire", "fell"), distractors: bool = True
) -> Floats:
    """A chip as it would have looked with a pattern absent, through the same haze and with the same noise.

    The patterns in `without` are replaced by the cover beneath them, and planted distractors if `distractors` is False.

    Returns:
        Reflectance (10, 256, 256) f4. With ``without=()`` and distractors kept this is the stored tile, to the
        digit. Pixels change only where the pattern was and up to two pixels around it (optics, 20 m pixels).
    """
    records = read_records(root)
    if file not in records:
        raise DataError("no such chip in this data set", got=file, do="See infos.csv.")
    record = records[file]
    return observe_chip(record, chip_ground(record, without=without, distractors=distractors))


def write_chip(root: Path, record: ChipRecord, ground: Ground) -> None:
    """Write a chip's four files under `root`; `ground` with margin, as from :func:`chip_ground`."""
    truth = ground.pattern[INNER] + 2 * ground.distractors[INNER].astype(np.uint8)
    arrays: tuple[Tile, ...] = (
        to_dn(observe_chip(record, ground)),
        land_cover_maps(ground.corine[INNER], record.window),
        scene_classes(ground.cover[INNER], record.conditions[1] > _CIRRUS_HAZE)[None],
        truth.astype(np.uint8)[None],
    )
    for folder, array in zip(FOLDERS, arrays, strict=True):
        write_tile(root / folder / record.file, array, _GRID, record.window)


def scene_classes(cover: NDArray[np.uint8], cirrus: Bools) -> NDArray[np.uint8]:
    """Sentinel-2 scene classification of clear ground: 4 vegetation, 5 bare, 6 water, 10 thin cirrus."""
    classes = np.full(cover.shape, _VEGETATION, np.uint8)
    classes[np.isin(cover, _BARE)] = _BARE_SOIL
    classes[np.isin(cover, (Cover.LAKE, Cover.RIVER))] = _WATER
    classes[cirrus] = _THIN_CIRRUS
    return classes


def land_cover_maps(corine: NDArray[np.uint16], window: Window) -> NDArray[np.uint16]:
    """The four land-cover bands: CORINE as the majority of each 100 m cell, the others by translating its classes.

    Cells lie on whole 100 m of EPSG:3035 as in the European raster; at a chip's edge only the part inside
    counts.
    """
    # number of the cell that each pixel lies in, counted from the chip's first cell
    rows = (np.arange(window.row, window.stop_row) // _CELL) - window.row // _CELL
    cols = (np.arange(window.col, window.stop_col) // _CELL) - window.col // _CELL
    cell = rows[:, None] * (int(cols.max()) + 1) + cols[None, :]
    code = np.searchsorted(_CORINE, corine)
    # one histogram of all (cell, code) pairs; the most frequent code of a cell is given back to its pixels
    size = (int(cell.max()) + 1, len(_CORINE))
    counts = np.bincount((cell * size[1] + code).ravel(), minlength=size[0] * size[1]).reshape(size)
    return _MAPS[:, counts.argmax(axis=1)[cell]]
