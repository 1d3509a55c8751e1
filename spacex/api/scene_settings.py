"""Settings that maps and data sets have in common: the area, the scenes, and how they are composited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, RUNS, WHEN, WHERE, Setting
from spacex.api.validation import check_crs, check_resolution, check_shared_input, names_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry
else:
    BaseGeometry = str  # on the command line an area is named by text

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees."""
CatalogueName = Literal["earth-search", "earth-search-c1", "planetary-computer", "cdse", "demo"]

SCL_CLASSES = tuple(map(str, range(1, 12)))
"""Values of Sentinel-2's scene classification that can count as clear."""


class SceneSettings(TypedDict, total=False):
    """Which land, which scenes, and how they are composited."""

    area: Annotated[str | BaseGeometry | None, Setting(FIRST)]
    """Instead of --bbox: a file of polygons (GeoJSON in degrees; GeoPackage, Shapefile, GeoParquet), or one of:
    fennoscandia, finland, norway, sweden. In Python also a geometry in EPSG:4326."""
    crs: Annotated[str, Setting(WHERE, "EPSG:3035", check=check_crs)]
    """CRS of the pixels, projected in metres."""
    resolution: Annotated[float, Setting(WHERE, 10.0, check=check_resolution)]
    """Metres per pixel, 1 to 1000. Networks are trained at 10 m."""
    catalogue: Annotated[
        CatalogueName | None,
        Setting(WHEN, typed=CatalogueName, unset="what --items says, else earth-search", metavar="NAME"),
    ]
    """Where scenes come from: earth-search, earth-search-c1, planetary-computer, cdse, demo. demo is the synthetic
    landscape that ships with SpacEX and needs no network."""
    items: Annotated[str | None, Setting(WHEN, unset="a search", metavar="FILE", check=check_shared_input)]
    """Scenes from a list in a file, without a search: STAC items of --catalogue as JSON or GeoParquet. `spacex scenes`
    writes such lists. Relative links start at the file."""
    stac_url: Annotated[str | None, Setting(WHEN, unset="the catalogue's")]
    """Another endpoint that speaks like --catalogue."""
    collection: Annotated[str | None, Setting(WHEN, unset="the catalogue's")]
    """Another collection of that endpoint."""
    max_cloud_cover: Annotated[float, Setting(WHEN, 60.0, least=0, most=100, metavar="N")]
    """Percent; cloudier scenes are not used. In the others clouds are masked by pixel."""
    leave_out: Annotated[Sequence[str], Setting(WHEN, (), typed=list[str], unset="none", metavar="ID")]
    """Item of the catalogue that is not used, e.g. one whose file is missing or whose pixels are wrong; may be
    repeated."""
    min_sun: Annotated[float, Setting(WHEN, 20.0, least=0, most=90, metavar="N")]
    """Degrees; scenes with a lower sun are not used."""
    clear_classes: Annotated[
        Sequence[int], Setting(HOW, (2, 4, 5, 6, 7), typed=str, parse=names_of(*SCL_CLASSES, kind=int))
    ]
    """Scene classification (SCL) values that count as clear, comma separated: 2 dark area, 4 vegetation, 5 bare, 6
    water, 7 unclassified."""
    snow: Annotated[bool, Setting(HOW, False, option="--snow/--no-snow")]
    """Whether snow counts as a clear observation."""
    cloud_buffer: Annotated[int, Setting(HOW, 0, least=0, most=50, metavar="N")]
    """Pixels of 20 m by which clouds and their shadows are grown."""
    min_observations: Annotated[int, Setting(HOW, 1, least=1, most=1000, metavar="N")]
    """Pixels seen clear less often have no data."""
    enough: Annotated[int, Setting(HOW, 8, least=0, most=1000, metavar="K")]
    """Use at most K clear observations per pixel, least cloudy scenes first; 0 for all there are."""
    resampling: Annotated[Literal["nearest", "bilinear"], Setting(HOW, "nearest")]
    """How reflectance is brought to the pixels."""


def is_demo(asked: SceneSettings) -> bool:
    """Whether scenes come from the embedded country, not from another catalogue or list that is described like it."""
    return asked["catalogue"] == "demo" and asked["stac_url"] is None and asked["items"] is None


class ReadSettings(TypedDict, total=False):
    """How the work on tiles is done."""

    time_limit: Annotated[float, Setting(RUNS, 900.0, least=1, metavar="N")]
    """Seconds the reading of one tile may take before it counts as failed."""
