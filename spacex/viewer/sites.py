"""Sites for the web map: a table of `spacex sites` as one small JSON file, in the cube's CRS."""

from __future__ import annotations

import json
import math
from typing import Any

import shapely

from spacex.cube.site_pages import site_name
from spacex.cube.store import Cube
from spacex.errors import DataError
from spacex.vectors import read_polygons

NEEDED = ("zone", "first_day", "state", "naturalness_mean")
"""Columns by which a table of sites is known."""


def sites_json(cube: Cube, table: str) -> bytes:
    """GeoJSON features in metres of the cube's CRS, one per site, with the row of every time step of the cube.

    Args:
        cube: that the page shows.
        table: GeoPackage or GeoParquet written by `spacex sites`.

    Raises:
        DataError: if it is no such table, or of none of the cube's time steps.
    """
    polygons = read_polygons(table, what="--zones")
    rows, days = polygons.table.reset_index(drop=True), [first for first, _ in cube.spec.intervals]
    if not set(NEEDED) <= set(rows.columns) or not rows["first_day"].isin(days).any():
        do = f"Make it with `spacex sites {cube.uri} --zones {table} --output table.gpkg`."
        raise DataError(f"--zones is no table of sites of this cube: {table}", expected=", ".join(NEEDED), do=do)
    # a pixel's corner is all that outlines lose, and most of their size
    shapes = shapely.simplify(polygons.projected(cube.spec.crs), cube.spec.resolution)
    features = []
    for _, part in rows.groupby("zone"):
        steps: list[dict[str, Any] | None] = [None] * len(days)
        for row in part[part["first_day"].isin(days)].to_dict("records"):
            steps[days.index(row["first_day"])] = {name: _plain(value) for name, value in row.items()}
        outline = shapely.set_precision(shapes[part.index[0]], 1.0)
        if not outline.is_empty:
            properties = {"name": site_name(part.iloc[0], list(rows.columns)), "steps": steps}
            features.append({"type": "Feature", "geometry": outline.__geo_interface__, "properties": properties})
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: numbers with six digits, None for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, bool | int | str) else str(value)
