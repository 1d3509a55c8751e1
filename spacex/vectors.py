"""The one way polygons from outside are read: from a file of this machine, in one of four formats, with a CRS.

GDAL knows some eighty vector formats, goes by a file's content, and follows what some of them name: other files, web
addresses, databases. So a file must be what its first bytes say and GDAL must agree before anything else is read.
GeoParquet is read by geopandas and pyarrow, since GDAL as pip brings it lacks the format; its attribute filter still
is GDAL's, over a GeoPackage made for it.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray

from spacex.errors import DataError

FORMATS = {"GPKG": "GeoPackage", "ESRI Shapefile": "Shapefile", "GeoJSON": "GeoJSON", "Parquet": "GeoParquet"}
"""GDAL's name of each format, and its own."""

HEAD = 100
"""Bytes that tell a format."""

ANY_CRS = "EPSG:4326"
"""Of tables that pass through a GeoPackage, which would warn without one."""

DETAIL = {"degrees": 0.05, "metres": 5000.0}
"""Longest straight piece of an outline before it is projected: a bow of 5 km strays from its chord by some metres."""


@dataclass(frozen=True)
class Polygons:
    """Polygons of one file, and what it says of each."""

    shapes: NDArray[np.object_]
    """(n,) polygons and multipolygons, valid, in `crs`."""
    crs: Any
    """Of the file, a `pyproj.CRS`."""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The attributes, a row per polygon."""

    def __len__(self) -> int:
        return len(self.shapes)

    def projected(self, crs: str) -> NDArray[np.object_]:
        """The polygons in another CRS, (n,), edges cut fine enough to stay straight on the globe; valid."""
        pieces = DETAIL["degrees" if self.crs.is_geographic else "metres"]
        series = geopandas.GeoSeries(shapely.segmentize(self.shapes, pieces), crs=self.crs)
        return _polygonal(series.to_crs(crs).to_numpy())


def read_polygons(file: str, where: str | None = None, what: str = "the vector file") -> Polygons:
    """Read the polygons of a GeoPackage, Shapefile, GeoJSON or GeoParquet file.

    Args:
        file: path on this machine.
        where: which features, as an SQL expression over the attributes, e.g. ``IUCN_CAT in ('Ia','Ib','II')``.
        what: what to call the file in errors, e.g. ``--natural``.

    Raises:
        DataError: if it is none of these, has no CRS, no polygon, or none that the filter lets through.
    """
    format = format_of(file, what)
    try:
        frame = _read(file, format, where)
    except DataError:
        raise
    except Exception as error:  # GDAL, pyogrio, pyarrow and pandas each have their own
        got = " ".join(str(error).split())[:300] or type(error).__name__
        if where is not None and _opens(file, format):
            do = "It is SQL over the attributes, e.g. IUCN_CAT in ('Ia','Ib','II')."
            raise DataError(f"the filter of {what} cannot be carried out: {where}", got=got, do=do) from error
        raise DataError(f"{what} cannot be read: {file}", got=got) from error
    if not len(frame):
        got = f"no feature of {file}" + (f" matches {where}" if where else "")
        raise DataError(f"{what} states nothing", got=got, do=f"Its attributes: {_attributes(file, format)}.")
    if frame.crs is None:
        raise DataError(f"{what} has no CRS: {file}", do="Give it one, e.g. with `ogr2ogr -a_srs EPSG:4326`.")
    shapes = _polygonal(frame.geometry.to_numpy())
    kept = np.array([shape is not None and not shape.is_empty for shape in shapes])
    if not kept.any():
        kinds = ", ".join(sorted({str(kind) for kind in frame.geom_type.dropna()})) or "no geometry"
        raise DataError(f"{what} holds no polygon: {file}", got=kinds)
    return Polygons(shapes[kept], frame.crs, pd.DataFrame(frame.drop(columns=frame.geometry.name))[kept])


def format_of(file: str, what: str = "the vector file") -> str:
    """GDAL's name of a file's format, by its first bytes and by GDAL.

    Raises:
        DataError: if there is no such file, or it is of no format of `FORMATS`.
    """
    path = Path(file)
    if not path.is_file():
        do = "Give a file of this machine: web addresses, archives and databases are not opened."
        raise DataError(f"{what}: there is no file {file}", do=do)
    with path.open("rb") as content:
        head = content.read(HEAD)
    output_lock = _claimed(head)
    if output_lock is None or (output_lock != "Parquet" and _driver(path) != output_lock):
        expected = "a GeoPackage, Shapefile (.shp), GeoJSON or GeoParquet file"
        raise DataError(f"{what} is of no format that is read: {file}", expected=expected)
    return output_lock


def _claimed(head: bytes) -> str | None:
    if head.startswith(b"SQLite format 3\0") and head[68:70] == b"GP":
        return "GPKG"
    if head.startswith(b"\x00\x00\x27\x0a"):
        return "ESRI Shapefile"
    if head.startswith(b"PAR1"):
        return "Parquet"
    return "GeoJSON" if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else None


def _driver(path: Path) -> str | None:
    try:
        return str(pyogrio.read_info(path.resolve(), layer=0)["driver"])
    except Exception:  # whatever it is, it is no vector file
        return None


def _read(file: str, format: str, where: str | None) -> Any:
    if format == "Parquet":
        frame = geopandas.read_parquet(file)
        return frame if where is None else _filtered(frame, where)
    if format == "GeoJSON":
        _check_no_link(file)
    path = Path(file).resolve()
    return geopandas.read_file(path, engine="pyogrio", where=where, layer=_layer(path, file))


def _filtered(frame: Any, where: str) -> Any:
    """What an expression lets through of a table, by way of a GeoPackage, whose SQL it is."""
    shapes = frame.geometry.name
    plain = [name for name in frame.columns if name == shapes or pd.api.types.is_scalar(_first(frame[name]))]
    with tempfile.TemporaryDirectory(prefix="spacex-") as folder:
        passing = Path(folder) / "features.gpkg"
        frame[plain].set_crs(ANY_CRS, allow_override=True).to_file(passing, engine="pyogrio")
        found = geopandas.read_file(passing, engine="pyogrio", where=where)
    return found.set_crs(frame.crs, allow_override=True)


def _first(column: Any) -> Any:
    there = column.dropna()
    return there.iloc[0] if len(there) else None


def _layer(path: Path, file: str) -> str:
    kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(path)}
    layers = [name for name, kind in kinds.items() if "Polygon" in kind or kind in ("Unknown", "GeometryCollection")]
    if len(layers) != 1:
        got, do = ", ".join(layers) or "none", "Copy the one that is meant with ogr2ogr."
        raise DataError(f"{file} must hold one layer of polygons", got=got, do=do)
    return layers[0]


def _check_no_link(file: str) -> None:
    """Refuse a GeoJSON whose CRS is an address: GDAL would ask there."""
    crs = json.loads(Path(file).read_text("utf-8-sig")).get("crs")
    if isinstance(crs, dict) and str(crs.get("type")).lower() not in ("name", "epsg"):
        raise DataError(f"{file} has its CRS at another address", got=crs.get("type"), do="GeoJSON is in degrees.")


def _opens(file: str, format: str) -> bool:
    """Whether the file can be read without a filter."""
    try:
        _read(file, format, None)
    except Exception:
        return False
    return True


def _attributes(file: str, format: str) -> str:
    frame = _read(file, format, None)
    names = [str(name) for name in frame.columns if name != frame.geometry.name]
    return ", ".join(names[:20]) or "none"


def _polygonal(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapes made valid, without what is no area."""
    valid = shapely.make_valid(np.asarray(shapes, dtype=object), method="structure", keep_collapsed=False)
    return np.array([_areas(shape) for shape in valid], dtype=object)


def _areas(shape: Any) -> Any:
    if shape is None or shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else None
