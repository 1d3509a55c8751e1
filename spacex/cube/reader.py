"""Opening a cube to read it: one call for any level, in a form that other tools can clip and save."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - a cube opened here has .rio
import xarray as xr

from spacex.cube.layout import FORMAT, TILES
from spacex.cube.store import OBJECTS, Cube, Status, read_attributes
from spacex.errors import CubeError, RequestError

LINK = "cube"
"""Attribute of an opened dataset: where it came from."""
_ONLY_IN_ZARR = ("_CRS", "zarr_conventions", "proj:", "spatial:", "multiscales")
"""Attributes that say in other readers' words what CF says too; most are objects, which NetCDF cannot hold."""


def open_cube(uri: str, level: int = 0, chunks: Any = None) -> xr.Dataset:
    """Open one level of a cube.

    Args:
        uri: of the cube, a path or any fsspec URI.
        level: 0 for full resolution, each further one half of it; the picture (`composite`) begins at level 1.
        chunks: as in `xarray.open_zarr`: None reads when needed, without dask; ``{}`` gives dask arrays.

    Returns:
        Every map over (time, y, x), decoded: float with NaN where there is no data, coordinates in metres of the
        cube's CRS (``.rio.crs``). Attributes are text, `request` and `checkpoint` as JSON. ``.spacex.tiles`` has the
        tiles' states and provenance. The whole dataset clips (``.rio.clip``) and saves (``to_netcdf``, ``to_zarr``).

    Raises:
        CubeError: if there is no cube, or it has no such level.

    >>> import spacex
    >>> cube = spacex.open_cube("lapland.zarr")
    >>> cube.naturalness.dims
    ('time', 'y', 'x')
    >>> cube.spacex.coverage["finished"].tolist()
    [1.0]
    """
    attributes, levels = _look(uri)
    if not 0 <= level < len(levels):
        wait = "Coarser ones are made when a run ends: repeat the command that maps." if level > 0 else None
        raise CubeError(f"no such level in {uri}", got=level, expected=f"0 to {len(levels) - 1}", do=wait)
    data: xr.Dataset = xr.open_zarr(uri, group=levels[level], chunks=chunks)
    # format 1 kept the tiles' arrays beside the maps
    data = data.drop_vars(["status", "provenance"], errors="ignore").set_coords(["time_bounds"])
    for variable in data.variables.values():
        variable.attrs = _plain(variable.attrs)
    data.attrs = {**_plain(attributes), LINK: str(uri)}
    return data


def open_tiles(uri: str) -> xr.Dataset:
    """The tiles of a cube: `status` as words, and `provenance` as JSON, over (time, tile_y, tile_x).

    Raises:
        CubeError: if there is no cube.
    """
    attributes, _ = _look(uri)
    group = TILES if attributes["spacex_format"] == FORMAT else ""
    tiles: xr.Dataset = xr.open_zarr(uri, group=group, chunks=None)[["status", "provenance"]]
    words = np.array([status.name.lower() for status in Status])
    decoded = tiles["status"].copy(data=words[tiles["status"].values])
    decoded.attrs = {"long_name": tiles["status"].attrs["long_name"]}
    return tiles.assign(status=decoded)


@dataclass(frozen=True)
class Picture:
    """A PNG file in memory, which a notebook shows."""

    png: bytes

    def save(self, file: str) -> None:
        """Write it to a path or any fsspec URI."""
        with fsspec.open(file, "wb") as target:
            target.write(self.png)

    def _repr_png_(self) -> bytes:
        return self.png


@xr.register_dataset_accessor("spacex")  # type: ignore[no-untyped-call]
class CubeAccessor:
    """What a dataset from `open_cube` knows of the cube it came from, also after it was cut or computed with."""

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    @property
    def uri(self) -> str:
        """Where the cube is."""
        if LINK not in self._data.attrs:
            raise RequestError("this dataset does not come from a cube", do="Open one with spacex.open_cube.")
        return str(self._data.attrs[LINK])

    @property
    def tiles(self) -> xr.Dataset:
        """`status` as words and `provenance` as JSON, over (time, tile_y, tile_x)."""
        return open_tiles(self.uri)

    @property
    def cube(self) -> Cube:
        """The cube itself."""
        return Cube(self.uri)

    @property
    def coverage(self) -> pd.DataFrame:
        """What each time step holds: a row per step, tiles by state, and `finished`, the share of the area's tiles."""
        statuses = self.cube.statuses()
        counts = {state.name.lower(): (statuses == state).sum(axis=(1, 2)) for state in Status}
        days = pd.DatetimeIndex([first for first, _ in self.cube.spec.intervals], name="time")
        table = pd.DataFrame(counts, index=days)
        wanted = table.drop(columns="outside").sum(axis=1)
        return table.assign(finished=(table["done"] + table["no_data"]) / wanted)

    def quicklook(self, time: int | None = None) -> Picture:
        """Composite, maps and naturalness side by side; a notebook shows the picture.

        Args:
            time: index of the only time step to draw; None for all.
        """
        from spacex.cube.quicklook import draw  # it opens cubes itself

        file = f"memory://quicklook-{uuid4().hex}.png"
        draw(self.uri, file, time)
        fs, path = fsspec.core.url_to_fs(file)
        png = bytes(fs.cat_file(path))
        fs.rm_file(path)
        return Picture(png)


def _look(uri: str) -> tuple[dict[str, Any], list[str]]:
    """Attributes of a cube and the groups of its levels."""
    found = read_attributes(uri)
    if found is None or "spacex_spec" not in found:
        raise CubeError(f"no SpacEX cube at {uri}", do="spacex map makes one.")
    layout = [entry["asset"] for entry in found["multiscales"]["layout"]]
    return found, ["" if asset == "." else asset for asset in layout]


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes that every format can hold."""
    kept = {name: value for name, value in attributes.items() if not name.startswith(_ONLY_IN_ZARR)}
    return {
        name: json.dumps(value) if name in OBJECTS and not isinstance(value, str) else value
        for name, value in kept.items()
    }
