"""What to map: a box, a file of polygons or a country by name, as one geometry in EPSG:4326.

`areas.geojson` beside this file holds the outlines of Norway (without Svalbard and Jan Mayen), Sweden and
Finland, lakes included: Natural Earth 1:10m, in the public domain, simplified to about a kilometre by
`make_areas.py` beside it, which can rebuild it.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.errors import RequestError

COUNTRIES = ("finland", "norway", "sweden")
"""Countries whose outlines ship with SpacEX."""

AREAS = ("fennoscandia", *COUNTRIES)
"""Names that `load_area` knows; `fennoscandia` is the three countries together, 1.1 million km²."""

SPLIT = "If it crosses the 180° meridian, map the two sides separately."

TABLES = (".gpkg", ".shp", ".parquet", ".geoparquet")
"""Ends of the names of files that a library reads (`spacex.vectors`)."""

_NOT_GEOJSON = (ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError)
_LONLAT = ("crs84", "epsg::4326", "epsg:4326")


def load_area(text: str) -> BaseGeometry:
    """An area by name or from a file of polygons.

    Args:
        text: one of `AREAS` (any case); or the path or fsspec URI of a GeoJSON geometry, Feature or
            FeatureCollection of polygons in longitude and latitude; or the path of a GeoPackage, Shapefile or
            GeoParquet file in any CRS. Several polygons are joined.

    Returns:
        A valid polygon or multipolygon in EPSG:4326, two-dimensional.

    Raises:
        RequestError: if there is no such name or file, it holds no polygon on Earth, or it crosses the 180° meridian.
    """
    name = text.strip().lower()
    if name in AREAS:
        chosen = COUNTRIES if name == "fennoscandia" else (name,)
        return _joined([_outlines()[country] for country in chosen], name)
    if name.endswith(TABLES):
        return _joined(_from_table(text), text)
    document = _read_json(text)
    _check_crs(document, text)
    return _joined(_geometries(document, text), text)


def box_area(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """A box of longitudes and latitudes.

    Args:
        west: western edge in degrees, -180 to 180.
        south: southern edge in degrees, -90 to 90.
        east: eastern edge in degrees, greater than `west`.
        north: northern edge in degrees, greater than `south`.

    Returns:
        The box as a polygon in EPSG:4326.

    Raises:
        RequestError: if an edge is not on Earth, the box has no inside, or it goes all around.
    """
    what, box = "the bounding box", (west, south, east, north)
    _check_degrees(what, box)
    if west >= east:
        raise RequestError(
            f"{what} has its west edge east of its east edge",
            got=f"west {west}, east {east}",
            expected="WEST SOUTH EAST NORTH",
            do=SPLIT,
        )
    if south >= north:
        raise RequestError(
            f"{what} has its south edge north of its north edge",
            got=f"south {south}, north {north}",
            expected="WEST SOUTH EAST NORTH",
        )
    if (west, east) == (-180, 180):
        raise RequestError(f"{what} goes all around the globe", got="west -180, east 180", expected="less than that")
    return shapely.box(*box)


@cache
def _outlines() -> dict[str, BaseGeometry]:
    collection = json.loads(Path(__file__).with_suffix(".geojson").read_text())
    return {f["properties"]["name"]: shape(f["geometry"]) for f in collection["features"]}


def _from_table(file: str) -> list[BaseGeometry]:
    from spacex.vectors import read_polygons  # geopandas takes half a second, which most maps need not wait for

    return [shapely.force_2d(one) for one in read_polygons(file, what="--area").projected("EPSG:4326")]


def _read_json(uri: str) -> dict[str, Any]:
    try:
        with fsspec.open(uri, "rt", encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        known = f"{', '.join(AREAS)}, or the path of a GeoJSON, GeoPackage, Shapefile or GeoParquet file"
        raise RequestError("no such area", got=uri, expected=known) from None
    except (OSError, ValueError, ImportError) as error:
        got = f"{uri} ({error})"
        raise RequestError("the area cannot be read", got=got, expected="a GeoJSON file") from error
    if not isinstance(document, dict):
        raise RequestError("the area is not GeoJSON", got=f"a JSON {type(document).__name__} in {uri}")
    return document


def _check_crs(document: dict[str, Any], uri: str) -> None:
    # RFC 7946 dropped "crs", but GDAL and QGIS still write it, and then the numbers may be metres
    named = document.get("crs")
    if named is None:
        return
    properties = named.get("properties") if isinstance(named, dict) else None
    crs = str(properties.get("name") if isinstance(properties, dict) else named)
    if not crs.lower().endswith(_LONLAT):
        raise RequestError(
            f"the area {uri} is not in longitude and latitude",
            got=crs,
            expected="EPSG:4326",
            do="Convert it: ogr2ogr -t_srs EPSG:4326 area.geojson …",
        )


def _geometries(document: dict[str, Any], uri: str) -> list[BaseGeometry]:
    try:
        features = document["features"] if document.get("type") == "FeatureCollection" else [document]
        found = [f.get("geometry") if f.get("type") == "Feature" else f for f in features]
        shapes = [shapely.force_2d(shape(geometry)) for geometry in found if geometry]
    except _NOT_GEOJSON as error:
        raise RequestError(
            "the area is not GeoJSON",
            got=f"{uri} ({type(error).__name__}: {error})",
            expected="a Polygon or MultiPolygon, a Feature or a FeatureCollection of them",
        ) from error
    for geometry in shapes:
        if geometry.geom_type not in ("Polygon", "MultiPolygon"):
            raise RequestError(
                f"the area {uri} must be made of polygons",
                got=geometry.geom_type,
                expected="Polygon or MultiPolygon",
            )
    return shapes


def _joined(shapes: list[BaseGeometry], name: str) -> BaseGeometry:
    for geometry in shapes:
        if not geometry.is_empty:
            _check_degrees(f"the area {name}", geometry.bounds)
    _check_meridian(f"the area {name}", shapes)
    joined = shapely.union_all([shapely.make_valid(geometry) for geometry in shapes])
    polygons = [part for part in shapely.get_parts(joined) if part.geom_type == "Polygon"]
    if not polygons:
        raise RequestError("the area is empty", got=name, expected="at least one polygon with an inside")
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def _check_degrees(what: str, bounds: tuple[float, ...]) -> None:
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        raise RequestError(f"{what} has coordinates that are not numbers", got=bounds)
    for value in (south, north):
        if abs(value) > 90:
            raise RequestError(
                f"{what} leaves the globe",
                got=f"latitude {value:g}",
                expected="-90 to 90",
                do="Coordinates are longitude, latitude in degrees, not metres.",
            )
    for value in (west, east):
        if abs(value) > 180:
            raise RequestError(f"{what} leaves the globe", got=f"longitude {value:g}", expected="-180 to 180", do=SPLIT)


def _check_meridian(what: str, shapes: list[BaseGeometry]) -> None:
    """Refuse an area on both sides of the 180° meridian, cut there (RFC 7946) or not: its parts would lie far apart."""
    longitudes = [shapely.get_coordinates(ring)[:, 0] for ring in _rings(shapes)]
    edges = {float(edge) for lon in longitudes for edge in (lon.min(), lon.max())}
    # an edge of more than half the globe is one that goes the other way
    jump = max((float(np.abs(np.diff(lon)).max()) for lon in longitudes), default=0.0)
    if jump > 180 or {-180.0, 180.0} <= edges:
        got = f"an edge {jump:g} degrees long" if jump > 180 else "parts at -180 and at 180 degrees"
        raise RequestError(f"{what} crosses the 180° meridian", got=got, do="Map the two sides separately.")


def _rings(shapes: list[BaseGeometry]) -> list[BaseGeometry]:
    polygons = shapely.get_parts([shape for shape in shapes if not shape.is_empty])
    return [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors) if not ring.is_empty]
