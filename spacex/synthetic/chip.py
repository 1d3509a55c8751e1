"""One chip of the embedded data set: where it lies, how it looks, what it would look like otherwise."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
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
_GRID = Grid()
_CELL = 10  # pixels of 10 m along a CORINE raster cell of 100 m
# The three global maps' own codes for each CORINE code: MODIS MCD12Q1 (IGBP), CGLS-LC100, GlobCover 2009.
_OTHER_MAPS = {
    311: (4, 114, 50), 312: (1, 111, 90), 313: (5, 115, 100), 324: (8, 121, 110), 512: (17, 80, 210),
    511: (17, 80, 210), 412: (11, 90, 180), 332: (16, 60, 200), 333: (10, 100, 150), 211: (12, 40, 14),
    231: (10, 30, 20), 112: (13, 50, 190), 122: (13, 50, 190),
}  # fmt: skip
_BARE = (Cover.SHORE, Cover.ROCK, Cover.CLEARCUT, Cover.SETTLEMENT, Cover.ROAD)
_HAZY = 0.07  # share of haze from which the scene classification calls it cirrus
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
    knolls: float
    """Level of the planted knolls; NaN: none."""

    @property
    def window(self) -> Window:
        """The chip's pixels on the global grid."""
        return Window(self.row, self.col, CHIP, CHIP)


def ground_of(record: ChipRecord, *, without: Collection[str] = (), knolls: bool = True) -> Ground:
    """The chip's noise-free ground with `MARGIN` pixels more on every side.

    Args:
        record: which chip.
        without: natural patterns to leave out ("mire", "fell").
        knolls: False leaves the planted knolls out.
    """
    level = record.knolls if knolls and np.isfinite(record.knolls) else None
    return _landscape(record.landscape).paint_window(record.window.pad(MARGIN), without=without, planted=level)


def picture(record: ChipRecord, ground: Ground) -> Floats:
    """The chip as its satellite saw it, reflectance (10, 256, 256) f4, in steps of 0.0001 like the stored tile."""
    return to_dn(observe(ground.reflectance, _haze(record), sky_of(record))).astype(np.float32) / np.float32(10000.0)


def sky_of(record: ChipRecord) -> Sky:
    """The acquisition a chip was seen through."""
    return draw_sky(np.random.default_rng(record.sky))


def read_records(root: str | Path) -> dict[str, ChipRecord]:
    """All chips of a data set made by ``build_dataset``, by file name.

    Raises:
        DataError: if the folder holds no ``truth/chips.csv``.
    """
    table = Path(root) / "truth" / "chips.csv"
    if not table.is_file():
        raise DataError("this data set has no exact truth", got=root, expected=f"{table}")
    import pandas as pd  # half a second, which serving the archive need not wait for

    return {row["file"]: ChipRecord(**row) for row in pd.read_csv(table).to_dict("records")}


def counterfactual(
    root: str | Path, file: str, *, without: Collection[str] = ("mire", "fell"), knolls: bool = True
) -> Floats:
    """A chip as it would have looked with a pattern absent, through the same haze and with the same noise.

    Args:
        root: folder of a data set made by ``build_dataset``.
        file: the chip's name in ``infos.csv``.
        without: natural patterns replaced by the cover beneath them; () for none.
        knolls: False removes the planted knolls.

    Returns:
        Reflectance (10, 256, 256) f4. With ``without=()`` and knolls kept this is the stored tile, to the
        digit. Pixels change only where the pattern was and up to two pixels around it (optics, 20 m pixels).
    """
    records = read_records(root)
    if file not in records:
        raise DataError("no such chip in this data set", got=file, do="See infos.csv.")
    record = records[file]
    return picture(record, ground_of(record, without=without, knolls=knolls))


def write_chip(root: Path, record: ChipRecord, ground: Ground) -> None:
    """Write a chip's four files under `root`; `ground` with margin, as from :func:`ground_of`."""
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    cover = ground.cover[inner]
    truth = ground.pattern[inner] + 2 * ground.planted[inner].astype(np.uint8)
    arrays: tuple[Tile, ...] = (
        to_dn(picture(record, ground)),
        land_cover_maps(ground.corine[inner], record.window),
        scene_classes(cover, _haze(record) > _HAZY)[None],
        truth.astype(np.uint8)[None],
    )
    for folder, array in zip(FOLDERS, arrays, strict=True):
        write_tile(root / folder / record.file, array, _GRID, record.window)


def _haze(record: ChipRecord) -> Floats:
    x, y = pixel_centres(record.window, _GRID)
    return haze_of(sky_of(record), x[None, :], y[:, None])


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
    rows = (np.arange(window.row, window.stop_row) // _CELL) - window.row // _CELL
    cols = (np.arange(window.col, window.stop_col) // _CELL) - window.col // _CELL
    cell = rows[:, None] * (int(cols.max()) + 1) + cols[None, :]
    codes = np.array(sorted(_OTHER_MAPS), np.uint16)
    kind = np.searchsorted(codes, corine)
    counts = np.bincount((cell * len(codes) + kind).ravel(), minlength=(int(cell.max()) + 1) * len(codes))
    winner = counts.reshape(-1, len(codes)).argmax(axis=1)[cell]
    others = np.array([_OTHER_MAPS[int(code)] for code in codes], np.uint16)
    return np.concatenate([codes[winner][None], others[winner].transpose(2, 0, 1)])


@lru_cache(maxsize=4)
def _landscape(seed: int) -> Landscape:
    return Landscape(seed)
