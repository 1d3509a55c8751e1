"""How a cube says where it is: CF grid mapping, GDAL's `_CRS`, and the GeoZarr conventions, side by side.

Each reader looks in another place: xarray + rioxarray and odc-geo at the CF grid mapping (named in both
`grid_mapping` and `coordinates`), GDAL at `_CRS`, OpenLayers and newer readers at `proj:` and `spatial:`.

`spatial:dimensions` stands on arrays only: on a group that also has `spatial:transform` it crashes GDAL 3.13, and
QGIS with it. A CRS with an authority's code is named by that code on arrays, since its text alone would more than
double the consolidated metadata that every reader fetches first.
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
    for name, uuid, repo, description in (
        (
            "multiscales",
            "d35379db-88df-4056-af3a-620245f8e347",
            "multiscales",
            "Multiscale layout of zarr datasets",
        ),
        (
            "proj:",
            "f17cb550-5864-4468-aeb7-f3180cfb622f",
            "geo-proj",
            "Coordinate reference system information",
        ),
        ("spatial:", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "spatial", "Spatial coordinate information"),
    )
]


def place(box: GeoBox) -> Attributes:
    """The `spatial:` block of a group or array that covers `box`."""
    bounds = box.boundingbox
    return {
        "spatial:shape": list(box.shape),
        "spatial:transform": list(box.affine)[:6],
        "spatial:bbox": [bounds.left, bounds.bottom, bounds.right, bounds.top],
        "spatial:registration": "pixel",
        "spatial:transform_type": "affine",
    }


def of_array(box: GeoBox) -> Attributes:
    """Attributes that give one (…, y, x) array its CRS for every reader."""
    crs = _crs(box)
    authority = crs.to_authority()
    gdal = {"wkt": crs.to_wkt("WKT2_2019")}
    if authority:
        gdal = {"url": f"http://www.opengis.net/def/crs/{authority[0]}/0/{authority[1]}"}
    return {
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
        "_CRS": gdal,
        "zarr_conventions": CONVENTIONS[1:],
        **_projection(crs, text=not authority),
        "spatial:dimensions": ["y", "x"],
        **place(box),
    }


def of_group(box: GeoBox) -> Attributes:
    """Attributes of a level's group: conventions and place.

    `coordinates` makes xarray take the bounds of time for a coordinate, so that `rio.clip` of a whole dataset
    leaves them alone.
    """
    return {
        "Conventions": "CF-1.11",
        "coordinates": "time_bounds spatial_ref",
        "zarr_conventions": CONVENTIONS[1:],
        **_projection(_crs(box), text=False),
        **place(box),
    }


def of_root(boxes: list[GeoBox]) -> Attributes:
    """Attributes of the root group: the levels that are there, full resolution first, and their place.

    Args:
        boxes: one per level, each in the group named by its number.
    """
    layout: list[Attributes] = []
    for level, box in enumerate(boxes):
        entry: Attributes = {
            "asset": str(level),
            "spatial:shape": list(box.shape),
            "spatial:transform": list(box.affine)[:6],
            "transform": {"scale": [2.0 if level else 1.0] * 2, "translation": [0.0, 0.0]},
        }
        if level:
            entry |= {"derived_from": str(level - 1), "resampling_method": "average"}
        layout.append(entry)
    return {
        "Conventions": "CF-1.11",
        "zarr_conventions": CONVENTIONS,
        "multiscales": {"resampling_method": "average", "layout": layout},
        **_projection(_crs(boxes[0]), text=True),
        **place(boxes[0]),
    }


def coarsen(box: GeoBox, level: int) -> GeoBox:
    """The pixels of overview `level`: each level halves the resolution, from the same upper-left corner.

    Where a side is odd, the last coarse pixel reaches half a pixel beyond it.
    """
    factor = 2**level
    shape = (-(-box.shape[0] // factor), -(-box.shape[1] // factor))
    return GeoBox(shape, box.affine @ Affine.scale(factor), box.crs)


def spatial_ref(box: GeoBox) -> Attributes:
    """Attributes of the scalar `spatial_ref` variable (CF grid mapping plus GDAL's additions)."""
    crs = _crs(box)
    cf = {name: list(value) if isinstance(value, tuple) else value for name, value in crs.to_cf().items()}
    return {
        **cf,
        "crs_wkt": crs.to_wkt("WKT2_2019"),
        "GeoTransform": gdal_transform(box.affine),
    }


def gdal_transform(affine: Affine) -> str:
    """A transform as GDAL writes it: left, pixel width, 0, top, 0, minus pixel height."""
    return " ".join(map(str, affine.to_gdal()))


def centres(box: GeoBox) -> dict[str, tuple[NDArray[Any], Attributes]]:
    """Pixel-centre coordinates `y` and `x` in metres, with their CF attributes."""
    size, _, left, _, _, top = list(box.affine)[:6]
    axis = {"units": "metre"}
    return {
        "y": (
            top - (np.arange(box.shape[0]) + 0.5) * size,
            {"standard_name": "projection_y_coordinate", "axis": "Y", **axis},
        ),
        "x": (
            left + (np.arange(box.shape[1]) + 0.5) * size,
            {"standard_name": "projection_x_coordinate", "axis": "X", **axis},
        ),
    }


def _crs(box: GeoBox) -> CRS:
    return CRS(str(box.crs))


def _projection(crs: CRS, *, text: bool) -> Attributes:
    """The `proj:` block: the authority's code where there is one, and the text where asked for or needed."""
    authority = crs.to_authority()
    code = {"proj:code": ":".join(authority)} if authority else {}
    return {**code, **({"proj:wkt2": crs.to_wkt("WKT2_2019")} if text or not authority else {})}
