"""Open a cube for reading, as an xarray dataset that other tools can clip and save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - a cube opened here has .rio
import xarray as xr

from spacex.cube.layout import TILES
from spacex.cube.levels import LINK, cube_attributes, open_level
from spacex.cube.store import Cube
from spacex.errors import RequestError
from spacex.execution.tasks import Status


def open_cube(uri: str, level: int = 0, chunks: Any = None) -> xr.Dataset:
    """Open one level of a cube.

    Args:
        uri: of the cube, a path or any fsspec URI.
        level: 0 for full resolution, each further one half of it; the picture (`composite`) begins at level 1.
        chunks: as in `xarray.open_zarr`: None reads lazily without dask, ``{}`` gives dask arrays.

    Returns:
        Every map over (time, y, x), decoded: float, NaN = no data, coordinates in metres of the cube's CRS
        (``.rio.crs``), cropped to the requested extent. The attributes `request` and `checkpoint` are JSON text.
        ``.spacex.tiles`` has the tiles' statuses and provenance. The dataset can be clipped (``.rio.clip``) and saved
        (``to_netcdf``, ``to_zarr``; with dask arrays ``to_zarr(align_chunks=True)``).

    Raises:
        CubeError: if there is no cube, or it has no such level.

    >>> import spacex
    >>> cube = spacex.open_cube("lapland.zarr")
    >>> cube.naturalness.dims
    ('time', 'y', 'x')
    >>> cube.spacex.coverage["finished"].tolist()
    [1.0]
    """
    return open_level(uri, level, chunks)


def open_tiles(uri: str) -> xr.Dataset:
    """The tiles of a cube: `status` as text, and `provenance` as JSON, over (time, tile_y, tile_x).

    From format 3 on, the coordinates `tile_y` and `tile_x` are a tile's row and column on the global tile lattice.

    Raises:
        CubeError: if there is no cube.
    """
    attributes, _ = cube_attributes(uri)
    group = TILES if attributes["spacex_format"] > 1 else ""
    tiles: xr.Dataset = xr.open_zarr(uri, group=group, chunks=None)[["status", "provenance"]]
    labels = np.array([status.label for status in Status])
    decoded = tiles["status"].copy(data=labels[tiles["status"].values])
    decoded.attrs = {"long_name": tiles["status"].attrs["long_name"]}
    return tiles.assign(status=decoded)


@dataclass(frozen=True)
class Picture:
    """A PNG file in memory; a notebook shows it."""

    png: bytes

    def save(self, file: str) -> None:
        """Write it to a path or any fsspec URI."""
        with fsspec.open(file, "wb") as target:
            target.write(self.png)

    def _repr_png_(self) -> bytes:
        return self.png


@xr.register_dataset_accessor("spacex")  # type: ignore[no-untyped-call]
class CubeAccessor:
    """Access to the cube behind a dataset from `open_cube`, also after the dataset was cropped or computed with."""

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    @property
    def uri(self) -> str:
        """The cube's URI."""
        if LINK not in self._data.attrs:
            raise RequestError("this dataset does not come from a cube", do="Open one with spacex.open_cube.")
        return str(self._data.attrs[LINK])

    @property
    def tiles(self) -> xr.Dataset:
        """`status` as text and `provenance` as JSON, over (time, tile_y, tile_x)."""
        return open_tiles(self.uri)

    @property
    def cube(self) -> Cube:
        """The cube itself."""
        return Cube(self.uri)

    @property
    def coverage(self) -> pd.DataFrame:
        """Number of tiles by time step (rows) and status, and `finished`, their share of the area's tiles."""
        statuses = self.cube.statuses()
        counts = {state.label: (statuses == state).sum(axis=(1, 2)) for state in Status}
        days = pd.DatetimeIndex([first for first, _ in self.cube.spec.intervals], name="time")
        table = pd.DataFrame(counts, index=days)
        in_area = table.drop(columns="outside").sum(axis=1)
        return table.assign(finished=(table["done"] + table["no_data"]) / in_area)

    def quicklook(self, time: int | None = None) -> Picture:
        """Composite, maps and naturalness side by side; a notebook shows the picture.

        Args:
            time: index of the only time step to draw; None for all.
        """
        from spacex.cube.quicklook import draw  # with matplotlib, which reading need not wait for

        file = f"memory://quicklook-{uuid4().hex}.png"
        draw(self.uri, file, time)
        fs, path = fsspec.core.url_to_fs(file)
        png = bytes(fs.cat_file(path))
        fs.rm_file(path)
        return Picture(png)
