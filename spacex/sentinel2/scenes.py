"""Sentinel-2 scenes: one small record per product, the same whichever catalogue delivered it.

Catalogues agree on STAC and on little else: names of properties, their case, where the projection is stated.
:func:`scene_of` reads them all into one :class:`Scene` and drops what is never read, because a driver keeps some 15,000
of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.sentinel2.item_list import CHECKSUM
from spacex.sentinel2.pixel_grid import transformer
from spacex.sentinel2.reflectance import Offset, baseline_of

FOOTPRINT_SLACK = 2000.0
"""Metres by which footprints are grown before scenes are selected by them.

A footprint's edge is a straight line in longitude and latitude between far corners: over the 110 km of a tile at 68° N
that misses the true edge by L² tan(lat) / 8R, close to 600 m, and providers simplify further. If scenes were selected
by the bare footprint, a pixel outside it would get the scene in one tile and not in another.
"""
_PROPERTIES = (
    "datetime", "platform", "eo:cloud_cover", "view:sun_elevation", "s2:mean_solar_zenith", "proj:epsg",
    "proj:code", "grid:code", "s2:mgrs_tile", "mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square",
    "s2:processing_baseline", "processing:version", "earthsearch:boa_offset_applied", "s2:generation_time",
    "processing:datetime", "s2:datastrip_id", "eopf:datastrip_id", "s2:product_uri", "sat:relative_orbit",
    "sentinel:boa_offset_applied", "sentinel:processing_baseline", "sentinel:product_id", "sentinel:utm_zone",
    "sentinel:latitude_band", "sentinel:grid_square",
)  # fmt: skip
PIXEL_FIELDS = ("bands", "raster:bands", "raster:scale", "raster:offset", "nodata", "data_type", "gsd")
"""Of an asset: what its numbers mean."""
_ASSET_FIELDS = ("href", "type", "proj:code", "proj:epsg", "proj:shape", "proj:transform", CHECKSUM, *PIXEL_FIELDS)


@dataclass(frozen=True)
class Scene:
    """One Level-2A product of one MGRS tile."""

    id: str
    """The item's id in its catalogue."""
    datetime: str
    """Sensing time, ISO 8601, UTC."""
    cloud_cover: float | None
    """Percent of the product that is cloudy, as its provider states; None if it does not."""
    sun_elevation: float | None
    """Mean elevation of the sun in degrees; None if the catalogue does not state it."""
    offset: Offset
    """What to add to its DN, and why."""
    tile: str
    """MGRS tile, e.g. "34WED"."""
    platform: str
    """Lower case, e.g. "sentinel-2b"."""
    processed: str
    """Processing baseline and time; the larger string is the newer processing."""
    datastrip: str
    """Identifies the acquisition of a tile: the datastrip's sensing start, or the sensing time."""
    item: dict[str, Any]
    """The unsigned STAC item, trimmed to the assets and properties that are read."""

    @property
    def overpass(self) -> str:
        """Platform and solar day: one acquisition of a place, into however many items it was cut."""
        meridian = int(self.tile[:2]) * 6 - 183  # the central one of the tile's UTM zone
        solar = datetime.fromisoformat(self.datetime) + timedelta(hours=meridian / 15)
        return f"{self.platform} {solar.date().isoformat()}"

    def to_json(self) -> dict[str, Any]:
        """The scene as plain JSON values; :meth:`from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Scene:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**record, "offset": Offset(**record["offset"])})


def scene_of(item: Mapping[str, Any], offset: Offset, assets: Iterable[str]) -> Scene:
    """The record of one STAC item of any of the known catalogues; `assets` are the keys of those to keep."""
    properties = item["properties"]
    sensed = _utc(properties["datetime"])
    elevation, zenith = (properties.get(name) for name in ("view:sun_elevation", "s2:mean_solar_zenith"))
    if elevation is None and zenith is not None:
        elevation = 90.0 - float(zenith)
    datastrip = properties.get("s2:datastrip_id") or properties.get("eopf:datastrip_id") or ""
    strip_start = re.search(r"_S(\d{8}T\d{6})", datastrip)
    return Scene(
        id=item["id"],
        datetime=sensed.isoformat(),
        cloud_cover=properties.get("eo:cloud_cover"),
        sun_elevation=None if elevation is None else float(elevation),
        offset=offset,
        tile=_tile(item),
        platform=str(properties.get("platform") or item["id"][:3]).lower(),
        processed=f"{baseline_of(item) or '00.00'} {_processing_time(item)}",
        datastrip=strip_start[1] if strip_start else sensed.strftime("%Y%m%dT%H%M%S"),
        item=_trim(item, assets),
    )


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


def _tile(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    prefix = next((p for p in ("mgrs", "sentinel") if f"{p}:grid_square" in properties), "mgrs")
    parts = (properties.get(f"{prefix}:{name}", "") for name in ("utm_zone", "latitude_band", "grid_square"))
    stated = (properties.get("grid:code"), properties.get("s2:mgrs_tile"))
    for candidate in (*stated, "".join(map(str, parts)), item["id"]):
        if match := re.search(r"(?:^|[-_T])(\d{1,2})([C-X][A-Z]{2})(?:$|_)", str(candidate or "")):
            return f"{int(match[1]):02d}{match[2]}"
    return "00XXX"  # unknown: the scene is still read by its own projection, only its solar day is less exact


def _processing_time(item: Mapping[str, Any]) -> str:
    if stated := item["properties"].get("s2:generation_time") or item["properties"].get("processing:datetime"):
        return _utc(stated).strftime("%Y%m%dT%H%M%S")
    stamps = re.findall(r"\d{8}T\d{6}", item["id"])  # a product's name ends in the time it was made
    return str(stamps[-1]) if len(stamps) > 1 else ""


def _trim(item: Mapping[str, Any], assets: Iterable[str]) -> dict[str, Any]:
    kept = {key: _pick(item["assets"][key], _ASSET_FIELDS) for key in assets if key in item["assets"]}
    trimmed = _pick(item, ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox"))
    return {**trimmed, "properties": _pick(item["properties"], _PROPERTIES), "links": [], "assets": kept}


def _pick(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}


def by_tile(scenes: Iterable[Scene]) -> list[Scene]:
    """Scenes by tile, within it the newest processing first: an order that depends on the scenes alone."""
    return sorted(sorted(scenes, key=lambda s: (s.processed, s.id), reverse=True), key=lambda s: s.tile)


def by_cloud_cover(scenes: Iterable[Scene]) -> list[Scene]:
    """Scenes in the order in which pixels take their observations: least cloudy first, of unknown cover last."""
    newest = sorted(sorted(scenes, key=lambda s: s.id), key=lambda s: s.processed, reverse=True)
    return sorted(newest, key=lambda s: (100.0 if s.cloud_cover is None else s.cloud_cover, s.datetime))


def newest_processing(scenes: Iterable[Scene]) -> list[Scene]:
    """The newest processing of every acquisition, by tile.

    Two products are the same acquisition if platform, tile and datastrip agree. Two datastrips of one tile and day are
    not: they hold one half each. This is for a whole search, not for a tile's scenes: whether a scene is used must not
    depend on what else happens to touch the tile.
    """
    newest: dict[tuple[str, str, str], Scene] = {}
    for scene in by_tile(scenes):
        newest.setdefault((scene.platform, scene.tile, scene.datastrip), scene)
    return list(newest.values())


class SceneIndex:
    """Finds the scenes that can touch a grid, fast, for many grids of one CRS (projected, in metres)."""

    def __init__(self, scenes: Sequence[Scene], crs: str) -> None:
        self.scenes = list(scenes)
        self._tree = shapely.STRtree([footprint_in(scene, crs) for scene in self.scenes])

    def touching(self, geobox: GeoBox) -> list[Scene]:
        """The same as the function `touching`, for a tile with its halo in the index's CRS."""
        hits = self._tree.query(shapely.box(*geobox.boundingbox), predicate="intersects")
        return [self.scenes[i] for i in sorted(hits)]


def touching(scenes: Iterable[Scene], geobox: GeoBox) -> list[Scene]:
    """The scenes whose footprint, grown by the slack, meets the grid's rectangle, in given order.

    Whether a scene is selected never depends on other scenes, so a pixel gets the same scenes in whatever tile it is
    read.
    """
    return SceneIndex(list(scenes), str(geobox.crs)).touching(geobox)


def footprint_in(scene: Scene, crs: str) -> BaseGeometry:
    """The scene's footprint in another CRS (metres), densified to 0.05° and grown by the slack."""
    dense = shapely.segmentize(shapely.make_valid(shape(scene.item["geometry"])), 0.05)
    projected = shapely.transform(dense, transformer("EPSG:4326", crs).transform, interleaved=False)
    return projected.buffer(FOOTPRINT_SLACK, quad_segs=4)
