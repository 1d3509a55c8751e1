"""Validates STAC items, which are untrusted input, before anything in them is used.

Only the fields that SpacEX reads are checked, for their type and for bounds that no real product exceeds. It takes some
30 µs per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import shapely
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from shapely.geometry import shape

from spacex.sentinel2.links import disallowed_reason

MAX_CORNERS = 10_000
"""Corners a footprint may have; real ones have 5 to some 200."""
MAX_HEIGHT = 5.0
"""Degrees of latitude a footprint may span; a tile's is 1."""


def _timestamp(text: str) -> str:
    if not 2015 <= datetime.fromisoformat(text).year < 2100:
        raise ValueError("not within the years of Sentinel-2")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be shown")
    return text


def _file_name(text: str) -> str:
    if text.startswith(".") or "/" in text or "\\" in text:
        raise ValueError("it names a path: a cutout has a folder of that name")
    return _printable(text)


Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=250), AfterValidator(_printable)]
Timestamp = Annotated[str, Field(max_length=50), AfterValidator(_timestamp)]
Degrees = Annotated[float, Field(ge=-180.0, le=180.0, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0.0, le=100.5, allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=1e-9, le=1e3, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-1e3, le=1e3, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1)]
CrsCode = Annotated[str, Field(pattern=r"^EPSG:\d{4,6}$")]
EpsgNumber = Annotated[int, Field(ge=1024, le=999_999)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Band(_Strict):
    scale: Scale | None = None
    offset: Offset | None = None
    raster_scale: Scale | None = Field(None, alias="raster:scale")
    raster_offset: Offset | None = Field(None, alias="raster:offset")


class _Asset(_Strict):
    href: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
    code: CrsCode | None = Field(None, alias="proj:code")
    epsg: EpsgNumber | None = Field(None, alias="proj:epsg")
    shape: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = Field(None, alias="proj:shape")
    transform: Annotated[list[Finite], Field(min_length=6, max_length=9)] | None = Field(None, alias="proj:transform")
    bands: Annotated[list[_Band], Field(max_length=100)] | None = None
    raster_bands: Annotated[list[_Band], Field(max_length=100)] | None = Field(None, alias="raster:bands")
    scale: Scale | None = Field(None, alias="raster:scale")
    offset: Offset | None = Field(None, alias="raster:offset")


class _Properties(_Strict):
    datetime: Timestamp
    platform: Text | None = None
    cloud_cover: Percent | None = Field(None, alias="eo:cloud_cover")
    sun_elevation: Degrees | None = Field(None, alias="view:sun_elevation")
    solar_zenith: Degrees | None = Field(None, alias="s2:mean_solar_zenith")
    code: CrsCode | None = Field(None, alias="proj:code")
    epsg: EpsgNumber | None = Field(None, alias="proj:epsg")
    grid: Text | None = Field(None, alias="grid:code")
    tile: Text | None = Field(None, alias="s2:mgrs_tile")
    zone: Annotated[int, Field(ge=1, le=60)] | None = Field(None, alias="mgrs:utm_zone")
    band: Text | None = Field(None, alias="mgrs:latitude_band")
    square: Text | None = Field(None, alias="mgrs:grid_square")
    baseline: Text | None = Field(None, alias="s2:processing_baseline")
    version: Text | None = Field(None, alias="processing:version")
    applied: bool | None = Field(None, alias="earthsearch:boa_offset_applied")
    generated: Timestamp | None = Field(None, alias="s2:generation_time")
    processed: Timestamp | None = Field(None, alias="processing:datetime")
    datastrip: Text | None = Field(None, alias="s2:datastrip_id")
    eopf_datastrip: Text | None = Field(None, alias="eopf:datastrip_id")
    product: Text | None = Field(None, alias="s2:product_uri")


class _Item(_Strict):
    id: Annotated[str, Field(min_length=1, max_length=250), AfterValidator(_file_name)]
    geometry: dict[str, Any]
    properties: _Properties
    assets: dict[str, Any]


def validate_item(item: object, assets: Iterable[str], root_url: str) -> str | None:
    """The first thing that is wrong with what a catalogue sent as an item, in one line; None if it can be read.

    `assets` are the keys of those that may be read; the item may lack some, others are not checked. The catalogue's
    address `root_url` decides where links may point.
    """
    try:
        checked = _validate(_Item, item)
        _check_footprint(checked.geometry)
        for key in filter(checked.assets.__contains__, assets):
            asset = checked.assets[key]
            href = asset.get("href") if isinstance(asset, Mapping) else None
            if isinstance(href, str) and (why := disallowed_reason(href, root_url)) is not None:
                raise ValueError(f"assets.{key}.href points where it may not: {why}")
            _validate(_Asset, asset, "assets", key)
    except Exception as error:  # shapely fails in as many ways as there are wrong geometries
        return sanitise(str(error)) or type(error).__name__
    return None


def _validate(model: type[BaseModel], value: object, *path: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, (*path, *first['loc'])))[:80]}: {first['msg']}") from error


def sanitise(text: str) -> str:
    """Untrusted text made fit for a terminal: short, on one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text[:400].split()))[:200]


def item_name(item: object) -> str:
    """The id of an item for a message, whatever was sent as an item."""
    name = item.get("id") if isinstance(item, Mapping) else None
    return sanitise(str(name)[:100]) if name else "an item without an id"


def _check_footprint(geometry: Mapping[str, Any]) -> None:
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"geometry.type: {str(geometry.get('type'))[:40]} is no Polygon or MultiPolygon")
    try:
        footprint = shape(geometry)
    except Exception as error:
        raise ValueError(f"geometry.coordinates: {str(error)[:120]}") from error
    if footprint.is_empty or shapely.get_num_coordinates(footprint) > MAX_CORNERS:
        raise ValueError(f"geometry: {shapely.get_num_coordinates(footprint)} corners, not 4 to {MAX_CORNERS}")
    x, y = shapely.get_coordinates(footprint).T
    # some providers go beyond 180° at the antimeridian; comparisons are false for NaN
    inside = bool((abs(x) <= 360).all() and (abs(y) <= 90).all())
    if not inside or y.max() - y.min() > MAX_HEIGHT:
        raise ValueError("geometry: not the footprint of a tile in degrees")
