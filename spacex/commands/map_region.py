"""Map a region: from a bounding box or an outline to a Zarr cube of naturalness and its attribution.

On one machine, without Ray:

    spacex map --local --bbox 24.00 67.90 24.40 68.05 --datetime 2020-07-01/2020-08-30 --output lapland.zarr

On a cluster (the same command, submitted; progress is logged, Ctrl-C and `ray job stop` are safe):

    ray job submit --working-dir . -- python jobs/map_region.py --area finland --datetime 2020-07-01/2020-08-30 --output s3://bucket/finland.zarr

Repeating a command resumes it: finished tiles are never computed again. With --grow, another --datetime, --bbox or
--area adds to the cube that is there.

Exit codes: 0 every tile is done or has no data; 1 something unexpected, a log holds the traceback; 2 the request is
wrong, nothing was written; 3 some tiles were given up, or report or picture could not be written (listed, with reasons); 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spacex.api.declaration import RUNS, WHAT, Setting
from spacex.api.map_settings import MapSettings
from spacex.api.validation import check_file
from spacex.commands import console, execution
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command

if TYPE_CHECKING:
    from spacex.api.mapping import PlannedMap


class MapOptions(MapSettings, execution.ExecutionOptions, total=False):
    """Options of `spacex map`."""

    tiles: Annotated[str | None, Setting(WHAT, metavar="FILE.geojson", check=check_file)]
    """Also write the tiles and their states there."""
    calibrate: Annotated[int, Setting(RUNS, 0, least=0, most=10000, metavar="N")]
    """Map N tiles of the region into a temporary cube first, here, and say from their times how many hours --workers
    will need."""


def map_region(asked: MapOptions) -> None:
    """Plan a map, make it, and print where everything is."""
    from spacex.api.scenes import chosen_intervals, map_area

    # What can be refused without torch, Ray, rasterio or Zarr is refused before they are loaded.
    execution.check_execution_options(asked, asked["calibrate"])
    intervals = chosen_intervals(asked, asked["datetime"])
    area = map_area(asked, asked["bbox"])
    execution.announce(asked)

    from spacex.api.mapping import decide_precision, plan_map, run_arguments
    from spacex.mapping.estimate import tiles_geojson
    from spacex.storage import run_folder, write_text

    work = plan_map(asked, area, intervals)
    description = _describe(work, asked)
    # from here on the request is known to be right: what is written now belongs to a run, or was asked for with --plan
    if asked["tiles"]:
        write_text(asked["tiles"], json.dumps(tiles_geojson(work.plan.request, work.plan.statuses)))
    if asked["plan"]:
        print(json.dumps(description, indent=1)) if asked["json"] else console.show_map_plan(description, work.output)
        return
    runner = execution.make_runner(asked, asked["gpu"], asked["threads"])
    work = decide_precision(work, asked, runner)
    tiles = description["tiles"]
    console.echo(f"{tiles['new']} new, {tiles['redo']} to redo, {tiles['done']} done tiles -> {work.output}")
    outcome = execution.run_interruptibly(
        lambda: work.run(
            runner,
            on_start=execution.write_plan(f"{run_folder(work.output)}/plan.json", description),
            estimate=description.get("estimate"),
            **run_arguments(asked),
        )
    )
    console.show_map(outcome, work.output, asked["quicklook"])
    if not outcome.complete:
        raise typer.Exit(execution.INCOMPLETE)


def _describe(work: PlannedMap, asked: MapOptions) -> dict[str, Any]:
    """The plan as plain numbers: how much there is to do and, if asked, how many operations and hours it takes."""
    from spacex.mapping.estimate import calibrate, estimate, operations_per_chip

    description = work.describe()
    if asked["plan"]:  # to count operations takes three seconds, which a map need not wait for
        per_chip = operations_per_chip(work.checkpoint, work.plan.request)
        description["operations"] = description["chips"] * per_chip
    if asked["calibrate"]:
        console.echo(f"calibrating on {asked['calibrate']} tiles")
        measured = calibrate(work.plan, asked["calibrate"], asked["threads"])
        description["estimate"] = estimate(work.plan, measured, asked["workers"] or 1)
    return description


app = make_app(make_command(MapOptions, map_region), __doc__)
