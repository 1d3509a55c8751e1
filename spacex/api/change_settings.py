"""The settings of a comparison of two time steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, REQUIRED, WHAT, Setting
from spacex.api.validation import check_exists, check_file, check_table, check_zones

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
else:
    GeoDataFrame = Any  # on the command line zones are named by text

MapName = Literal["naturalness", "composite", "lift", "attribution", "path_attribution"]


class ChangeSettings(TypedDict, total=False):
    """What is compared with what, and what counts as change."""

    cube: Annotated[str, Setting("", REQUIRED, argument=True, ending=".zarr", check=check_exists)]
    """The cube, or one of two: a path or any fsspec URI."""
    other: Annotated[str | None, Setting("", argument=True, ending=".zarr", check=check_exists)]
    """The cube with the other time step, on the same grid; without it both are of the one cube."""
    between: Annotated[
        Sequence[str] | None,
        Setting(FIRST, typed=tuple[str, str], unset="the first and the last", metavar="ONE OTHER"),
    ]
    """The two time steps: beginnings of their first days, e.g. 2019 2024, or 2019-07 2024-07; of two cubes, in the
    cubes' order. The earlier one is compared with the later, however they are named."""
    output: Annotated[str | None, Setting(FIRST, unset="none", check=check_file, metavar="FILE")]
    """File for the places that changed, as polygons: GeoParquet (.parquet), GeoPackage (.gpkg) or GeoJSON
    (.geojson)."""
    map: Annotated[str | None, Setting(FIRST, ending=".tif", unset="none", check=check_file, metavar="FILE.tif")]
    """GeoTIFF of 20 m: naturalness before, its change, the standard error of that, how far the change exceeds the
    noise, and what is said of the pixel."""
    zones: Annotated[
        GeoDataFrame | str | None, Setting(WHAT, typed=str, unset="none", check=check_zones, metavar="FILE")
    ]
    """Polygons to say what changed in, a row each: any file that `spacex sites` takes. In Python also a
    GeoDataFrame."""
    table: Annotated[str | None, Setting(WHAT, unset="none", check=check_table, metavar="FILE")]
    """File for the rows of the zones: its name ends in .parquet (GeoParquet), .gpkg or .csv (without outlines)."""
    of: Annotated[MapName, Setting(WHAT, "composite", metavar="NAME")]
    """What tells change: composite, the picture, finds places from a hectare on; naturalness only what moves the score
    of a whole chip by more than its standard error; lift, attribution or path_attribution, if the cube has it."""
    false_alarms: Annotated[float, Setting(HOW, 10.0, least=1e-6, most=1000, metavar="N")]
    """False places per 1,000 km2 that thresholds aim at by noise alone; other crops and seasons add to them:
    spacex/changes/README.md."""
    min_area: Annotated[float, Setting(HOW, 1.0, least=0, most=1e6, metavar="HECTARES")]
    """Smallest place that is reported."""
