"""List the scenes that a map would be made of, and store what an area needs of them for work without a network.

    spacex scenes --bbox 24.0 67.9 24.4 68.05 --datetime 2020-07-01/2020-08-30 --output scenes.parquet

    spacex scenes --bbox 24.0 67.9 24.2 68.0 --datetime 2020-07 --cutout lapland

A list repeats a map years later, and needs no search on a cluster: `spacex map --items scenes.parquet`. A cutout is a
folder of Cloud-Optimised GeoTIFFs with such a list: `spacex map --items lapland/items.json` makes the same map from it.
Its size is told before anything is fetched; what is there is not fetched again.

Exit codes: 0 done; 1 something unexpected; 2 the request is wrong, nothing was written; 3 files of some scenes could
not be read (listed, with reasons); 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from spacex.api.map_settings import AreaSettings, ListSettings
from spacex.commands import console, execution
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command, option_words


def scenes(asked: ListSettings) -> None:
    """Print the scenes, and write what was asked for."""
    from spacex.api.scenes import chosen_intervals, map_area

    intervals, area = chosen_intervals(asked, asked["datetime"]), map_area(asked, asked["bbox"])

    from rich.filesize import decimal

    from spacex.api.listing import list_scenes

    listed = list_scenes(asked, area, intervals)
    console.show_scenes(listed.rows(), listed.plan.left_out)
    if asked["output"] is not None:
        listed.write(asked["output"])
        print(f"list: {asked['output']}")
    if asked["cutout"] is None:
        return
    folder = asked["cutout"]
    cutout = execution.run_interruptibly(lambda: listed.cut(folder, console.echo), safe="what is stored is")
    for name, reason in cutout.failed.items():
        console.echo(f"given up: {name}: {reason}")
    if cutout.failed:
        console.echo(f"To try them again:\n  {console.rerun_command()}")
        raise typer.Exit(execution.INCOMPLETE)
    console.echo(f"{decimal(cutout.stored)} stored in {folder}")
    # the list says the catalogue, and needs no search
    words = option_words(AreaSettings, asked, ("items", "catalogue", "stac_url", "collection"))
    words = ["map", "--local", "--items", str(Path(folder) / "items.json"), *words, "--output", "map.zarr"]
    console.echo(f"next: {console.executable()} {shlex.join(words)}")
    print(f"list: {Path(folder) / 'items.json'}")


app = make_app(make_command(ListSettings, scenes), __doc__)
