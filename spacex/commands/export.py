"""Export a cube as Cloud-Optimised GeoTIFFs: one file per map and time step, for any GIS.

Examples:
    spacex export lapland.zarr tif/

    spacex export finland.zarr tif/ --variables naturalness --bbox 24.0 67.9 24.4 68.05

    spacex export finland.zarr s3://bucket/tif --area reserve.geojson --datetime 2020-07-01

Values stay packed as they are stored; scale, offset, unit, no-data value and statistics are in the file. A country
needs no more memory than a village. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from spacex.api.declaration import REQUIRED, WHAT, WHEN, WHERE, Setting
from spacex.api.scene_settings import Box
from spacex.api.validation import check_exists, check_folder, split_names
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


class ExportOptions(TypedDict, total=False):
    """Options of `spacex export`."""

    cube: Annotated[str, Setting("", REQUIRED, argument=True, ending=".zarr", check=check_exists)]
    """The cube: a path or any fsspec URI."""
    folder: Annotated[str, Setting("", REQUIRED, argument=True, check=check_folder)]
    """Gets the files; a path or any fsspec URI."""
    bbox: Annotated[Box | None, Setting(WHERE, metavar="W S E N")]
    """Only the pixels around this box in degrees."""
    area: Annotated[str | None, Setting(WHERE)]
    """Instead of --bbox: a file of polygons (GeoJSON in degrees; GeoPackage, Shapefile, GeoParquet), or one of:
    fennoscandia, finland, norway, sweden. In Python also a geometry in EPSG:4326."""
    datetime: Annotated[Sequence[str] | None, Setting(WHEN, unset="all", typed=list[str], metavar="FIRST")]
    """First day of a time step; may be repeated."""
    variables: Annotated[Sequence[str] | None, Setting(WHAT, unset="all", typed=str, parse=split_names)]
    """Names separated by commas, e.g. naturalness,lift."""


def export(asked: ExportOptions) -> None:
    """Write the files, and print their names."""
    from spacex.commands.console import echo
    from spacex.cube.export import export
    from spacex.cube.store import Cube

    cube = Cube(asked["cube"])
    export(
        cube,
        asked["folder"],
        variables=asked["variables"],
        times=asked["datetime"],
        bbox=asked["bbox"],
        area=asked["area"],
        report=print,
    )
    if number := cube.count_unfinished(asked["datetime"]):
        echo(f"{number:,} tiles of the cube are not finished: where they lie, the files have no data")


app = make_app(make_command(ExportOptions, export), __doc__)
