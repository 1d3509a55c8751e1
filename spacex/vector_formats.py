"""Formats of vector files: which are read, and of which a file is, by its first bytes and by GDAL.

GDAL knows some eighty vector formats, goes by a file's content, and follows what some of them name: other files, web
addresses, databases. So a file must have the first bytes of a known format, and GDAL must agree, before it is read.
"""

from __future__ import annotations

from pathlib import Path

import pyogrio

from spacex.errors import DataError

FORMATS = "a GeoPackage, Shapefile (.shp, or one in a .zip), GeoJSON, GeoParquet, FlatGeobuf or KML file"
"""What can be read."""

HEAD = 16384  # first bytes of a file that are examined; GDAL examines no more of them to choose a format


def format_of(file: str, what: str = "the vector file", name: str | None = None) -> str:
    """GDAL's name of a file's format, by its first bytes and by GDAL.

    Raises:
        DataError: if it is of no format that is read, or damaged; calls it `what` and `name`.
    """
    path, name = Path(file), name or file
    with path.open("rb") as content:
        format = _format_by_head(content.read(HEAD), path.suffix.lower())
    if format is None:
        raise DataError(f"{what} is of no format that is read: {name}", expected=FORMATS)
    if format in ("GeoJSON", "Parquet"):
        return format
    if format == "ESRI Shapefile":
        _check_complete(path, what, name)
    try:
        driver = str(pyogrio.read_info(path.resolve(), layer=0)["driver"])
    except Exception as error:
        raise DataError(f"{what} cannot be read: {name}", got=reason(error)) from error
    if driver.removeprefix("LIB") != format:
        raise DataError(f"{what} is of no format that is read: {name}", got=driver, expected=FORMATS)
    return format


def _format_by_head(head: bytes, suffix: str) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"<OGR" in head:  # GDAL would follow it elsewhere, whatever stands before it
        return None
    if head.startswith(b"SQLite format 3\0") and head[68:70] == b"GP":
        return "GPKG"
    if head.startswith(b"\x00\x00\x27\x0a"):
        return "ESRI Shapefile"
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith(b"fgb\x03fgb"):
        return "FlatGeobuf"
    if text.startswith((b"<?xml", b"<kml")) and b"<kml" in text:
        return "KML"
    return "GeoJSON" if text.startswith(b"{") or suffix in (".geojson", ".json") else None


def _check_complete(path: Path, what: str, name: str) -> None:
    """Refuse a Shapefile of which a part is shorter than its header says: GDAL would read the rest as null."""
    for part in (path, path.with_suffix(".shx"), path.with_suffix(".dbf")):
        if not part.is_file():
            continue
        with part.open("rb") as content:
            head = content.read(100)
        if part.suffix == ".dbf":
            # records, and bytes of the header and of a record (little-endian); the end mark may be missing
            expected = int.from_bytes(head[8:10], "little")
            expected += int.from_bytes(head[4:8], "little") * int.from_bytes(head[10:12], "little")
        else:
            expected = 2 * int.from_bytes(head[24:28], "big")  # length in words of 16 bits
        if (size := part.stat().st_size) < expected:
            got = f"{size:,} of {expected:,} bytes of its {part.suffix}"
            raise DataError(f"{what} is cut short: {name}", got=got, do="Copy it again.")


def reason(error: Exception) -> str:
    """An exception's text in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
