"""Georeferencing attributes of a cube: CF grid mapping, GDAL's `_CRS`, and the GeoZarr conventions, side by side.

Each reader looks in another place: xarray + rioxarray and odc-geo at the CF grid mapping (named in both
`grid_mapping` and `coordinates`), GDAL at `_CRS`, OpenLayers and newer readers at `proj:` and `spatial:`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS

Attributes = dict[str, Any]

CONVENTIONS: list[Attributes] = [
    {
        "name": name,
        "uuid": uuid,
        "description": description,
        "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{repo}/refs/tags/v1/schema.json",
        "spec_url": f"https://github.com/zarr-conventions/{repo}/blob/v1/README.md",
    }
    for name, repo, uuid, description in (
        ("multiscales", "multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
        ("proj:", "geo-proj", "f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information"),
        ("spatial:", "spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    )
]


def array_attributes(box: GeoBox) -> Attributes:
    """Attributes that give one (…, y, x) array its CRS for every reader."""
    authority = _crs(box).to_authority()
    gdal = {"wkt": _crs(box).to_wkt("WKT2_2019")}
    if authority:
        gdal = {"url": f"http://www.opengis.net/def/crs/{authority[0]}/0/{authority[1]}"}
    return {
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
        "_CRS": gdal,
        "zarr_conventions": CONVENTIONS[1:],
        **_projection(box),
        # on arrays only: a group that has this and `spatial:transform` crashes GDAL 3.13, and QGIS with it
        "spatial:dimensions": ["y", "x"],
        **_spatial(box),
    }


def group_attributes(box: GeoBox) -> Attributes:
    """Attributes of a level's group."""
    return {
        "Conventions": "CF-1.11",
        # makes xarray read `time_bounds` as a coordinate, which `rio.clip` of a whole dataset leaves alone
        "coordinates": "time_bounds spatial_ref",
        "zarr_conventions": CONVENTIONS[1:],
        **_projection(box),
        **_spatial(box),
    }


def root_attributes(boxes: list[GeoBox]) -> Attributes:
    """Attributes of the root group: the published levels, full resolution first, and the pixels they cover.

    Args:
        boxes: one per level, each in the group named by its number.
    """
    layout: list[Attributes] = []
    for level, box in enumerate(boxes):
        spatial = _spatial(box)
        entry: Attributes = {
            "asset": str(level),
            **{name: spatial[name] for name in ("spatial:shape", "spatial:transform")},
            "transform": {"scale": [2.0 if level else 1.0] * 2, "translation": [0.0, 0.0]},
        }
        if level:
            entry |= {"derived_from": str(level - 1), "resampling_method": "average"}
        layout.append(entry)
    return {
        "Conventions": "CF-1.11",
        "zarr_conventions": CONVENTIONS,
        "multiscales": {"resampling_method": "average", "layout": layout},
        **_projection(boxes[0]),
        **_spatial(boxes[0]),
    }


def coarsen(box: GeoBox, level: int) -> GeoBox:
    """The grid of overview `level`: the pixel size doubles with each level, the upper-left corner stays.

    Where a side is odd, the last coarse pixel reaches half a pixel beyond it.
    """
    factor = 2**level
    shape = (-(-box.shape[0] // factor), -(-box.shape[1] // factor))
    return GeoBox(shape, box.affine @ Affine.scale(factor), box.crs)


def spatial_ref(box: GeoBox) -> Attributes:
    """Attributes of the scalar `spatial_ref` variable (CF grid mapping plus GDAL's additions)."""
    cf = {name: list(value) if isinstance(value, tuple) else value for name, value in _crs(box).to_cf().items()}
    return {**cf, "crs_wkt": _crs(box).to_wkt("WKT2_2019"), "GeoTransform": gdal_transform(box.affine)}


def gdal_transform(affine: Affine) -> str:
    """A transform as GDAL writes it: left, pixel width, 0, top, 0, minus pixel height."""
    return " ".join(map(str, affine.to_gdal()))


def centres(box: GeoBox) -> dict[str, tuple[NDArray[Any], Attributes]]:
    """Pixel-centre coordinates `y` and `x` in metres, with their CF attributes."""
    size, _, left, _, _, top = list(box.affine)[:6]
    y = top - (np.arange(box.shape[0]) + 0.5) * size
    x = left + (np.arange(box.shape[1]) + 0.5) * size
    return {
        axis: (values, {"standard_name": f"projection_{axis}_coordinate", "axis": axis.upper(), "units": "metre"})
        for axis, values in (("y", y), ("x", x))
    }


def _crs(box: GeoBox) -> CRS:
    return CRS(str(box.crs))


def _spatial(box: GeoBox) -> Attributes:
    """The `spatial:` block of a group or array that covers `box`."""
    bounds = box.boundingbox
    return {
        "spatial:shape": list(box.shape),
        "spatial:transform": list(box.affine)[:6],
        "spatial:bbox": [bounds.left, bounds.bottom, bounds.right, bounds.top],
        "spatial:registration": "pixel",
        "spatial:transform_type": "affine",
    }


def _projection(box: GeoBox) -> Attributes:
    """The `proj:` block: the authority's code where there is one, else the text. The convention allows one of them."""
    authority = _crs(box).to_authority()
    return {"proj:code": ":".join(authority)} if authority else {"proj:wkt2": _crs(box).to_wkt("WKT2_2019")}
