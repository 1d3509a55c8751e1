"""From settings to a request of scenes: the area, the days, where scenes come from, and the composite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shapely.geometry.base import BaseGeometry

from spacex.api.declaration import pick
from spacex.api.scene_settings import SceneSettings, is_demo
from spacex.areas import box_area, load_area
from spacex.errors import RequestError
from spacex.intervals import parse_intervals
from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL

Intervals = tuple[tuple[str, str], ...]
"""First and last day of each time step, ISO 8601."""


def map_area(asked: SceneSettings, bbox: Sequence[float] | None) -> BaseGeometry:
    """The area to map, as `chosen_area` gives it; the demo has a default.

    Raises:
        RequestError: if there is none, or two.
    """
    if bbox is None and asked["area"] is None and is_demo(asked):
        bbox = DEMO_BBOX
    area = chosen_area(asked, bbox)
    if area is None:
        raise RequestError("which region", got="neither", expected="either --bbox or --area")
    return area


def chosen_area(asked: SceneSettings, bbox: Sequence[float] | None) -> BaseGeometry | None:
    """The box or the area, as a geometry in EPSG:4326; None if neither is given.

    Raises:
        RequestError: if both are given, or one is no area on Earth.
    """
    area = asked["area"]
    if bbox is not None and area is not None:
        raise RequestError("which region", got="both", expected="either --bbox or --area")
    if bbox is not None and len(bbox) != 4:
        raise RequestError("the bounding box", got=bbox, expected="west, south, east, north")
    area = load_area(area) if isinstance(area, str) else area
    return area if bbox is None else box_area(*bbox)


def chosen_intervals(asked: SceneSettings, datetime: str | Sequence[str] | None) -> Intervals:
    """First and last day of each time step; the demo has a default.

    Raises:
        RequestError: if there is none, one is no interval, or two are the same.
    """
    texts = [datetime] if isinstance(datetime, str) else list(datetime or [])
    return parse_intervals(texts or ([DEMO_INTERVAL] if is_demo(asked) else []))


def scene_fields(asked: SceneSettings, archive: Callable[[], Path]) -> dict[str, Any]:
    """The fields of a `SceneRequest`; the demo's scenes are listed in its archive, which is made when it is needed.

    Raises:
        RequestError: if a list of items and a server are given, or the list cannot be read.
    """
    from spacex.sentinel2.item_list import catalogue_of
    from spacex.sentinel2.scene_request import CompositeSettings, SceneRequest
    from spacex.settings import checked
    from spacex.storage import absolute_uri

    items, catalogue = asked["items"], asked["catalogue"]
    if is_demo(asked):
        items = str(archive() / "items.json")
    elif items is not None:
        if server := [name for name in ("stac_url", "collection") if asked[name] is not None]:  # type: ignore[literal-required]
            got = ", ".join(f"--{name.replace('_', '-')}" for name in server)
            raise RequestError("--items needs no server", got=got, expected="either a list or a search")
        items = absolute_uri(items)
    stated = catalogue_of(items) if items is not None and catalogue is None else None

    # Fields that have the name of a setting are taken over; the composite's other two have shorter names as settings.
    composite = pick(asked, CompositeSettings.model_fields)
    composite |= {"snow_is_clear": asked["snow"], "min_sun_elevation": asked["min_sun"]}
    fields = pick(asked, SceneRequest.model_fields)
    fields |= {"items": items, "catalogue": catalogue or stated or SceneRequest.model_fields["catalogue"].default}
    return fields | {"composite": checked(lambda: CompositeSettings(**composite))}
