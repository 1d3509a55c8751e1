"""Export a cube as Cloud-Optimised GeoTIFFs: one file per map and time step, for any GIS.

Examples:
    spacex export lapland.zarr tif/

    spacex export finland.zarr tif/ --variables naturalness --bbox 24.0 67.9 24.4 68.05

    spacex export finland.zarr s3://bucket/tif --area reserve.geojson --datetime 2020-07-01

Values stay packed as they are stored; scale, offset, unit, no-data value and statistics are in the file. A country
needs no more memory than a village. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from typing import Annotated

import typer

from spacex.commands import options
from spacex.commands.app import make_app
from spacex.commands.map_options import Area, Box
from spacex.commands.validation import check_folder, check_there, cube_name


def export(
    cube: Annotated[str, typer.Argument(help="The cube: a path or any fsspec URI.", callback=cube_name)],
    folder: Annotated[str, typer.Argument(help="Gets the files; a path or any fsspec URI.")],
    bbox: Annotated[
        Box | None,
        typer.Option(
            metavar="W S E N", help="Only the pixels around this box in degrees.", rich_help_panel=options.WHERE
        ),
    ] = None,
    area: Area = None,
    datetime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIRST", help="First day of a time step; may be repeated.", show_default="all",
            rich_help_panel=options.WHEN,
        ),
    ] = None,
    variables: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas, e.g. naturalness,lift.", show_default="all", rich_help_panel=options.WHAT
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write the files, and print their names."""
    check_there("the cube", cube)
    check_folder("the folder", folder)

    from spacex.cube.export import export as exported

    names = [name.strip() for name in variables.split(",")] if variables else None
    exported(cube, folder, variables=names, times=datetime, bbox=bbox, area=area, report=print)


app = make_app(export, __doc__)
