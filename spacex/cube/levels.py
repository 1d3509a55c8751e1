"""Open the levels of a cube as xarray datasets, cropped to the requested extent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from spacex.cube import geo_metadata
from spacex.cube.attributes import OBJECTS, read_attributes
from spacex.cube.layout import CubeSpec
from spacex.errors import CubeError

_FACTORS = ("scale_factor", "add_offset")
LINK = "cube"
"""Attribute of an opened dataset: the cube's URI."""
_ONLY_IN_ZARR = ("_CRS", "zarr_conventions", "proj:", "spatial:", "multiscales")
"""Prefixes of attributes that repeat the CF ones for other readers; most are objects, which NetCDF cannot hold."""


def cube_attributes(uri: str) -> tuple[dict[str, Any], list[str]]:
    """Root attributes of a cube of any format, and the names of its levels' groups.

    Raises:
        CubeError: if there is no cube.
    """
    attributes = read_attributes(uri)
    if attributes is None or "spacex_spec" not in attributes:
        raise CubeError(f"no SpacEX cube at {uri}", do="spacex map makes one.")
    groups = [entry["asset"] for entry in attributes["multiscales"]["layout"]]
    return attributes, ["" if group == "." else group for group in groups]


def open_level(uri: str, level: int, chunks: Any = None) -> xr.Dataset:
    """One level of a cube, decoded, with its attributes as text; see `spacex.cube.reader.open_cube`.

    Raises:
        CubeError: if there is no cube, or it has no such level.
    """
    attributes, groups = cube_attributes(uri)
    if not 0 <= level < len(groups):
        advice = "Coarser ones are made when a run ends: repeat the command that maps." if level > 0 else None
        raise CubeError(f"no such level in {uri}", got=level, expected=f"0 to {len(groups) - 1}", do=advice)
    data = _decode(xr.open_zarr(uri, group=groups[level], chunks=chunks, decode_cf=False))
    # in format 1 the tiles' arrays were in the same group as the maps
    data = data.drop_vars(["status", "provenance"], errors="ignore").set_coords(["time_bounds"])
    if attributes["spacex_format"] >= 3:
        data = crop(data, CubeSpec.model_validate_json(attributes["spacex_spec"]), level)
    for variable in data.variables.values():
        variable.attrs = _portable(variable.attrs)
    data.attrs = {**_portable(attributes), LINK: str(uri)}
    return data


def _decode(stored: xr.Dataset) -> xr.Dataset:
    """Stored values as float32; by factors of Python's own type xarray would decode them to float64."""
    for variable in stored.variables.values():
        factors = {name: np.float32(variable.attrs[name]) for name in _FACTORS if name in variable.attrs}
        variable.attrs.update(factors)
    data: xr.Dataset = xr.decode_cf(stored)
    if "observations" in data:
        # 0 is a count, so it is not masked; but it is what rioxarray puts where it clips
        data["observations"].attrs["nodata"] = 0
    return data


def crop(data: xr.Dataset, spec: CubeSpec, level: int) -> xr.Dataset:
    """Crop a level, whose arrays cover whole tiles, to the pixels that the extent touches."""
    rows, cols = spec.crop(level)
    cropped = data.isel(y=rows, x=cols)
    # rioxarray and GDAL read the upper-left corner from this attribute, not from the coordinates
    corner = geo_metadata.coarsen(spec.geobox, level)[rows, cols].affine
    cropped["spatial_ref"].attrs["GeoTransform"] = geo_metadata.gdal_transform(corner)
    return cropped


def _portable(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that NetCDF and other formats can hold."""
    return {
        name: json.dumps(value) if name in OBJECTS and not isinstance(value, str) else value
        for name, value in attributes.items()
        if not name.startswith(_ONLY_IN_ZARR)
    }
