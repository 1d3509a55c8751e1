"""Reads polygons from files of outside: the one way, for areas and labels alike.

A file must be of a format that is read (`spacex.vector_formats`) before GDAL opens it.
GeoJSON and GeoParquet are read without GDAL; an attribute filter on them is still GDAL's SQL, by way of a GeoPackage.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from spacex.errors import DataError, RequestError
from spacex.vector_formats import FORMATS, format_of, reason

log = logging.getLogger(__name__)

MAX_SEGMENT = {"degrees": 0.05, "metres": 5000.0}
"""Longest segment of an outline before it is projected: an arc of 5 km deviates from its chord by some metres."""

_GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection", "Point", "MultiPoint", "LineString", "MultiLineString")
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError)
_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")


@dataclass(frozen=True)
class Polygons:
    """Polygons of one file and their attributes."""

    shapes: NDArray[np.object_]
    """(n,) polygons and multipolygons, valid, in `crs`."""
    crs: Any
    """Of the file, a `pyproj.CRS`."""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The attributes, a row per polygon."""
    problems: tuple[str, ...] = ()
    """With `keep_all`: what was wrong with each, e.g. that it was invalid and was mended; empty text for nothing."""

    def __len__(self) -> int:
        return len(self.shapes)

    def projected(self, crs: Any) -> NDArray[np.object_]:
        """The polygons in another CRS, (n,), edges split finely enough to stay straight on the globe; valid."""
        if self.crs == crs:
            return self.shapes
        longest = MAX_SEGMENT["degrees" if self.crs.is_geographic else "metres"]
        series = geopandas.GeoSeries(shapely.segmentize(self.shapes, longest), crs=self.crs)
        shapes = series.to_crs(crs).to_numpy()
        # where the CRS does not reach, PROJ gives infinite coordinates, of which GEOS makes no polygon
        shapes[~np.isfinite(shapely.bounds(shapes)).all(axis=1)] = shapely.Polygon()
        return _polygonal(shapes)


def read_polygons(
    file: str, where: str | None = None, what: str = "the vector file", *, keep_all: bool = False
) -> Polygons:
    """Read the polygons of a file in one of `FORMATS`; features without a polygon are left out with a warning.

    Args:
        file: path on this machine.
        where: which features, as an SQL expression over the attributes, e.g. ``IUCN_CAT in ('Ia','Ib','II')``.
        what: what to call the file in errors, e.g. ``--natural``.
        keep_all: whether to keep the features without a polygon too, as empty ones.

    Raises:
        DataError: if it is none of these, is damaged, has no CRS, no polygon, or none that the filter matches.
    """
    with _unzipped(file, what) as path:
        format = format_of(str(path), what, name=file)
        try:
            frame = _read(path, format, where, what, file)
        except DataError:
            raise
        except Exception as error:  # GDAL, pyogrio, pyarrow and pandas each have their own
            if where is None or not _readable(path, format, what, file):
                raise DataError(f"{what} cannot be read: {file}", got=reason(error)) from error
            do = "It is SQL over the attributes, e.g. IUCN_CAT in ('Ia','Ib','II')."
            what = f"the filter of {what} cannot be carried out: {where}"
            raise DataError(what, got=reason(error), do=do) from error
        if not len(frame):
            columns = _read(path, format, None, what, file).columns.drop("geometry", errors="ignore")
            got = f"no feature of {file}" + (f" matches {where}" if where else "")
            raise DataError(f"{what} is empty", got=got, do=f"Its attributes: {', '.join(columns[:20]) or 'none'}.")
    return polygons_of(frame, what, file, keep_all=keep_all)


def joined(files: Sequence[Polygons]) -> Polygons:
    """The polygons of several files one after the other, in the CRS of the first."""
    shapes = [polygons.projected(files[0].crs) for polygons in files]
    tables = pd.concat([polygons.table for polygons in files], ignore_index=True)
    return Polygons(np.concatenate(shapes), files[0].crs, tables)


