"""Where scenes come from: the STAC catalogues that hold Sentinel-2 Level-2A, and how each one speaks.

A :class:`Catalogue` is a style: asset keys, the offset rule, signing. The same style may live at another
address (``get_catalogue(name, url=…, collection=…)``): a mirror, a private archive, a test.

Links of Planetary Computer need a signature that expires after about 45 minutes. It is put on when a file
is opened, never before, and never stored: :class:`~spacex.sentinel2.scenes.Scene` holds unsigned items.
The Copernicus Data Space (``cdse``) serves JPEG 2000 from ``s3://eodata``; it needs the user's own keys in
``CDSE_S3_ACCESS_KEY`` and ``CDSE_S3_SECRET_KEY`` (so that they do not clash with the ``AWS_*`` variables
of the store the cube is written to).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import planetary_computer
import requests
from pydantic import model_validator
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2.reflectance import OffsetRule, offset_of
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, newest_processing, scene_of
from spacex.settings import SENTINEL2_BANDS, Settings

log = logging.getLogger(__name__)

RETRIES = Retry(
    total=6, backoff_factor=1.0, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None,
    respect_retry_after_header=True,
)  # fmt: skip
"""How often a busy catalogue is asked again: after 0, 2, 4, 8, 16, 32 s, or when it says itself."""

TIMEOUT = (10.0, 90.0)
"""Seconds to wait for a connection, and for an answer."""


class Catalogue(Settings):
    """How one catalogue describes and serves Sentinel-2 Level-2A."""

    name: str
    """What the user calls it."""
    url: str
    """Root of the STAC API; empty for the embedded one, which lives only while it is served."""
    collection: str
    """Collection that holds Level-2A."""
    assets: dict[str, str]
    """Band name (B02 …) to asset key."""
    scl: str
    """Asset key of the scene classification."""
    rule: OffsetRule
    """How its items tell whether pixels carry the +1000 offset."""
    signing: Literal["none", "planetary-computer"] = "none"
    """What must be done to a link just before it is opened."""
    cloud_query: bool = True
    """Whether the server can be asked for a cloud limit; it is checked again here in any case."""
    s3_endpoint: str | None = None
    """Host of the S3 service behind s3:// links, where it is not AWS."""

    @model_validator(mode="after")
    def _known_bands(self) -> Catalogue:
        if unknown := set(self.assets) - set(SENTINEL2_BANDS):
            raise ValueError(f"unknown bands {sorted(unknown)}, expected some of {SENTINEL2_BANDS}")
        return self

    def keys(self, bands: Iterable[str]) -> list[str]:
        """Asset keys of bands.

        Raises:
            CatalogueError: if the catalogue has no such band.
        """
        if missing := [band for band in bands if band not in self.assets]:
            raise CatalogueError(
                f"the catalogue {self.name} lacks bands", got=", ".join(missing),
                expected=", ".join(self.assets), do="Use a checkpoint made for these bands.",
            )  # fmt: skip
        return [self.assets[band] for band in bands]

    def stac_cfg(self) -> dict[str, Any]:
        """The ``stac_cfg`` that lets odc-stac read this catalogue's items with the right type and no-data."""
        dn, scl = {"data_type": "uint16", "nodata": 0}, {"data_type": "uint8", "nodata": 0}
        return {self.collection: {"assets": {"*": dn, self.scl: scl}}}

    def sign(self, href: str) -> str:
        """The link to open right now; the result expires and must not be kept or shown."""
        if self.signing == "planetary-computer":
            return str(planetary_computer.sign_url(href))
        return href

    def s3_options(self) -> dict[str, str]:
        """GDAL options for s3:// links outside AWS: endpoint and the user's keys; empty for other hosts."""
        if self.s3_endpoint is None:
            return {}
        keys = {
            "AWS_ACCESS_KEY_ID": os.environ.get("CDSE_S3_ACCESS_KEY", ""),
            "AWS_SECRET_ACCESS_KEY": os.environ.get("CDSE_S3_SECRET_KEY", ""),
        }
        host = {"AWS_S3_ENDPOINT": self.s3_endpoint, "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_HTTPS": "YES"}
        return {**host, **{name: value for name, value in keys.items() if value}}


