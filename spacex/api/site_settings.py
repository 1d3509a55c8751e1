"""The settings of a table of sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from spacex.api.declaration import FIRST, REQUIRED, WHAT, Setting
from spacex.api.validation import check_exists, check_folder, check_local_file, check_table, check_zones

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
else:
    GeoDataFrame = Any  # on the command line zones are named by text


class SiteSettings(TypedDict, total=False):
    """Which zones of which cube, and where the table goes."""

    cube: Annotated[str, Setting("", REQUIRED, argument=True, ending=".zarr", check=check_exists)]
    """The cube: a path or any fsspec URI."""
    zones: Annotated[GeoDataFrame | str, Setting(FIRST, REQUIRED, typed=str, check=check_zones, metavar="FILE")]
    """Polygons, each a site: a GeoPackage, Shapefile (.shp or in a .zip), GeoJSON, GeoParquet, FlatGeobuf or KML file.
    In Python also a GeoDataFrame."""
    where: Annotated[str | None, Setting(FIRST, unset="all", metavar="SQL")]
    """Which of them, as SQL over their attributes, e.g. "SITETYPE in ('B','C')"."""
    by: Annotated[str | None, Setting(WHAT, unset="none", check=check_local_file, metavar="FILE.tif")]
    """CORINE raster: a second table says how much of each site's lift lies on which land cover."""
    pages: Annotated[str | None, Setting(WHAT, unset="none", check=check_folder, metavar="FOLDER")]
    """Folder for a page per site, with its picture and its numbers over time, and an index of them."""
    output: Annotated[str | None, Setting(FIRST, unset="none", check=check_table, metavar="FILE")]
    """File for the table: its name ends in .parquet (GeoParquet), .gpkg or .csv (without outlines)."""
