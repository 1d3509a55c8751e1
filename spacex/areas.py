"""The area to map: a box, a file of polygons or a country by name, as one geometry in EPSG:4326.

`areas.geojson` beside this file holds the outlines of Norway (without Svalbard and Jan Mayen), Sweden and
Finland, lakes included: Natural Earth 1:10m, in the public domain, simplified to about a kilometre by
`tests/benchmarks/make_areas.py`, which rebuilds it.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.errors import RequestError
from spacex.storage import exists, local_path

COUNTRIES = ("finland", "norway", "sweden")
"""Countries whose outlines ship with SpacEX."""

AREAS = ("fennoscandia", *COUNTRIES)
"""Names that `load_area` knows; `fennoscandia` is the three countries together, 1.1 million km²."""

SPLIT = "If it crosses the 180° meridian, map the two sides separately."


def load_area(text: str) -> BaseGeometry:
    """An area by name or from a file of polygons.

    Args:
        text: one of `AREAS` (any case); or the path or fsspec URI of a file that `spacex.vectors.read_polygons`
            reads, in any CRS. Several polygons are joined.

    Returns:
        A valid polygon or multipolygon in EPSG:4326, two-dimensional.

    Raises:
        RequestError: if there is no such name or file, it holds no polygon on Earth, or it crosses the 180° meridian.
    """
    name = text.strip().lower()
    if name in AREAS:
        countries = COUNTRIES if name == "fennoscandia" else (name,)
        return _joined([_outlines()[country] for country in countries], name)
    from spacex.vector_formats import FORMATS
    from spacex.vectors import read_polygons  # geopandas takes half a second

    with _local(text) as path:
        if not exists(path):
            raise RequestError("no such area", got=text, expected=f"{', '.join(AREAS)}, or the path of {FORMATS}")
        shapes = read_polygons(str(path), what="the area").projected("EPSG:4326")
    return _joined([shapely.force_2d(one) for one in shapes], text)


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    """The path of a local file, or of a copy of a remote one for the block."""
    if (path := local_path(uri)) is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="spacex-") as folder:
        path = Path(folder) / uri.rpartition("/")[2]
        try:
            with fsspec.open(uri, "rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
        except (OSError, ValueError, ImportError) as error:
            raise RequestError("the area cannot be read", got=f"{uri} ({error})") from error
        yield path


def box_area(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """A box of longitudes (-180 to 180 degrees) and latitudes (-90 to 90) as a polygon in EPSG:4326.

    Raises:
        RequestError: if an edge is not on Earth, the box has no inside, or it goes all around.
    """
    what, box = "the bounding box", (west, south, east, north)
    _check_degrees(what, box)
    if west >= east:
        got, expected = f"west {west}, east {east}", "WEST SOUTH EAST NORTH"
        raise RequestError(f"{what} has its west edge east of its east edge", got=got, expected=expected, do=SPLIT)
    if south >= north:
        got, expected = f"south {south}, north {north}", "WEST SOUTH EAST NORTH"
        raise RequestError(f"{what} has its south edge north of its north edge", got=got, expected=expected)
    if (west, east) == (-180, 180):
        raise RequestError(f"{what} goes all around the globe", got="west -180, east 180", expected="less than that")
    return shapely.box(*box)


@cache
def _outlines() -> dict[str, BaseGeometry]:
    collection = json.loads(Path(__file__).with_suffix(".geojson").read_text())
    return {f["properties"]["name"]: shape(f["geometry"]) for f in collection["features"]}


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
            got, do = f"latitude {value:g}", "Coordinates are longitude, latitude in degrees, not metres."
            raise RequestError(f"{what} leaves the globe", got=got, expected="-90 to 90", do=do)
    for value in (west, east):
        if abs(value) > 180:
            raise RequestError(f"{what} leaves the globe", got=f"longitude {value:g}", expected="-180 to 180", do=SPLIT)


def _check_meridian(what: str, shapes: list[BaseGeometry]) -> None:
    """Refuse an area on both sides of the 180° meridian, cut there (RFC 7946) or not: its parts lie far apart."""
    rings = shapely.get_rings(shapely.get_parts([shape for shape in shapes if not shape.is_empty]))
    longitudes = [shapely.get_coordinates(ring)[:, 0] for ring in rings if not ring.is_empty]
    edges = {float(edge) for lon in longitudes for edge in (lon.min(), lon.max())}
    # an edge of more than half the globe in fact goes the other way
    jump = max((float(np.abs(np.diff(lon)).max()) for lon in longitudes), default=0.0)
    if jump > 180 or {-180.0, 180.0} <= edges:
        got = f"an edge {jump:g} degrees long" if jump > 180 else "parts at -180 and at 180 degrees"
        raise RequestError(f"{what} crosses the 180° meridian", got=got, do="Map the two sides separately.")
