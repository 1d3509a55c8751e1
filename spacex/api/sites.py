"""Tables of sites from Python: `sites` says of every polygon what a cube holds there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from spacex.api.declaration import complete, documented
from spacex.api.site_settings import SiteSettings
from spacex.cube.site_files import check_columns, write_sites
from spacex.cube.site_pages import write_pages
from spacex.cube.sites import COLUMNS, Sites, tabulate
from spacex.vectors import read_zones


@documented(SiteSettings)
def sites(
    cube: str, /, *, report: Callable[[int], None] = lambda blocks: None, **settings: Unpack[SiteSettings]
) -> Sites:
    """Make a table of sites: for every polygon and time step what is mapped, how natural it is, how sure that is.

    Args:
        {settings}
        report: called with the number of blocks of the cube that are done, after each.

    Returns:
        The `table`, a GeoDataFrame with a row per polygon and time step, and the one by `land_cover`. Polygons that
        overlap, lie outside, are invalid or smaller than a pixel have a row each, with the reason in a column.

    Raises:
        CubeError: if there is no such cube.
        DataError: if the zones or the land cover cannot be read.
        RequestError: if the zones have more attributes than the output can hold.

    >>> import geopandas, shapely, spacex
    >>> outline = shapely.box(24.005, 67.952, 24.015, 67.956)
    >>> zones = geopandas.GeoDataFrame({"name": ["mire"]}, geometry=[outline], crs=4326)
    >>> spacex.sites("lapland.zarr", zones=zones).table.mapped_km2.round(1).tolist()
    [0.2]
    """
    asked = complete(SiteSettings, settings, cube=cube)
    zones = read_zones(asked["zones"], asked["where"])
    check_columns(asked["output"], zones, COLUMNS)
    made = tabulate(asked["cube"], zones, asked["by"], report)
    if asked["output"] is not None:
        write_sites(made, asked["output"])
    if asked["pages"] is not None:
        write_pages(asked["cube"], made, asked["pages"])
    return made
