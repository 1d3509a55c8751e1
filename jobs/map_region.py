"""Map a region: from a bounding box or an outline to a Zarr cube of naturalness and its attribution.

On one machine, without Ray:

    python jobs/map_region.py --local --bbox 24.00 67.90 24.40 68.05 --datetime 2020-07-01/2020-08-30 --output lapland.zarr

On a cluster (the same command, submitted; progress is logged, Ctrl-C and `ray job stop` are safe):

    ray job submit --working-dir . -- python jobs/map_region.py --area finland --datetime 2020-07-01/2020-08-30 --output s3://bucket/finland.zarr

Repeating a command resumes it: finished tiles are never computed again.

Exit codes: 0 every tile is done or has no data; 2 the request is wrong, nothing was written; 3 some tiles were
given up (listed, with reasons); 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer
from _cli import make_app, run
from rich.console import Console
from shapely.geometry import mapping

from spacex import load_checkpoint
from spacex.attribution.patterns import MAP_NAMES
from spacex.errors import RequestError
from spacex.mapping.areas import box_area, load_area
from spacex.mapping.estimate import calibrate as calibrated
from spacex.mapping.estimate import estimate, operations_per_chip, tiles_geojson
from spacex.mapping.logs import json_logs as show_json_logs
from spacex.mapping.progress import write_text
from spacex.mapping.request import chip_settings, parse_interval, parse_request
from spacex.mapping.run import Outcome, carry_out, prepare
from spacex.sentinel2.catalogue import CATALOGUES
from spacex.sentinel2.composite import CompositeSettings
from spacex.world.archive import DEMO_BBOX, DEMO_INTERVAL, demo_archive, serve

INCOMPLETE = 3
app = make_app(__doc__ or "")
console = Console(stderr=True)

Box = tuple[float, float, float, float]


@app.command(help=__doc__)
def map_region(  # noqa: D103 - the module says it
    output: Annotated[str, typer.Option(help="Where the cube goes: a path or any fsspec URI (s3://, gs://) ending in .zarr.")],
    bbox: Annotated[Box | None, typer.Option(metavar="W S E N", help="Bounding box in degrees. The demo catalogue has a default.")] = None,
    area: Annotated[str | None, typer.Option(help="Instead of --bbox: a GeoJSON file of polygons in degrees, or one of: fennoscandia, finland, norway, sweden.")] = None,
    datetime: Annotated[list[str] | None, typer.Option(metavar="FIRST/LAST", help="Interval of days, e.g. 2020-07-01/2020-08-30. Repeat it for further steps of the cube's time axis. The demo catalogue has a default.")] = None,
    catalogue: Annotated[str, typer.Option(help=f"Where scenes come from: {', '.join(CATALOGUES)}. demo is the synthetic landscape that ships with SpacEX and needs no network.")] = "earth-search",
    stac_url: Annotated[str | None, typer.Option(help="Another endpoint that speaks like --catalogue.")] = None,
    collection: Annotated[str | None, typer.Option(help="Another collection of that endpoint.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Folder or URI of a trained checkpoint. Default: the weights that ship, which were trained on the synthetic landscape and say nothing reliable about real land.")] = None,
    maps: Annotated[str, typer.Option(help=f"Attribution maps, comma separated: {', '.join(MAP_NAMES)}.")] = ",".join(MAP_NAMES),
    crs: Annotated[str, typer.Option(help="CRS of the cube, projected in metres.")] = "EPSG:3035",
    resolution: Annotated[float, typer.Option(help="Metres per pixel. Networks are trained at 10 m.")] = 10.0,
    tile_size: Annotated[int, typer.Option(help="Pixels a side of the unit of work, a multiple of 512. Larger tiles read less twice and need more memory.")] = 1024,
    stride: Annotated[int | None, typer.Option(help="Pixels between chips, a multiple of 4. Default: from the checkpoint (192 without, 128 with instance norm). Smaller is smoother and slower.")] = None,
    max_cloud_cover: Annotated[float, typer.Option(help="Percent; cloudier scenes are not used. In the others clouds are masked by pixel.")] = 60.0,
    min_observations: Annotated[int, typer.Option(help="Pixels seen clear less often have no data.")] = 1,
    clear_classes: Annotated[str, typer.Option(help="Scene classification (SCL) values that count as clear, comma separated: 2 dark area, 4 vegetation, 5 bare, 6 water, 7 unclassified.")] = "2,4,5,6,7",
    snow: Annotated[bool, typer.Option(help="Whether snow counts as a clear observation.")] = False,
    min_sun: Annotated[float, typer.Option(help="Degrees; scenes with a lower sun are not used.")] = 20.0,
    local: Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")] = False,
    workers: Annotated[int | None, typer.Option(help="Ray actors. Default: as many as the cluster's CPUs, or GPUs with --gpu, allow.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Networks run on GPUs, one per worker.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each worker's networks. Default: all with --local, else 1.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done and write nothing: tiles, scenes, chips, bytes, operations. No pixel is read.")] = False,
    calibrate: Annotated[int, typer.Option(metavar="N", min=0, help="Map N tiles of the region into a temporary cube first, here, and say from their times how many hours --workers will need.")] = 0,
    tiles_file: Annotated[str | None, typer.Option("--tiles", metavar="FILE.geojson", help="Also write the tiles and their states there.")] = None,
    quicklook: Annotated[str | None, typer.Option(metavar="FILE.png", help="Draw composite, attribution and naturalness side by side.")] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Also log one line of JSON per tile and try: tile, item, attempt, seconds, worker.")] = False,
    time_limit: Annotated[float, typer.Option(help="Seconds the reading of one tile may take before it counts as failed.")] = 900.0,
) -> None:  # fmt: skip
    if json_logs:
        show_json_logs()
    with ExitStack() as stack:
        if catalogue == "demo" and stac_url is None:
            stac_url, datetime = _serve_demo(stack, datetime)
            bbox = DEMO_BBOX if bbox is None and area is None else bbox
        networks = load_checkpoint(checkpoint)
        request = parse_request(
            area=mapping(_area(bbox, area)),
            intervals=[parse_interval(text) for text in _required(datetime)],
            catalogue=catalogue,
            stac_url=stac_url,
            collection=collection,
            crs=crs,
            resolution=resolution,
            tile_size=tile_size,
            max_cloud_cover=max_cloud_cover,
            composite=partial(
                CompositeSettings,
                clear_classes=clear_classes.split(","),
                min_observations=min_observations,
                snow_is_clear=snow,
                min_sun_elevation=min_sun,
            ),
            chips=chip_settings(networks.card, tuple(name.strip() for name in maps.split(",") if name.strip()), stride),
        )
        work, fingerprint = prepare(request, output, networks)
        described = work.describe(len(networks.card.bands))
        hours = _hours(work, networks, calibrate, workers, threads) if calibrate else None
        described |= {"estimate": hours} if hours else {}
        if tiles_file:
            write_text(tiles_file, json.dumps(tiles_geojson(request, work.statuses)))
        if plan:
            operations = described["chips"] * operations_per_chip(networks, request)
            print(json.dumps({**described, "operations": operations}, indent=1))
            return
        runner = _runner(local, workers, gpu, threads)
        tiles = described["tiles"]
        console.print(f"{tiles['new']} new, {tiles['redo']} to redo, {tiles['done']} done tiles -> {output}", highlight=False, soft_wrap=True)
        try:
            with _stopped_by_sigterm():
                outcome = carry_out(
                    work, fingerprint, output, networks, runner, estimate=hours, described=described, time_limit=time_limit, threads=threads
                )
        except KeyboardInterrupt as stop:
            console.print(f"stopped; finished tiles are safe. The same command resumes:\n  {_again()}", highlight=False, soft_wrap=True)
            raise typer.Exit(143 if stop.args == (signal.SIGTERM,) else 130) from stop
    _say(outcome, output, quicklook)


def _serve_demo(stack: ExitStack, datetime: list[str] | None) -> tuple[str, list[str]]:
    url = stack.enter_context(serve(demo_archive()))
    return url, datetime or [DEMO_INTERVAL]


def _hours(work, networks, tiles, workers, threads):  # type: ignore[no-untyped-def]
    console.print(f"calibrating on {tiles} tiles", highlight=False)
    return estimate(work, calibrated(work, networks, tiles, threads), workers or 1)


def _area(bbox: Box | None, area: str | None):  # type: ignore[no-untyped-def]
    if (bbox is None) == (area is None):
        raise RequestError("which region", got="both" if bbox else "neither", expected="either --bbox or --area")
    return box_area(*bbox) if bbox is not None else load_area(str(area))


def _required(datetime: list[str] | None) -> list[str]:
    if not datetime:
        raise RequestError("which days", got="no --datetime", expected="e.g. --datetime 2020-07-01/2020-08-30")
    return datetime


def _runner(local: bool, workers: int | None, gpu: bool, threads: int | None):  # type: ignore[no-untyped-def]
    if local:
        from spacex.runners.local import run_local

        return run_local
    from spacex.runners.ray_map import connect, run_ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    connect()
    return partial(run_ray, workers=workers, gpus=1.0 if gpu else 0.0, cpus=float(threads or 1))


class _stopped_by_sigterm:
    """SIGTERM (of `ray job stop`, Slurm, Kubernetes) ends the run like Ctrl-C. Entered after Ray has started."""

    def __enter__(self) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt(signal.SIGTERM)

        self._before = signal.signal(signal.SIGTERM, stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _again() -> str:
    return " ".join(["python", *map(shlex.quote, sys.argv)])


def _say(outcome: Outcome, output: str, quicklook: str | None) -> None:
    if quicklook:
        from spacex.mapping.quicklook import draw

        draw(output, quicklook)
        console.print(f"picture: {quicklook}", highlight=False, soft_wrap=True)
    for task, reason in outcome.quarantined.items():
        console.print(f"given up: tile {task}: {reason}", highlight=False, markup=False, soft_wrap=True)
    rate = outcome.chips / outcome.seconds if outcome.seconds else 0.0
    where = output if "://" in output else os.path.abspath(output)
    console.print(f"{outcome.chips} chips in {outcome.seconds:.1f} s ({rate:.2f} chips/s)", highlight=False, soft_wrap=True)
    if not outcome.complete:
        console.print(f"{len(outcome.quarantined)} tiles were given up. To try them again:\n  {_again()}", highlight=False, soft_wrap=True)
        raise typer.Exit(INCOMPLETE)
    print(f"cube: {where}")


if __name__ == "__main__":
    run(app)
