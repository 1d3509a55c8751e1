"""A cube against CORINE: how much attribution and naturalness each land-cover class carries.

Everything is a sum over blocks (counts, totals, histograms), so dask streams through cubes larger than memory
in any order. Classes are brought to the cube's pixels by nearest neighbour. On the European grid a 100 m CORINE cell
holds exactly 10 x 10 pixels of the cube, and is simply repeated; for any other raster the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.attribution.names import MAP_NAMES
from spacex.cube.reader import open_cube
from spacex.cube.store import Cube
from spacex.datasets.corine import CLASSES
from spacex.datasets.corine_cover import Cover, open_cover
from spacex.errors import CubeError

MAPS = (*MAP_NAMES, "naturalness")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 2048
"""Bins of the histograms behind the quantiles: over six decades below the maximum, so steps of 0.7 %."""
DECADES = 6
BLOCK = 2048
"""Side in pixels of the blocks that are read at once."""

_CODES = np.array([0, *CLASSES], dtype=np.uint16)


@dataclass(frozen=True)
class Tally:
    """Per class and bin: how many pixels, and per class their sum. Additive, so blocks may come in any order."""

    top: float
    """Largest value of the map: the upper end of the histogram."""
    counts: NDArray[np.float64]
    """``(classes, BINS + 1)``; the first bin holds values at or below `DECADES` decades under `top`."""
    sums: NDArray[np.float64]
    """``(classes,)``."""

    def row(self, index: int, pixel_area: float) -> dict[str, float]:
        """Area in km², mean and quantiles of a class that has pixels."""
        below = self.counts[index].cumsum()
        pixels = below[-1]
        # a quantile is the middle of the bin in which it lies; the first bin, far below the maximum, counts as 0
        edges = _edges(self.top)
        middles = np.append(0.0, (edges[:-1] + edges[1:]) / 2)
        quantiles = middles[np.searchsorted(below, np.array(QUANTILES) * pixels)]
        names = [f"p{round(100 * share):02d}" for share in QUANTILES]
        row = {"area_km2": pixels * pixel_area / 1e6, "mean": self.sums[index] / pixels}
        return row | dict(zip(names, quantiles.tolist(), strict=True))


def _edges(top: float) -> NDArray[np.float64]:
    return np.asarray(top * np.logspace(-DECADES, 0, BINS + 1))


def tally(values: da.Array, cover: Cover) -> Tally:
    """Stream through a map (y, x), block by block, and sum up per class; values are NaN or not negative."""
    values = values.rechunk((BLOCK, BLOCK))  # type: ignore[no-untyped-call]
    # a first pass finds the upper end of the histogram, the second fills it
    top = float(da.nanmax(values).compute())
    top = top if np.isfinite(top) and top > 0 else 1.0
    rows, cols = values.numblocks
    # every block becomes an array (1, 1, classes, bins and a sum), and these are added up
    parts = da.map_blocks(  # type: ignore[no-untyped-call]
        _block_stats, values, cover, top, dtype=np.float64, meta=np.empty((0,) * 4), new_axis=[2, 3],
        chunks=((1,) * rows, (1,) * cols, (len(_CODES),), (BINS + 2,)),
    )  # fmt: skip
    total = parts.sum(axis=(0, 1), split_every=8).compute()
    return Tally(top, total[:, :-1], total[:, -1])


def _block_stats(values: NDArray[np.floating], cover: Cover, top: float, block_info: Any = None) -> NDArray[np.float64]:
    # dask says where in the whole map this block lies
    rows, cols = (slice(*edge) for edge in block_info[0]["array-location"])
    known = np.isfinite(values)
    index = np.searchsorted(_CODES, cover.read(rows, cols)[known])
    # the first bin takes all that is too small for the histogram, 0 among it
    kept = values[known].astype(np.float64)
    bins = np.clip(np.searchsorted(_edges(top), kept), 0, BINS)
    # one histogram per class from one call: a pixel's bin is moved by its class times the number of bins
    counts = np.bincount(index * (BINS + 1) + bins, minlength=len(_CODES) * (BINS + 1))
    sums = np.bincount(index, weights=kept, minlength=len(_CODES))
    # the sums travel as a last column, so that dask adds up one array
    return np.column_stack([counts.reshape(len(_CODES), -1), sums])[None, None]


def class_table(cube: str, corine: str) -> tuple[pd.DataFrame, Cover]:
    """Area, mean and quantiles of every map of a finished cube per time step and class of a CORINE raster.

    The raster may hold the EEA's grid codes or three-digit codes.

    Raises:
        CubeError: if there is no cube.
        DataError: if the raster does not fit.
    """
    opened = Cube(cube)
    cover = open_cover(corine, opened.grid.geobox(opened.extent))
    data = open_cube(cube, chunks={})
    shown = [name for name in MAPS if name in data]
    if not shown:
        raise CubeError(f"the cube {cube} holds none of the maps", expected=", ".join(MAPS))
    rows = []
    names = {0: "no land cover", **CLASSES}
    for step, when in enumerate(np.datetime_as_string(data["time"].values, unit="D")):
        for name in shown:
            sums = tally(data[name].isel(time=step).data, cover)
            for index, code in enumerate(_CODES.tolist()):
                if sums.counts[index].any():
                    head = {"class": code, "name": names[code], "time": when, "map": name}
                    rows.append({**head, **sums.row(index, opened.grid.resolution**2)})
    return pd.DataFrame(rows), cover
