"""Opens one file of a scene and checks that it is what its item says.

A file that cannot be read, or is not on its item's grid, must never pass for "no data".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.session import DummySession, Session

from spacex.errors import TileError
from spacex.rasters import open_raster
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.links import disallowed_reason
from spacex.sentinel2.scenes import Scene

GDAL_OPTIONS: dict[str, str] = {
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # a COG's whole header in that request
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "4",  # 429, 500, 502, 503, 504, with doubling delays
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",  # a stalled transfer fails, so that no thread waits for ever
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
}
"""GDAL configuration for reading; an environment variable of the same name takes precedence."""
MAX_SIDE = 10_980
"""Side in pixels of a Sentinel-2 tile at 10 m (Products Specification); no asset has more."""
MAX_SHIFT = 1e-3
"""Metres by which a file's place may differ from what its item says."""
READ_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What reading a file can raise; network errors of signing are OSErrors too."""


class ReadStats:
    """Counts what is read, from several threads: `total` bytes decoded, `fetched` bytes as stored, `blocks`."""

    def __init__(self) -> None:
        self.total = self.fetched = self.blocks = 0
        self._lock = Lock()

    def add(self, decoded: int, fetched: int, blocks: int) -> None:
        """Add one read of a file."""
        with self._lock:
            self.total += decoded
            self.fetched += fetched
            self.blocks += blocks


READ_STATS = ReadStats()
"""What this process has read."""


@contextmanager
def open_asset(scene: Scene, key: str, catalogue: CatalogueProfile) -> Iterator[Any]:
    """Open an asset of a scene by its key, signed just now, as a rasterio dataset: one integer band, north up.

    Its header is checked before any pixel is read.

    Raises:
        TileError: for any failure of the file or the network, also inside the block, with the scene's id, the asset
            and the unsigned link.
    """
    href = url = scene.item["assets"][key]["href"]
    if (why := disallowed_reason(href, catalogue.url)) is not None:
        raise TileError(f"asset {key} of {scene.id} points where it may not", got=_redact(href), expected=f"not {why}")
    session = _session(catalogue, href)
    try:
        url = catalogue.sign(href)
        with open_raster(url, session, _gdal_options()) as source:
            _check_header(source, scene, key, "uint8" if key == catalogue.scl else "uint16")
            yield source
    except READ_ERRORS as error:
        _drop_from_gdal_cache(url, session)
        raise TileError(
            f"cannot read asset {key} of {scene.id}",
            got=f"{_redact(str(error))} for {_redact(href)}",
            do=f"It is tried again; if it stays, --leave-out {scene.id} goes on without it.",
        ) from None  # the cause would carry the signed link


def _check_header(source: Any, scene: Scene, key: str, dtype: str) -> None:
    declared, transform = scene.item["assets"][key], source.transform

    def require(holds: bool, expected: object, got: object) -> None:
        if not holds:
            raise TileError(f"asset {key} of {scene.id} is not what its item says", got=got, expected=expected)

    count, stored = source.count, source.dtypes[0]
    require(count == 1 and stored == dtype, f"one band of {dtype}", f"{count} of {stored}")
    require(max(source.shape) <= MAX_SIDE, f"at most {MAX_SIDE} pixels a side", f"{source.width} x {source.height}")
    north_up = source.crs is not None and not transform.b and not transform.d and transform.a == -transform.e
    require(north_up, "a north-up grid of square pixels", f"{source.crs}, {tuple(transform)[:6]}")
    if (shape := declared.get("proj:shape")) is not None:
        require(tuple(shape) == source.shape, f"shape {tuple(shape)}", f"shape {source.shape}")
    if (place := declared.get("proj:transform")) is not None:
        near = all(abs(a - b) <= MAX_SHIFT for a, b in zip(place, transform, strict=False))
        require(near, f"transform {place[:6]}", f"transform {tuple(transform)[:6]}")
    for record in (declared, scene.item["properties"]):  # the asset's own statement comes first
        if code := record.get("proj:code") or record.get("proj:epsg"):
            expected = CRS.from_user_input(code)
            require(expected == source.crs, expected, source.crs)
            break


def _gdal_options() -> dict[str, str]:
    return {name: value for name, value in GDAL_OPTIONS.items() if name not in os.environ}


def _drop_from_gdal_cache(url: str, session: Session | None) -> None:
    """Make GDAL, which caches failures for the life of the process (rasterio issue 2119), ask the server again."""
    # closing a file opened as "not cached" drops what GDAL knows of it
    options = {**_gdal_options(), "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsiaz/:/vsigs/"}
    with suppress(*READ_ERRORS), open_raster(url, session, options):
        pass


def _session(catalogue: CatalogueProfile, href: str) -> Session | None:
    options = catalogue.s3_options() if href.startswith("s3://") else {}
    return _FixedSession(options) if options else None


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


def _redact(text: str) -> str:
    """Error texts quote links; their query part is a signature."""
    return re.sub(r"\?[^\s'\"]+", "?…", " ".join(text.split()))[:400]
