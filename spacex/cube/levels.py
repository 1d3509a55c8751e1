"""The levels of a cube as xarray datasets."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from spacex.cube.store import OBJECTS, read_attributes
from spacex.errors import CubeError

LINK = "cube"
"""Attribute of an opened dataset: where it came from."""


_ONLY_IN_ZARR = ("_CRS", "zarr_conventions", "proj:", "spatial:", "multiscales")
"""Attributes that say in other readers' words what CF says too; most are objects, which NetCDF cannot hold."""


def cube_attributes(uri: str) -> tuple[dict[str, Any], list[str]]:
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


def open_level(uri: str, level: int, chunks: Any = None) -> xr.Dataset:
    """One level of a cube, decoded, with its attributes as text; see `spacex.cube.reader.open_cube`.

    Raises:
        CubeError: if there is no cube, or it has no such level.
    """
    attributes, levels = cube_attributes(uri)
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
