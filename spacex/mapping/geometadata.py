"""How a cube says where it is: CF grid mapping, GDAL's `_CRS`, and the GeoZarr conventions, side by side.

Each reader looks in another place: xarray + rioxarray and odc-geo at the CF grid mapping (named in both
`grid_mapping` and `coordinates`), GDAL at `_CRS`, OpenLayers and newer readers at `proj:` and `spatial:`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from spacex.grid import Grid, Window

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


def place(grid: Grid, window: Window) -> Attributes:
    """The `proj:` and `spatial:` block of a group or array that covers `window`."""
    box = grid.geobox(window).boundingbox
    return {
        "proj:code": str(grid.crs),
        "proj:wkt2": CRS(grid.crs).to_wkt("WKT2_2019"),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(window.shape),
        "spatial:transform": list(grid.transform(window))[:6],
        "spatial:bbox": [box.left, box.bottom, box.right, box.top],
        "spatial:registration": "pixel",
        "spatial:transform_type": "affine",
    }


def of_array(grid: Grid, window: Window) -> Attributes:
    """Attributes that give one (…, y, x) array its CRS for every reader."""
    crs = CRS(grid.crs)
    authority = crs.to_authority()
    gdal = {"wkt": crs.to_wkt("WKT2_2019")}
    if authority:
        gdal["url"] = f"http://www.opengis.net/def/crs/{authority[0]}/0/{authority[1]}"
    return {
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",
        "_CRS": gdal,
        "zarr_conventions": CONVENTIONS[1:],
        **place(grid, window),
    }


def of_group(grid: Grid, window: Window) -> Attributes:
    """Attributes of a group: conventions and place."""
    return {"Conventions": "CF-1.11", "zarr_conventions": CONVENTIONS[1:], **place(grid, window)}


def multiscales(grid: Grid, window: Window, levels: int) -> Attributes:
    """Attributes of the root group: level 0 here, each further level half the resolution in group `1`, `2`, …."""
    layout: list[Attributes] = []
    for level in range(levels + 1):
        coarse_grid, coarse = coarsen(grid, window, level)
        entry: Attributes = {
            "asset": "." if level == 0 else str(level),
            "spatial:shape": list(coarse.shape),
            "spatial:transform": list(coarse_grid.transform(coarse))[:6],
            "transform": {"scale": [float(min(2, 2**level))] * 2, "translation": [0.0, 0.0]},
        }
        if level:
            entry |= {"derived_from": layout[-1]["asset"], "resampling_method": "average"}
        layout.append(entry)
    return {
        "zarr_conventions": CONVENTIONS,
        "multiscales": {"resampling_method": "average", "layout": layout},
    }


def coarsen(grid: Grid, window: Window, level: int) -> tuple[Grid, Window]:
    """The grid and window of overview `level` (each level halves the resolution); edges stay where they are."""
    factor = 2**level
    coarse = Window(
        window.row // factor, window.col // factor, window.height // factor, window.width // factor
    )
    return Grid(grid.crs, grid.resolution * factor), coarse


def spatial_ref(grid: Grid, window: Window) -> Attributes:
    """Attributes of the scalar `spatial_ref` variable (CF grid mapping plus GDAL's additions)."""
    crs = CRS(grid.crs)
    transform = grid.transform(window)
    cf = {name: list(value) if isinstance(value, tuple) else value for name, value in crs.to_cf().items()}
    return {
        **cf,
        "spatial_ref": crs.to_wkt("WKT2_2019"),
        "crs_wkt": crs.to_wkt("WKT2_2019"),
        "GeoTransform": " ".join(str(value) for value in transform.to_gdal()),
    }


def centres(grid: Grid, window: Window) -> dict[str, tuple[NDArray[Any], Attributes]]:
    """Pixel-centre coordinates `y` and `x` in metres, with their CF attributes."""
    r = grid.resolution
    y = -(window.row + np.arange(window.height) + 0.5) * r
    x = (window.col + np.arange(window.width) + 0.5) * r
    axis = {"units": "metre"}
    return {
        "y": (y, {"standard_name": "projection_y_coordinate", "axis": "Y", **axis}),
        "x": (x, {"standard_name": "projection_x_coordinate", "axis": "X", **axis}),
    }