_COLOURS = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2", "B07": "rededge3",
    "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
_TEN_METRES = ("B02", "B03", "B04", "B08")

_EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"

CATALOGUES: dict[str, Catalogue] = {
    catalogue.name: catalogue
    for catalogue in (
        # rustac, which serves the demo, answers a cloud query with nothing and without an error
        Catalogue(
            name="demo", url="", collection="sentinel-2-l2a", assets=_COLOURS, scl="scl", rule="host-flag",
            cloud_query=False,
        ),
        Catalogue(
            name="earth-search", url=_EARTH_SEARCH, collection="sentinel-2-l2a", assets=_COLOURS, scl="scl",
            rule="host-flag",
        ),
        Catalogue(
            name="earth-search-c1", url=_EARTH_SEARCH, collection="sentinel-2-c1-l2a", assets=_COLOURS,
            scl="scl", rule="metadata",
        ),
        Catalogue(
            name="planetary-computer", url="https://planetarycomputer.microsoft.com/api/stac/v1",
            collection="sentinel-2-l2a", assets={band: band for band in SENTINEL2_BANDS}, scl="SCL",
            rule="baseline", signing="planetary-computer",
        ),
        Catalogue(
            name="cdse", url="https://stac.dataspace.copernicus.eu/v1", collection="sentinel-2-l2a",
            assets={b: f"{b}_{10 if b in _TEN_METRES else 20}m" for b in SENTINEL2_BANDS}, scl="SCL_20m",
            rule="metadata", s3_endpoint="eodata.dataspace.copernicus.eu",
        ),
    )
}  # fmt: skip
"""The catalogues known by name."""


def get_catalogue(name: str, url: str | None = None, collection: str | None = None) -> Catalogue:
    """A catalogue by name, optionally the same style at another address.

    Raises:
        CatalogueError: if the name is unknown, or `demo` is asked for without the url it is served at.
    """
    if name not in CATALOGUES:
        raise CatalogueError("unknown catalogue", got=name, expected=", ".join(CATALOGUES))
    known = CATALOGUES[name]
    if not (url or known.url):
        raise CatalogueError(f"the catalogue {name} has no address of its own", do="Give its url.")
    return known.model_copy(update={"url": url or known.url, "collection": collection or known.collection})


def search(
    catalogue: Catalogue,
    area: BaseGeometry,
    interval: str,
    max_cloud_cover: float = 100.0,
    *,
    bands: Iterable[str] | None = None,
    halo: float = 10_000.0,
    page_size: int = 100,
    retries: Retry = RETRIES,
) -> list[Scene]:
    """Finds all scenes that can touch an area in an interval.

    Args:
        catalogue: where to look.
        area: geometry in EPSG:4326, degrees.
        interval: STAC datetime, e.g. ``2020-07-01/2020-08-30``.
        max_cloud_cover: percent per item; sent to servers that support it, checked here always. Below 100,
            items that do not state their cloud cover are left out.
        bands: bands to be read; items keep only these and SCL. None: all the catalogue's items have.
        halo: metres around the area that tiles will read.
        page_size: items asked for at a time.
        retries: what to do when the server is busy.

    Returns:
        Scenes sorted by (tile, newest processing first, id), one per acquisition and tile.

    Raises:
        CatalogueError: if the catalogue does not answer, has no such collection, finds nothing, or its
            items lack the bands.
    """
    wanted = list(bands) if bands is not None else list(catalogue.assets)
    needed = catalogue.keys(wanted) if bands is not None else []
    found = {item["id"]: item for item in _items(catalogue, _grow(area, halo), interval, max_cloud_cover,
                                                 page_size, retries, catalogue.keys(wanted))}  # fmt: skip
    clear = [item for item in found.values() if _cloud_ok(item, max_cloud_cover)]
    if not clear:
        raise CatalogueError(
            f"{catalogue.name} has no scenes for this area and interval",
            got=f"{interval}, {len(found)} found", expected=f"items with at most {max_cloud_cover:g} % cloud",
            do="Widen the interval or the cloud limit.",
        )  # fmt: skip
    return newest_processing(_scenes(catalogue, clear, wanted, needed))


