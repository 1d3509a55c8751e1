"""Map a region: from a bounding box or an outline to a Zarr cube of naturalness and its attribution.

On one machine, without Ray:

    spacex map --local --bbox 24.00 67.90 24.40 68.05 --datetime 2020-07-01/2020-08-30 --output lapland.zarr

On a cluster (the same command, submitted; progress is logged, Ctrl-C and `ray job stop` are safe):

    ray job submit --working-dir . -- python jobs/map_region.py --area finland --datetime 2020-07-01/2020-08-30 --output s3://bucket/finland.zarr

Repeating a command resumes it: finished tiles are never computed again. With --grow, another --datetime, --bbox or
--area adds to the cube that is there.

Exit codes: 0 every tile is done or has no data; 1 something unexpected, a log holds the traceback; 2 the request is
wrong, nothing was written; 3 some tiles were given up (listed, with reasons); 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from spacex.attribution.names import MAP_NAMES
from spacex.commands import console as console
from spacex.commands import map_options as options
from spacex.commands.app import make_app
from spacex.commands.execution import INCOMPLETE, check_ways, in_order, runner_of, show_json_logs
from spacex.commands.options import Checkpoint, Gpu, Trust
from spacex.commands.training import check_gpu
from spacex.commands.validation import check_checkpoint, check_file, check_folder, parse_names
from spacex.errors import RequestError
from spacex.grid import check_crs, snap_metres
from spacex.intervals import parse_intervals

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from spacex.api.mapping import PlannedMap
    from spacex.mapping.plan import Plan
    from spacex.mapping.run import Outcome, Runner


def map_region(
    output: options.Output,
    bbox: options.Bbox = None,
    area: options.Area = None,
    datetime: options.Days = None,
    local: options.Local = False,
    plan: options.PlanOnly = False,
    grow: options.Grow = False,
    quicklook: options.Quicklook = None,
    crs: options.Crs = "EPSG:3035",
    resolution: options.Resolution = 10.0,
    catalogue: options.Catalogue = "earth-search",
    stac_url: options.StacUrl = None,
    collection: options.Collection = None,
    max_cloud_cover: options.MaxCloudCover = 60.0,
    min_sun: options.MinSun = 20.0,
    checkpoint: Checkpoint = None,
    maps: options.Maps = options.USUAL_MAPS,
    license: options.License = "CC-BY-4.0",
    tiles: options.TilesFile = None,
    clear_classes: options.ClearClasses = "2,4,5,6,7",
    snow: options.Snow = False,
    min_observations: options.MinObservations = 1,
    enough: options.Enough = 8,
    stride: options.Stride = None,
    tile_size: options.TileSize = 1024,
    precision: options.Precision = "auto",
    workers: options.Workers = None,
    gpu: Gpu = False,
    threads: options.Threads = None,
    time_limit: options.TimeLimit = 900.0,
    calibrate: options.Calibrate = 0,
    verify: options.Verify = False,
    trust: Trust = None,
    as_json: options.Json = False,
    json_logs: options.JsonLogs = False,
) -> None:
    """Check the request, plan it, map it, and say where everything is."""
    demo = catalogue == "demo" and stac_url is None
    place, days = _place_and_days(bbox, area, datetime, demo)
    wanted = parse_names("--maps", maps, (*MAP_NAMES, options.SCORE))
    check_crs(crs)
    snap_metres(resolution)
    check_checkpoint(checkpoint)
    _check_places(output, tiles, quicklook)
    check_ways(local and not calibrate, workers, plan, as_json)
    check_gpu(gpu)
    if json_logs:
        show_json_logs()

    composite = options.composite_settings(clear_classes, snow, min_observations, enough, min_sun)

    from spacex.api.mapping import plan as planned

    work = planned(
        area=place,
        datetime=["/".join(step) for step in days],
        output=output,
        catalogue=catalogue,
        checkpoint=checkpoint,
        trust=trust or [],
        gpu=gpu,
        grow=grow,
        stac_url=stac_url,
        collection=collection,
        crs=crs,
        resolution=resolution,
        tile_size=tile_size,
        maps=[name for name in wanted if name != options.SCORE],
        stride=stride,
        precision=precision,
        max_cloud_cover=max_cloud_cover,
        composite=composite,
    )
    described = _described(work, calibrate, workers, threads, counted=plan)
    if tiles:
        _write_tiles(tiles, work.plan)
    if plan:
        print(json.dumps(described, indent=1)) if as_json else console.show_plan(described, output)
        return
    runner = runner_of(local, workers, gpu, threads)
    how = {"time_limit": time_limit, "threads": threads, "quicklook": quicklook}
    how |= {"license": license, "verify": verify}
    outcome = _carry_out(work, described, runner, **how)
    console.show_outcome(outcome, output, quicklook)
    if not outcome.complete:
        raise typer.Exit(INCOMPLETE)


def _place_and_days(
    bbox: options.Box | None, area: str | None, datetime: list[str] | None, demo: bool
) -> tuple[BaseGeometry, tuple[tuple[str, str], ...]]:
    """The area and the time steps asked for, or those of the embedded archive."""
    from spacex.areas import box_area, load_area
    from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL

    days = parse_intervals(datetime or ([DEMO_INTERVAL] if demo else []))
    if demo and bbox is None and area is None:
        bbox = DEMO_BBOX
    if (bbox is None) == (area is None):
        raise RequestError("which region", got="both" if bbox else "neither", expected="either --bbox or --area")
    return box_area(*bbox) if bbox is not None else load_area(str(area)), days


def _check_places(output: str, tiles: str | None, quicklook: str | None) -> None:
    check_folder("--output", output)
    for option, file in (("--tiles", tiles), ("--quicklook", quicklook)):
        if file is not None:
            check_file(option, file)


def _described(
    work: PlannedMap, calibrate: int, workers: int | None, threads: int | None, counted: bool
) -> dict[str, Any]:
    """The plan as plain numbers: how much there is to do and, if asked, how many operations and hours it takes."""
    from spacex.mapping.estimate import calibrate as calibrated
    from spacex.mapping.estimate import estimate, operations_per_chip

    described, networks = work.describe(), work.checkpoint
    if counted:  # which takes three seconds, that a map need not wait for
        described["operations"] = described["chips"] * operations_per_chip(networks, work.plan.request)
    if calibrate:
        console.say(f"calibrating on {calibrate} tiles")
        described["estimate"] = estimate(work.plan, calibrated(work.plan, networks, calibrate, threads), workers or 1)
    return described


def _write_tiles(uri: str, work: Plan) -> None:
    from spacex.mapping.estimate import tiles_geojson
    from spacex.storage import write_text

    write_text(uri, json.dumps(tiles_geojson(work.request, work.statuses)))


def _carry_out(
    work: PlannedMap,
    described: dict[str, Any],
    runner: Runner,
    **how: Any,
) -> Outcome:
    """Run; `how` is for `PlannedMap.run`."""
    from spacex.storage import run_folder, write_text

    tiles, plan_file = described["tiles"], f"{run_folder(work.output)}/plan.json"
    console.say(f"{tiles['new']} new, {tiles['redo']} to redo, {tiles['done']} done tiles -> {work.output}")
    return in_order(
        lambda: work.run(
            runner,
            on_start=lambda log: write_text(plan_file, json.dumps(described, indent=1)),
            estimate=described.get("estimate"),
            **how,
        )
    )


app = make_app(map_region, __doc__)