def polygons_of(frame: Any, what: str, name: str, *, keep_all: bool = False) -> Polygons:
    """The polygons of a GeoDataFrame; arguments and errors as `read_polygons`, `name` is the file's."""
    if not isinstance(frame, geopandas.GeoDataFrame) or frame.active_geometry_name is None:
        raise DataError(f"{what} is no table of polygons", got=type(frame).__name__, expected="a GeoDataFrame")
    if frame.crs is None:
        raise DataError(f"{what} has no CRS: {name}", do="Give it one, e.g. with `ogr2ogr -a_srs EPSG:4326`.")
    given = frame.geometry.to_numpy()
    shapes = _polygonal(given)
    kept = np.array([shape is not None and not shape.is_empty for shape in shapes])
    if not kept.any():
        kinds = sorted({str(kind) for kind in frame.geom_type[~frame.geometry.is_empty].dropna()})
        problem = "holds no polygon" if kinds else "is empty, since no feature has a geometry"
        raise DataError(f"{what} {problem}: {name}", got=", ".join(kinds) or None)
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    table = table.set_axis(names := [_name_of(column) for column in table.columns], axis=1)
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise DataError(f"{what} has two columns of one name: {name}", got=", ".join(twice), do="Rename one.")
    if keep_all:
        shapes[~kept] = shapely.Polygon()
        return Polygons(shapes, frame.crs, table, tuple(map(_problem, given, kept)))
    if not kept.all():
        log.warning("%s: %d of %d features have no polygon and are left out: %s", what, (~kept).sum(), len(kept), name)
    return Polygons(shapes[kept], frame.crs, table[kept])


def _name_of(column: Any) -> str:
    """A column's name as text, which a table in memory need not have: numbers, or levels of names."""
    return "_".join(map(str, column)) if isinstance(column, tuple) else str(column)


def read_zones(zones: Any, where: str | None = None) -> Polygons:
    """The polygons of a file by its path, filtered by `where`, or of a GeoDataFrame; every feature is kept.

    Raises:
        DataError: as `read_polygons`.
        RequestError: if a GeoDataFrame is to be filtered.
    """
    if isinstance(zones, str):
        return read_polygons(zones, where, "--zones", keep_all=True)
    if where is not None:
        raise RequestError("where filters a file of zones", got="a GeoDataFrame", do="Filter it with pandas.")
    return polygons_of(zones, "zones", "the GeoDataFrame", keep_all=True)


def _problem(given: Any, kept: bool) -> str:
    """What is wrong with a geometry of which a polygon was made, or none; empty text if nothing is."""
    if given is None or given.is_empty:
        return "it has no geometry"
    if not (valid := shapely.is_valid(given)):
        invalid = f"its outline is invalid ({shapely.is_valid_reason(given)})"
    if not kept:
        return f"it is no polygon but a {given.geom_type}" if valid else f"{invalid} and holds no area"
    return "" if valid else f"{invalid} and was mended"


@contextmanager
def _unzipped(file: str, what: str) -> Iterator[Path]:
    """The file itself, or the Shapefile that a zip archive holds, unpacked for the block."""
    path = Path(file)
    if not path.is_file():
        do = "Give a file of this machine: web addresses and databases are not opened."
        raise DataError(f"{what} cannot be read: there is no file {file}", do=do)
    if path.suffix.lower() != ".zip":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="spacex-") as folder:
        try:
            _unpack_shapefile(path, Path(folder))
        except Exception as error:  # zipfile and the decompressors each have their own
            raise DataError(f"{what} cannot be read: {file}", got=reason(error), expected=FORMATS) from error
        yield Path(folder) / "a.shp"