def _scenes(catalogue: Catalogue, items: list[dict[str, Any]], wanted: list[str], needed: list[str]) -> list[Scene]:
    required = [*needed, catalogue.scl]
    complete = [item for item in items if all(key in item["assets"] for key in required)]
    if not complete:
        missing = [key for key in required if key not in items[0]["assets"]]
        raise CatalogueError(
            f"the items of {catalogue.name} lack assets",
            got=f"{items[0]['id']} without {', '.join(missing)}",
            expected=", ".join(required),
            do="Check --catalogue, --collection and the checkpoint's bands.",
        )
    for item in items:
        if len(complete) < len(items) and not all(key in item["assets"] for key in required):
            log.warning("left out %s: it lacks one of the assets %s", item["id"], ", ".join(required))
    keys = catalogue.keys(wanted)
    return [scene_of(i, offset_of(i, catalogue.rule, keys), [*keys, catalogue.scl]) for i in complete]


def _items(
    catalogue: Catalogue, area: BaseGeometry, interval: str, max_cloud_cover: float, page_size: int,
    retries: Retry, keys: list[str],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """All items of all pages, each trimmed as it arrives."""
    kept = {*keys, catalogue.scl}
    try:
        client = Client.open(catalogue.url, stac_io=StacApiIO(max_retries=retries, timeout=TIMEOUT))
        _check_collection(client, catalogue)
        found = client.search(
            collections=[catalogue.collection], intersects=mapping(area), datetime=interval, limit=page_size,
            **_cloud_limit(client, catalogue, max_cloud_cover),
        )  # fmt: skip
        for item in found.items_as_dicts():
            yield {**item, "links": [], "assets": {k: v for k, v in item["assets"].items() if k in kept}}
    except (APIError, requests.RequestException, OSError, ValueError) as error:
        raise CatalogueError(
            f"the catalogue {catalogue.name} at {catalogue.url} does not answer as a STAC API",
            got=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            do="Check the address, the interval and the network.",
        ) from error


def _check_collection(client: Client, catalogue: Catalogue) -> None:
    # most servers answer a search in a collection they do not have with zero items
    if client.get_collection(catalogue.collection) is None:
        known = sorted(collection.id for collection in client.get_collections())
        raise CatalogueError(
            f"the catalogue at {catalogue.url} has no such collection", got=catalogue.collection,
            expected=", ".join(known[:20]) or "none at all", do="Give --collection.",
        )  # fmt: skip


def _cloud_limit(client: Client, catalogue: Catalogue, percent: float) -> dict[str, Any]:
    """Arguments that make the server apply the cloud limit, in the extension it supports."""
    if percent >= 100 or not catalogue.cloud_query:
        return {}
    if client.conforms_to("QUERY"):
        return {"query": {"eo:cloud_cover": {"lte": percent}}}
    if client.conforms_to("FILTER"):
        expression = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, percent]}
        return {"filter": expression, "filter_lang": "cql2-json"}
    return {}


def _cloud_ok(item: Mapping[str, Any], percent: float) -> bool:
    cover = item["properties"].get("eo:cloud_cover")
    return percent >= 100 or (cover is not None and cover <= percent)


def _grow(area: BaseGeometry, halo: float) -> BaseGeometry:
    """The area grown by the halo and the footprints' slack, with few enough corners to send."""
    if area.is_empty:
        raise CatalogueError("the area is empty", expected="a polygon in degrees")
    detail = 0.01
    north = min(85.0, max(abs(area.bounds[1]), abs(area.bounds[3])))
    metres = 111_000.0 * math.cos(math.radians(north))  # of one degree of longitude, the shorter one
    return area.simplify(detail).buffer((halo + FOOTPRINT_SLACK) / metres + detail, quad_segs=2)
