"""Searches STAC catalogues for scenes, however they page, limit or fail.

How the catalogues differ is in :mod:`spacex.sentinel2.catalogue_profiles`; the result is the same for all: a list of
:class:`~spacex.sentinel2.scenes.Scene`, one per acquisition and tile, in an order that depends on the scenes alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pystac_client import Client
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.item_list import check_files, chosen, read_items
from spacex.sentinel2.items import item_name, sanitise, validate_item
from spacex.sentinel2.reflectance import offset_of
from spacex.sentinel2.retries import BUSY, BoundedRetry
from spacex.sentinel2.scenes import FOOTPRINT_SLACK, Scene, newest_processing, scene_of
from spacex.sentinel2.stac_io import BoundedStacIO

log = logging.getLogger(__name__)

RETRIES = BoundedRetry(total=6, connect=2, read=2, backoff_factor=1.0, status_forcelist=BUSY, allowed_methods=None)
"""A busy catalogue is asked again after 0, 2, 4, 8, 16, 32 s, or when its answer says; only twice where nobody answers
at all: a mistyped address is likelier than a server restarting."""
TIMEOUT = (10.0, 90.0)
"""Seconds to wait for a connection, and for an answer."""
MAX_ITEMS = 100_000
"""Items of a search: six summers of Fennoscandia; more is a mistake or a server without end."""
MAX_IDLE_PAGES = 20
"""Pages in a row without a new item."""
MAX_WARNINGS = 20
"""Broken items that are named one by one; of more, only the number is logged."""

Ask = Callable[[str, float], Iterator[Mapping[str, Any]]]
"""Gives the pages of a search in an interval with a cloud limit in percent, which need not have been applied."""

AS_ASKED = "as asked"
"""Why an item is left out whose id was given to be left out."""


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
    leave_out: Collection[str] = (),
    left_out: dict[str, str] | None = None,
    refusals: list[CatalogueError] | None = None,
) -> list[Scene]:
    """Search a catalogue, or a list of items in its place, for all scenes that can touch an area in an interval.

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
        leave_out: ids of items that are not to be used.
        left_out: gets the id of every item that is left out, and why. Cloudy items are not among them.
        refusals: gets the error that is otherwise raised where no scene can be used.

    Returns:
        Scenes sorted by (tile, newest processing first, id), one per acquisition and tile. Items that are invalid
        (:mod:`spacex.sentinel2.items`), lack a band or do not tell their offset are left out, each with a warning that
        names it.

    Raises:
        CatalogueError: if the catalogue does not answer within bounds, has no such collection, finds nothing, or none
            of its items can be used.
    """
    keys = catalogue.keys(list(catalogue.assets if bands is None else bands))
    required = [catalogue.scl] if bands is None else [*keys, catalogue.scl]
    around, omitted = _grow(area, halo), _Omissions(catalogue.title)
    ask: Ask
    if catalogue.listed:
        ask = partial(_listed, read_items(catalogue.url), around)
    else:
        with _as_catalogue_error(catalogue):
            ask = partial(_pages, _open(catalogue, retries), catalogue, around, page_size)
    valid = _valid_items(ask(interval, max_cloud_cover), catalogue, {*keys, catalogue.scl}, omitted)
    items = {item["id"]: item for item in valid}
    scenes, too_cloudy, unstated = [], 0, 0
    for item in items.values():
        clouds = item["properties"].get("eo:cloud_cover")
        missing = [key for key in required if key not in item["assets"]]
        if item["id"] in leave_out:
            omitted.add(item["id"], AS_ASKED)
        elif clouds is None and max_cloud_cover < 100:
            unstated += 1
            omitted.add(item["id"], "it does not state its cloud cover; --max-cloud-cover 100 uses it")
        elif clouds is not None and clouds > max_cloud_cover:
            too_cloudy += 1
        elif missing:
            omitted.add(item["id"], f"it lacks the assets {', '.join(missing)}")
        else:
            try:
                scenes.append(scene_of(item, offset_of(item, catalogue.rule, keys), [*keys, catalogue.scl]))
            except CatalogueError as error:  # it does not tell its offset
                omitted.add(item["id"], str(error))
    omitted.log_count()
    if left_out is not None:
        left_out |= omitted.reasons
    if scenes:
        if catalogue.listed:  # of its own files it is known before they are searched
            catalogue.check_credentials(scene.item["assets"][catalogue.scl]["href"] for scene in scenes)
            check_files((scene.item for scene in scenes), catalogue.title)
        return newest_processing(scenes)
    broken = [f"{name} ({reason})" for name, reason in omitted.reasons.items() if reason != AS_ASKED]
    if broken and not too_cloudy and not unstated:
        refusal = CatalogueError(
            f"no item of {catalogue.title} can be read",
            got=broken[0],
            expected=f"STAC items of Sentinel-2 Level-2A with the assets {', '.join(required)}",
            do="Check --catalogue, its address, --collection and the checkpoint's bands.",
        )
    else:
        middle, counted = area.centroid, f"{len(items)} found"
        if unstated:
            counted += f", {unstated} of them without a cloud cover, which --max-cloud-cover 100 uses,"
        refusal = CatalogueError(
            f"{catalogue.title} has no scenes for this area and interval",
            got=f"{interval}, {counted} around longitude {middle.x:.2f}, latitude {middle.y:.2f}",
            expected=f"items with at most {max_cloud_cover:g} % cloud",
            do="Widen the interval or the cloud limit." if items else _days_nearby(ask, interval),
        )
    if refusals is None:
        raise refusal
    refusals.append(refusal)
    return []


def warn_of_unknown(leave_out: Iterable[str], left_out: Mapping[str, str]) -> None:
    """Log the ids that were to be left out and that no item has: perhaps they are mistyped."""
    for name in leave_out:
        if name not in left_out:
            log.warning("no item has the id %s, which is to be left out", sanitise(name))


@dataclass
class _Omissions:
    """Items that are left out: the first few are logged one by one."""

    catalogue: str
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.reasons[name] = reason
        if len(self.reasons) <= MAX_WARNINGS:
            log.warning("left out %s (%s)", name, reason)

    def log_count(self) -> None:
        if len(self.reasons) > MAX_WARNINGS:
            log.warning("left out %d broken items of %s in all", len(self.reasons), self.catalogue)


def _open(catalogue: CatalogueProfile, retries: Retry) -> Client:
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
    return client


def _listed(items: list[Any], area: BaseGeometry, interval: str, percent: float) -> Iterator[Mapping[str, Any]]:
    """One page of those items of a list that a server would have found; the cloud limit is applied later."""
    if features := chosen(items, area, interval):
        yield {"features": features}


def _pages(
    client: Client, catalogue: CatalogueProfile, area: BaseGeometry, page_size: int, interval: str, percent: float
) -> Iterator[Mapping[str, Any]]:
    """The pages of the search; the server applies the cloud limit if it has an extension for that."""
    query: dict[str, Any] = {"collections": [catalogue.collection], "datetime": interval}
    # POST is optional in the specification; a link that names no method stands for GET
    methods = {link.extra_fields.get("method") or "GET" for link in client.get_links("search")}
    if "POST" in methods or not methods:
        query["intersects"] = mapping(area)
    else:  # an address holds few corners: the box finds some scenes more, which touch no tile
        query |= {"method": "GET", "bbox": area.bounds}
    if percent < 100 and "intersects" in query:
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


def _days_nearby(ask: Ask, interval: str) -> str:
    """Advice where nothing was found: on which days before and after the interval the catalogue has scenes here."""
    first, _, last = interval.partition("/")
    days: list[str] = []
    for span, nearest in ((f"../{first}", max), (f"{last or first}/..", min)):
        with suppress(Exception):  # it is only advice
            page = next(ask(span, 100.0))  # none if nothing is found
            days.append(nearest(str(item["properties"]["datetime"])[:10] for item in page["features"]))
    if days:
        return f"It has scenes here on {' and '.join(sanitise(day) for day in days)}: choose other days."
    return "It has none here on other days either. Is that the place you meant? Longitudes come before latitudes."


@contextmanager
def _as_catalogue_error(catalogue: CatalogueProfile) -> Iterator[None]:
    """Name whatever goes wrong while the catalogue is asked: pystac fails in as many ways as servers do."""
    try:
        yield
    except CatalogueError:
        raise
    except Exception as error:
        address = f"the catalogue {catalogue.name} at {catalogue.url}"
        if "error responses" in (reason := _reason(error)):
            what, do = "is busy and does not answer", "Repeat the command later."
        else:
            what, do = "does not answer as a STAC API", "Check the address, the interval and the network."
        raise CatalogueError(f"{address} {what}", got=reason, do=do) from error


def _valid_items(
    pages: Iterable[Mapping[str, Any]], catalogue: CatalogueProfile, assets: set[str], omitted: _Omissions
) -> Iterator[dict[str, Any]]:
    """All valid items, each reduced to the assets that are read as soon as it arrives; invalid ones are left out."""
    with _as_catalogue_error(catalogue):
        for item in _bounded(pages, catalogue):
            if (fault := validate_item(item, assets, catalogue.url)) is None:
                yield {**item, "links": [], "assets": {k: v for k, v in item["assets"].items() if k in assets}}
            else:
                omitted.add(item_name(item), fault)


def _bounded(pages: Iterable[Mapping[str, Any]], catalogue: CatalogueProfile) -> Iterator[Any]:
    """The items of the pages, as long as they bring new ones and are not more than any search can need."""
    seen, idle = set[str](), 0
    for page in pages:
        before = len(seen)
        for item in page["features"]:
            seen.add(item_name(item))
            yield item
        idle = idle + 1 if len(seen) == before else 0
        if idle > MAX_IDLE_PAGES or len(seen) > MAX_ITEMS:
            raise CatalogueError(
                f"the pages of {catalogue.title} do not end",
                got=f"{len(seen)} items, {idle} pages without a new one",
                expected=f"at most {MAX_ITEMS} items",
                do="Ask for a smaller area or interval.",
            )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Caused by" in text:  # urllib3's chain "pool(…): … (Caused by X(…): reason)": only its end tells a reader why
        text = text.rpartition("): ")[2].strip("\"'() ")
        text += ")" * (text.count("(") - text.count(")"))
    status = getattr(error, "status_code", None)
    return f"{f'HTTP {status} ' if status else ''}{text[:300]}".strip() or type(error).__name__


def _grow(area: BaseGeometry, halo: float) -> BaseGeometry:
    """The area grown by the halo and the footprints' slack, with few enough corners to send."""
    if area.is_empty:
        raise CatalogueError("the area is empty", expected="a polygon in degrees")
    detail, north = 0.01, min(85.0, max(abs(area.bounds[1]), abs(area.bounds[3])))
    metres = 111_000.0 * math.cos(math.radians(north))  # of one degree of longitude, the shorter one
    # two chords to a quarter of a circle lie within it by 8 %
    return area.simplify(detail).buffer(1.1 * (halo + FOOTPRINT_SLACK) / metres + detail, quad_segs=2)
