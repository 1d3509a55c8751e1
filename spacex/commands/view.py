"""Look at a cube in the browser: writes a static page beside it, and serves both to this machine.

The page draws the bare Zarr: every map with its colours, units and range, the picture, time steps, values under the
pointer, the tiles with how each was made. Put the cube and the page's folder side by side on any static host or
object store, and it works there too.

Examples:
    spacex view lapland.zarr

    spacex view s3://bucket/finland.zarr --write-only

Exit code 2: there is no cube, or its page cannot be written or served. Ctrl-C ends it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from spacex.commands.app import make_app
from spacex.commands.validation import check_folder, check_there


def view(
    cube: Annotated[str, typer.Argument(help="The cube: a path or any fsspec URI.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 8765,
    browser: Annotated[bool, typer.Option("--browser", help="Also open the page in the browser.")] = False,
    write_only: Annotated[bool, typer.Option("--write-only", help="Write the page and serve nothing.")] = False,
) -> None:
    """Write the page beside a cube, and serve both."""
    check_there("the cube", cube)
    check_folder("the page beside the cube", cube)

    from spacex.viewer.serve import view as view_cube

    folder = view_cube(cube, port, open_browser=browser, write_only=write_only, on_ready=_say)
    if write_only:
        typer.echo(f"page: {folder}/index.html")


def _say(address: str) -> None:
    typer.echo(f"the map is at {address} until Ctrl-C")


app = make_app(view, __doc__)
