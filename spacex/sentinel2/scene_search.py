"""Searches STAC catalogues for scenes, however they page, limit or fail.

How the catalogues differ is in :mod:`spacex.sentinel2.catalogue_profiles`; the result is the same for all: a list of
:class:`~spacex.sentinel2.scenes.Scene`, one per acquisition and tile, in an order that depends on the scenes alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pystac_client import Client
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.items import item_name, validate_item
from spacex.sentinel2.reflectance import offset_of
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, newest_processing, scene_of
from spacex.sentinel2.stac_io import BoundedStacIO

log = logging.getLogger(__name__)

RETRIES = Retry(
    total=6, connect=2, backoff_factor=1.0, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None
)
"""A busy catalogue is asked again after 0, 2, 4, 8, 16, 32 s, or when its answer says.

Only twice where nobody answers at all: a mistyped address is likelier than a server restarting.
"""
TIMEOUT = (10.0, 90.0)
"""Seconds to wait for a connection, and for an answer."""
MAX_ITEMS = 100_000
"""Items of a search: six summers of Fennoscandia; more is a mistake or a server without end."""
MAX_IDLE_PAGES = 20
"""Pages in a row without a new item."""
MAX_WARNINGS = 20
"""Broken items that are named one by one; of more, only the number is logged."""


def search(
    catalogue: CatalogueProfile,
    area: BaseGeometry,
    interval: str,
    max_cloud_cover: float = 100.0,
    *,
    bands: Iterable[str] | None = None,
    halo: float = 10_000.0,
    page_size: int = 100,
    retries: Retry = RETRIES,
) -> list[Scene]:
    """Search a catalogue for all scenes that can touch an area in an interval.

    Args:
        catalogue: where to search.
        area: geometry in EPSG:4326, degrees.
        interval: STAC datetime, e.g. ``2020-07-01/2020-08-30``.
        max_cloud_cover: percent per item; sent to servers that support it, applied here always. Below 100, items that
            do not state their cloud cover are left out.
        bands: bands to be read; items keep only these and SCL. None: all the catalogue's items have.
        halo: metres around the area that tiles will read.
        page_size: items asked for at a time.
        retries: what to do when the server is busy.

    Returns:
        Scenes sorted by (tile, newest processing first, id), one per acquisition and tile. Items that are invalid
        (:mod:`spacex.sentinel2.items`) or lack a band are left out, each with a warning that names it.

    Raises:
        CatalogueError: if the catalogue does not answer within bounds, has no such collection, finds nothing, or none
            of its items is valid and has the bands.
    """
    keys = catalogue.keys(list(catalogue.assets if bands is None else bands))
    pages = _pages(catalogue, _grow(area, halo), interval, max_cloud_cover, page_size, retries)
    items = {item["id"]: item for item in _valid_items(pages, catalogue, {*keys, catalogue.scl})}
    limit, clouds = (None if max_cloud_cover >= 100 else max_cloud_cover), "eo:cloud_cover"
    stated = [item for item in items.values() if limit is None or item["properties"].get(clouds) is not None]
    clear = [item for item in stated if limit is None or item["properties"][clouds] <= limit]
    if not clear:
        middle = area.centroid
        hint = " or the cloud limit." if items else ". Is that the place you meant? Longitudes come before latitudes."
        raise CatalogueError(
            f"{catalogue.name} has no scenes for this area and interval",
            got=f"{interval}, {len(items)} found around longitude {middle.x:.2f}, latitude {middle.y:.2f}",
            expected=f"items with at most {max_cloud_cover:g} % cloud",
            do=f"Widen the interval{hint}",
        )
    required = [catalogue.scl] if bands is None else [*keys, catalogue.scl]
    complete = [item for item in clear if set(required) <= item["assets"].keys()]
    if not complete:
        missing = [key for key in required if key not in clear[0]["assets"]]
        raise CatalogueError(
            f"the items of {catalogue.name} lack assets",
            got=f"{clear[0]['id']} without {', '.join(missing)}",
            expected=", ".join(required),
            do="Check --catalogue, --collection and the checkpoint's bands.",
        )
    for item in clear:
        if not set(required) <= item["assets"].keys():
            log.warning("left out %s: it lacks one of the assets %s", item["id"], ", ".join(required))
    return newest_processing(
        scene_of(item, offset_of(item, catalogue.rule, keys), [*keys, catalogue.scl]) for item in complete
    )


def _pages(
    catalogue: CatalogueProfile, area: BaseGeometry, interval: str, percent: float, page_size: int, retries: Retry
) -> Iterator[Mapping[str, Any]]:
    """The pages of the search; the server applies the cloud limit if it has an extension for that."""
    client = Client.open(catalogue.url, stac_io=BoundedStacIO(catalogue.url, retries, TIMEOUT))
    # most servers answer a search in a collection they do not have with zero items
    if client.get_collection(catalogue.collection) is None:
        known = sorted(collection.id for collection in client.get_collections())
        raise CatalogueError(
            f"the catalogue at {catalogue.url} has no such collection",
            got=catalogue.collection,
            expected=", ".join(known[:20]) or "none at all",
            do="Give --collection.",
        )
    query: dict[str, Any] = {"collections": [catalogue.collection], "intersects": mapping(area), "datetime": interval}
    if percent < 100 and catalogue.cloud_query:
        if client.conforms_to("QUERY"):
            query["query"] = {"eo:cloud_cover": {"lte": percent}}
        elif client.conforms_to("FILTER"):
            query["filter"] = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, percent]}
            query["filter_lang"] = "cql2-json"
    try:
        items = client.search(**query, limit=page_size)
    except Exception as error:  # pystac-client raises bare Exceptions for intervals it cannot read
        raise CatalogueError(
            "the search cannot be put into words",
            got=f"interval {interval}: {error}",
            expected="an interval such as 2020-07-01/2020-08-30",
        ) from error
    yield from items.pages_as_dicts()


def _valid_items(
    pages: Iterable[Mapping[str, Any]], catalogue: CatalogueProfile, assets: set[str]
) -> Iterator[dict[str, Any]]:
    """All valid items, each reduced to the assets that are read as soon as it arrives; invalid ones are logged."""
    invalid, valid, first = 0, 0, ""
    try:
        for item in _bounded(pages, catalogue):
            if (fault := validate_item(item, assets, catalogue.url)) is None:
                valid += 1
                yield {**item, "links": [], "assets": {k: v for k, v in item["assets"].items() if k in assets}}
                continue
            invalid += 1
            named = f"{item_name(item)} ({fault})"
            first = first or named
            if invalid <= MAX_WARNINGS:
                log.warning("left out %s", named)
    except CatalogueError:
        raise
    except Exception as error:  # anything may answer at that address, and pystac fails in as many ways
        raise CatalogueError(
            f"the catalogue {catalogue.name} at {catalogue.url} does not answer as a STAC API",
            got=_reason(error),
            do="Check the address, the interval and the network.",
        ) from error
    if invalid and not valid:
        raise CatalogueError(
            f"no item of {catalogue.name} can be read",
            got=first,
            expected="STAC items of Sentinel-2 Level-2A",
            do="Check --catalogue and its address.",
        )
    if invalid > MAX_WARNINGS:
        log.warning("left out %d broken items of %s in all", invalid, catalogue.name)


def _bounded(pages: Iterable[Mapping[str, Any]], catalogue: CatalogueProfile) -> Iterator[Any]:
    """The items of the pages, as long as they bring new ones and are not more than any search can need."""
    seen: set[str] = set()
    idle = 0
    for page in pages:
        before = len(seen)
        for item in page["features"]:
            seen.add(item_name(item))
            yield item
        idle = idle + 1 if len(seen) == before else 0
        if idle > MAX_IDLE_PAGES or len(seen) > MAX_ITEMS:
            raise CatalogueError(
                f"the pages of {catalogue.name} do not end",
                got=f"{len(seen)} items, {idle} pages without a new one",
                expected=f"at most {MAX_ITEMS} items",
                do="Ask for a smaller area or interval.",
            )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Caused by" in text:  # urllib3's chain "pool(…): … (Caused by X(…): reason)": only its end tells a reader why
        text = text.rpartition("): ")[2].strip("\"'() ")
    status = getattr(error, "status_code", None)
    return f"{f'HTTP {status} ' if status else ''}{text[:300]}".strip() or type(error).__name__


def _grow(area: BaseGeometry, halo: float) -> BaseGeometry:
    """The area grown by the halo and the footprints' slack, with few enough corners to send."""
    if area.is_empty:
        raise CatalogueError("the area is empty", expected="a polygon in degrees")
    detail = 0.01
    north = min(85.0, max(abs(area.bounds[1]), abs(area.bounds[3])))
    metres = 111_000.0 * math.cos(math.radians(north))  # of one degree of longitude, the shorter one
    # two chords to a quarter of a circle lie within it by 8 %
    return area.simplify(detail).buffer(1.1 * (halo + FOOTPRINT_SLACK) / metres + detail, quad_segs=2)
