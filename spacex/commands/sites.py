"""Say of every polygon of a file what a cube holds there: a table with a row per site and time step.

Area mapped, without data, outside, and unlike the training chips; mean, median and share of naturalness; lift per km²;
observations and days of the scenes. With --by also how much of each site's lift lies on which land cover. Pixels at a
site's edge count by the exact share that lies within it.

Examples:
    spacex sites lapland.zarr --zones natura.gpkg --output sites.gpkg

    spacex sites finland.zarr --zones natura.gpkg --by U2018_CLC2018.tif --output sites.parquet --pages pages/

Every polygon has its row: what is outside, invalid, smaller than a pixel or not yet mapped says so in `state` and
`reason`. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from spacex.api.declaration import pick
from spacex.api.site_settings import SiteSettings
from spacex.commands.app import make_app
from spacex.commands.console import echo, show_sites
from spacex.commands.parameters import make_command


def sites(asked: SiteSettings) -> None:
    """Make the table, write it, and say what came out."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from spacex.api.sites import sites
    from spacex.cube.site_files import write_sites

    columns = (TextColumn("{task.completed} {task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    # where nobody looks on, not even the empty line of a bar that has gone: a refusal is one line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("blocks of the cube", total=None)
        made = sites(asked["cube"], report=lambda done: bar.update(task, completed=done),
                     **pick(asked, ("zones", "where", "by")))  # type: ignore[arg-type]  # fmt: skip
        files = [] if asked["output"] is None else write_sites(made, asked["output"])
        if asked["pages"] is not None:
            from spacex.cube.site_pages import write_pages

            task = bar.add_task("pages", total=made.table["zone"].nunique())
            pages = write_pages(asked["cube"], made, asked["pages"], lambda done: bar.update(task, completed=done))
            files.append(pages[0])
    show_sites(made)
    if asked["output"] is None:
        echo("--output FILE.parquet, .gpkg or .csv keeps the table")
    for file in files:
        print(file)


app = make_app(make_command(SiteSettings, sites), __doc__)