def _unpack_shapefile(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
        stems = [name[:-4] for name in names if name.lower().endswith(".shp")]
        if len(stems) != 1:
            raise ValueError(f"{len(stems)} Shapefiles in it, expected one")
        for name in names:
            if name[:-4] == stems[0] and name[-4:].lower() in _SHAPEFILE:
                # under a name of ours: an archive's names may lead out of the folder
                with archive.open(name) as source, (folder / f"a{name[-4:].lower()}").open("wb") as target:
                    shutil.copyfileobj(source, target)


def _read(path: Path, format: str, where: str | None, what: str, name: str) -> Any:
    if format in ("GeoJSON", "Parquet"):
        frame = geopandas.read_parquet(path) if format == "Parquet" else _read_geojson(path, what, name)
        return frame if where is None else frame[_matches(frame, where)]
    path = path.resolve()
    kinds = {str(layer): str(kind) for layer, kind in pyogrio.list_layers(path)}
    # a layer of any geometry may hold polygons
    layers = [layer for layer, kind in kinds.items() if re.search("Polygon|Unknown|GeometryCollection", kind)]
    if len(layers) != 1:
        got, do = ", ".join(layers) or "none", "Copy the one that is meant with ogr2ogr."
        raise DataError(f"{name} must hold one layer of polygons", got=got, do=do)
    return geopandas.read_file(path, engine="pyogrio", where=where, layer=layers[0])


def _read_geojson(path: Path, what: str, name: str) -> Any:
    """A geometry, a Feature or a FeatureCollection (RFC 7946), with the CRS that GDAL and QGIS still write."""
    document = json.loads(path.read_text("utf-8-sig"))
    kind = document.get("type") if isinstance(document, dict) else f"a JSON {type(document).__name__}"
    what = f"{what} is of no format that is read: {name}"
    if kind not in ("FeatureCollection", "Feature", *_GEOMETRIES):
        raise DataError(what, got=f"{kind}, not GeoJSON", expected=FORMATS)
    try:
        features = document["features"] if kind == "FeatureCollection" else [document]
        features = [f if f["type"] == "Feature" else {"geometry": f} for f in features]
        shapes = [shape(f["geometry"]) if f.get("geometry") else None for f in features]
        table = pd.DataFrame([f.get("properties") or {} for f in features], index=range(len(features)))
    except _MALFORMED as error:
        raise DataError(what, got=f"not GeoJSON: {type(error).__name__}, {error}", expected=FORMATS) from error
    return geopandas.GeoDataFrame(table, geometry=shapes, crs=_crs_of(document, name))


def _crs_of(document: dict[str, Any], name: str) -> str:
    crs = document.get("crs")
    if crs is None:
        return "EPSG:4326"
    if str(crs.get("type")).lower() not in ("name", "epsg"):
        raise DataError(f"{name} has its CRS at another address", got=crs.get("type"), do="GeoJSON is in degrees.")
    properties = crs["properties"]
    text = str(properties.get("name") or f"EPSG:{properties['code']}")
    # longitude and latitude, with or without heights; EPSG:4326 is the same in the order that is used here
    return "EPSG:4326" if text.endswith(("CRS84", "CRS84h")) else text


def _matches(frame: Any, where: str) -> NDArray[np.bool_]:
    """(n,) True where an expression holds, by way of a GeoPackage, whose SQL it is.

    Only the attributes that the expression names are written, as types that a GeoPackage has.
    """
    columns: dict[str, pd.Series[Any]] = {}
    for name in map(str, frame.columns):
        if name != frame.geometry.name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", where, re.IGNORECASE):
            # SQL ignores case: of `Name` and `name`, take the one that is written so
            twin = next((other for other in columns if other.lower() == name.lower()), None)
            if twin is None or name in where:
                columns.pop(twin or name, None)
                columns[name] = storable(frame[name])
    row = "spacex_row"
    with tempfile.TemporaryDirectory(prefix="spacex-") as folder:
        file = Path(folder) / "features.gpkg"
        table = pd.DataFrame({**columns, row: np.arange(len(frame))}, index=frame.index)
        pyogrio.write_dataframe(table, file, layer="features", FID="spacex_fid")
        rows = pyogrio.read_dataframe(file, where=where, columns=[row])[row].to_numpy(np.int64)
    return np.isin(np.arange(len(frame)), rows)


def storable(column: Any) -> Any:
    """A column's values as numbers, times or text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    kind = column.dtype.kind
    if kind == "m":
        return column.dt.total_seconds()
    if kind == "f":
        return column.astype(np.float64)
    if kind == "u":
        return column.astype(np.int64 if column.max() < 2**63 else np.float64)
    return column.map(str, na_action="ignore") if kind in "Oc" else column


def _readable(path: Path, format: str, what: str, name: str) -> bool:
    """Whether the file can be read without a filter."""
    with suppress(Exception):
        return _read(path, format, None, what, name) is not None
    return False


def _polygonal(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapes made valid, without points and lines."""
    valid = shapely.make_valid(np.asarray(shapes, dtype=object), method="structure", keep_collapsed=False)
    return np.array([_polygon_parts(shape) for shape in valid], dtype=object)


def _polygon_parts(shape: Any) -> Any:
    if shape is None or shape.geom_type in _GEOMETRIES[:2]:
        return shape
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in _GEOMETRIES[:2]]
    return shapely.union_all(parts) if parts else None
