"""A wood and fields of the Belgian Kempen, drawn by hand on the real scene of `real_files`."""

from __future__ import annotations

from pyproj import Transformer

LEFT, TOP = 655_360.0, 5_686_280.0
WOODS = [(250, 60), (520, 60), (520, 450), (330, 450), (250, 300)]
FIELDS = [(-10, 430), (262, 430), (262, 960), (-10, 960)]
"""Corners in columns and rows of the scene."""


def polygon(corners: list[tuple[int, int]]) -> dict[str, object]:
    """A GeoJSON feature of corners given in pixels of the scene."""
    to_degrees = Transformer.from_crs(32631, 4326, always_xy=True)
    ring = [to_degrees.transform(LEFT + 10 * col, TOP - 10 * row) for col, row in [*corners, corners[0]]]
    return {"type": "Feature", "properties": {"kind": "drawn"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
