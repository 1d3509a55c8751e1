"""Look at a cube in the browser: writes a static page beside it, and serves both to this machine.

The page draws the bare Zarr: every map but observations with its colours, units and range, the picture, time steps,
values under the pointer, the tiles with how each was made. Put the cube and the page's folder side by side on any
static host or object store, and it works there too.

Examples:
    spacex view lapland.zarr

    spacex view s3://bucket/finland.zarr --write-only

    spacex view lapland.zarr --zones sites.gpkg

Exit code 2: there is no cube, or its page cannot be written or served. Ctrl-C ends it.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

from spacex.api.declaration import REQUIRED, Setting
from spacex.api.validation import check_exists, check_folder, check_local_file
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


class ViewOptions(TypedDict, total=False):
    """Options of `spacex view`."""

    cube: Annotated[str, Setting("", REQUIRED, argument=True, check=check_exists)]
    """The cube: a path or any fsspec URI."""
    zones: Annotated[str | None, Setting("", unset="none", check=check_local_file, metavar="FILE")]
    """Table of `spacex sites` (.gpkg or .parquet): sites coloured by naturalness; a click tells their numbers."""
    port: Annotated[int, Setting("", 8765, least=0, most=65535)]
    """On 127.0.0.1; 0 takes a free one."""
    browser: Annotated[bool, Setting("", False)]
    """Also open the page in the browser."""
    write_only: Annotated[bool, Setting("", False)]
    """Write the page and serve nothing."""


def view(asked: ViewOptions) -> None:
    """Write the page beside a cube, and serve both."""
    check_folder("the page beside the cube", asked["cube"])

    from spacex.viewer.serve import view

    folder = view(
        asked["cube"],
        asked["port"],
        zones=asked["zones"],
        open_browser=asked["browser"],
        write_only=asked["write_only"],
        on_ready=lambda address: print(f"the map is at {address} until Ctrl-C", flush=True),
    )
    if asked["write_only"]:
        print(f"page: {folder}/index.html")


app = make_app(make_command(ViewOptions, view), __doc__)
