"""Attributes of a cube's root group: reading, decoding and consolidating them, and which formats are accepted."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import fsspec
import zarr

from spacex.cube.layout import FORMAT
from spacex.errors import CubeError

OBJECTS = ("request", "checkpoint")
"""Attributes that are objects, stored as JSON text because NetCDF cannot hold objects."""


def read_attributes(uri: str) -> dict[str, Any] | None:
    """Read the root group's attributes and decode those stored as JSON text; None if the URI does not exist.

    Raises:
        CubeError: if the URI holds something else than a Zarr group, or cannot be reached.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        if fs.exists(f"{path}/zarr.json"):
            attributes = json.loads(fs.cat_file(f"{path}/zarr.json")).get("attributes", {})
            texts = {name: attributes[name] for name in OBJECTS if isinstance(attributes.get(name), str)}
            return {**attributes, **{name: json.loads(text) for name, text in texts.items()}}
        if fs.exists(path) and fs.find(path, maxdepth=1):
            raise not_a_cube(uri)
    except CubeError:
        raise
    except Exception as error:
        raise CubeError(f"cannot reach {uri}", got=f"{type(error).__name__}: {error}") from error
    return None


def not_a_cube(uri: str) -> CubeError:
    """The error for a URI that holds something else."""
    return CubeError(f"{uri} exists and is not a SpacEX cube", do="Choose another --output.")


def check_format(uri: str, attributes: Mapping[str, Any], oldest: int = FORMAT) -> None:
    """Refuse a cube of a format that this version does not know.

    Args:
        uri: of the cube.
        attributes: of its root.
        oldest: the oldest accepted format; only the newest can be written.

    Raises:
        CubeError: if the cube's format is older, or newer than this version's.
    """
    if not oldest <= attributes.get("spacex_format", 0) <= FORMAT:
        raise CubeError(
            f"{uri} was made by another version of SpacEX",
            got=f"spacex_format {attributes.get('spacex_format')}",
            expected=FORMAT,
            do="spacex.open_cube reads it; to map on, choose another --output.",
        )


def consolidate(uri: str) -> None:
    """Gather all metadata in the root, so that remote readers open the cube with one request."""
    with warnings.catch_warnings(), zarr.config.set({"json_indent": None}):
        # zarr warns that consolidated metadata is no part of the v3 specification; xarray and OpenLayers use it
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(uri)
