"""Opens one file of a scene, checks that it is what the item says, and reads a window of it.

Every fault becomes a :class:`~spacex.errors.TileError` that names the item and the asset. A file that cannot
be read, or is not on its item's grid, must never pass for "no data".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.session import DummySession, Session

from spacex.errors import TileError
from spacex.grid import Window
from spacex.rasters import open_raster
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.links import forbidden
from spacex.sentinel2.pixel_grid import PixelGrid
from spacex.sentinel2.scenes import Scene

GDAL_OPTIONS: dict[str, str] = {
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # a COG's whole header in that request
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "4",  # 429, 500, 502, 503, 504, with doubling delays
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",  # a stalled transfer is given up, so that no reader hangs for ever
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
}
"""GDAL configuration for reading; a variable of that name in the environment wins."""


MAX_SIDE = 10_980
"""Pixels a side of a Sentinel-2 tile at 10 m (Products Specification); no asset has more."""

SAME = 1e-3
"""Metres by which a file may lie elsewhere than its item says."""

FAULTS = (RasterioError, CPLE_BaseError, OSError)
"""What reading a file can raise; network errors of signing are OSErrors too."""


class ReadStats:
    """Counts what is read, from several threads."""

    def __init__(self) -> None:
        self.total = self.fetched = self.blocks = 0
        self._lock = Lock()

    def add(self, decoded: int, fetched: int, blocks: int) -> None:
        """Add bytes of pixels, the bytes they took in their file, and the blocks they came in."""
        with self._lock:
            self.total += decoded
            self.fetched += fetched
            self.blocks += blocks


READ_STATS = ReadStats()
"""What this process has read: `total` bytes decoded, `fetched` bytes as stored, `blocks`."""


@dataclass(frozen=True)
class Raster:
    """An open file on a lattice."""

    source: Any
    """The open rasterio dataset: one integer band, north up."""
    lattice: PixelGrid
    """The lattice its pixels lie on."""
    extent: Window
    """The part of the lattice the file covers."""


@contextmanager
def open_asset(scene: Scene, key: str, catalogue: CatalogueProfile) -> Iterator[Raster]:
    """Opens an asset of a scene, signed just now, under the reading options.

    Faults of the file or the network, also those raised while reading inside the block, become a
    :class:`TileError` with the scene's id, the asset and the unsigned link. What the header claims is checked
    before any pixel is read.

    Args:
        scene: the scene.
        key: asset key.
        catalogue: how links are signed and which store they are in.
    """
    href = url = scene.item["assets"][key]["href"]
    if (why := forbidden(href, catalogue.url)) is not None:
        raise TileError(f"asset {key} of {scene.id} points where it may not", got=_scrub(href), expected=f"not {why}")
    session = _session(catalogue, href)
    try:
        url = catalogue.sign(href)
        with open_raster(url, session, _options()) as source:
            yield _raster(source, scene, key, "uint8" if key == catalogue.scl else "uint16")
    except FAULTS as error:
        _forget(url, session)
        raise TileError(
            f"cannot read asset {key} of {scene.id}", got=f"{_scrub(str(error))} for {_scrub(href)}",
            do="It is tried again; if it stays, the file is missing or damaged at its host.",
        ) from None  # the cause would carry the signed link  # fmt: skip


def _raster(source: Any, scene: Scene, key: str, dtype: str) -> Raster:
    declared = scene.item["assets"][key]
    properties = scene.item["properties"]
    transform = source.transform
    if source.count != 1 or source.dtypes[0] != dtype:
        _refuse(scene, key, f"one band of {dtype}", f"{source.count} of {source.dtypes[0]}")
    if max(source.shape) > MAX_SIDE:
        _refuse(scene, key, f"at most {MAX_SIDE} pixels a side", f"{source.width} x {source.height}")
    if source.crs is None or transform.b or transform.d or transform.a != -transform.e:
        _refuse(scene, key, "a north-up grid of square pixels", f"{source.crs}, {tuple(transform)[:6]}")
    shape = declared.get("proj:shape")
    if shape is not None and tuple(shape) != source.shape:
        _refuse(scene, key, f"shape {tuple(shape)}", f"shape {source.shape}")
    placed = declared.get("proj:transform")
    if placed is not None and not all(abs(a - b) <= SAME for a, b in zip(placed, transform, strict=False)):
        _refuse(scene, key, f"transform {placed[:6]}", f"transform {tuple(transform)[:6]}")
    code = _code(declared) or _code(properties)
    if code is not None and CRS.from_user_input(code) != source.crs:
        _refuse(scene, key, code, source.crs)
    return _placed(source)


def _placed(source: Any) -> Raster:
    size, left, top = source.transform.a, source.transform.c, source.transform.f
    lattice = PixelGrid(source.crs.to_string(), size, left % size, top % size)
    row, col = round((lattice.north - top) / size), round((left - lattice.east) / size)
    return Raster(source, lattice, Window(row, col, source.height, source.width))


def _code(record: Mapping[str, Any]) -> str | None:
    if code := record.get("proj:code"):
        return str(code)
    return f"EPSG:{record['proj:epsg']}" if record.get("proj:epsg") else None


def _refuse(scene: Scene, key: str, expected: object, got: object) -> None:
    raise TileError(f"asset {key} of {scene.id} is not what its item says", got=got, expected=expected)


def _options() -> dict[str, str]:
    return {name: value for name, value in GDAL_OPTIONS.items() if name not in os.environ}


def _forget(url: str, session: Session | None) -> None:
    """Makes GDAL ask the server again next time.

    GDAL remembers that a file could not be opened, or what it held, for the life of the process, so a retry
    fails without asking (rasterio issue 2119). Closing a file opened as "not cached" drops what is known of it.
    """
    options = {**_options(), "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsiaz/:/vsigs/"}
    with suppress(*FAULTS), open_raster(url, session, options):
        pass


def _session(catalogue: CatalogueProfile, href: str) -> Session | None:
    options = catalogue.s3_options()
    return _FixedSession(options) if options and href.startswith("s3://") else None


class _FixedSession(DummySession):  # type: ignore[misc]
    """Credentials of one store, handed to GDAL as they are."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__()
        self._options = options

    @classmethod
    def hascreds(cls, config: Mapping[str, Any]) -> bool:
        return True  # or rasterio would look for AWS credentials of its own

    def get_credential_options(self) -> dict[str, str]:
        return self._options


def _scrub(text: str) -> str:
    """Error texts quote links; their query part is a signature."""
    return re.sub(r"\?[^\s'\"]+", "?…", " ".join(text.split()))[:400]
