"""Make labelled chips from any land: from polygons of what is natural and what is not to a data set that trains.

    spacex make-dataset --natural wdpa.gpkg --natural-where "IUCN_CAT in ('Ia','Ib','II')" --land-cover CLC2018.tif --area finland --datetime 2020-07-01/2020-08-30 --output /data/finland

makes a folder in AnthroProtect's layout, which every other command takes as --data. Pixels are read and composited by the
code that maps; chips are drawn from the files alone, balanced, by --seed. `--catalogue demo` needs no further option.

Repeating a command resumes it. On a cluster the same command is submitted, with --output (and --land-cover) on a disk
that every worker sees.

Exit codes: 0 every chip is made or had too little data; 1 something unexpected, a log holds the traceback; 2 the request is
wrong, nothing was written; 3 some tiles were given up, or no chip had enough data; 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from spacex.commands import console as console
from spacex.commands import dataset_options as own
from spacex.commands import map_options as options
from spacex.commands.app import make_app
from spacex.commands.execution import INCOMPLETE, check_ways, in_order, runner_of, show_json_logs
from spacex.commands.options import Seed
from spacex.commands.validation import check_folder, check_there, parse_names
from spacex.errors import RequestError
from spacex.grid import check_crs, snap_metres
from spacex.intervals import parse_interval
from spacex.storage import local_path

if TYPE_CHECKING:
    from spacex.api.dataset import PlannedDataset


def make_dataset(
    output: own.Output,
    natural: own.Natural = None,
    natural_where: own.NaturalWhere = None,
    anthropogenic: own.Anthropogenic = None,
    anthropogenic_where: own.AnthropogenicWhere = None,
    land_cover: own.LandCover = None,
    datetime: own.Days = None,
    local: options.Local = False,
    plan: options.PlanOnly = False,
    bbox: own.Bbox = None,
    area: options.Area = None,
    crs: options.Crs = "EPSG:3035",
    resolution: options.Resolution = 10.0,
    catalogue: options.Catalogue = "earth-search",
    stac_url: options.StacUrl = None,
    collection: options.Collection = None,
    max_cloud_cover: options.MaxCloudCover = 60.0,
    min_sun: options.MinSun = 20.0,
    count: own.Count = 24_000,
    bands: own.Bands = "all",
    share: own.Share = 0.9,
    distance: own.Distance = None,
    limit_per_polygon: own.LimitPerPolygon = 100,
    anthropogenic_classes: own.Classes = None,
    seed: Seed = 0,
    min_valid: own.MinValid = 0.9,
    clear_classes: options.ClearClasses = "2,4,5,6,7",
    snow: options.Snow = False,
    min_observations: options.MinObservations = 1,
    enough: options.Enough = 8,
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 900.0,
    as_json: options.Json = False,
    json_logs: options.JsonLogs = False,
) -> None:
    """Check the request, draw places, make the chips, and say where everything is."""
    demo = catalogue == "demo" and stac_url is None
    _check_words(natural, datetime, demo)
    from spacex.settings import SENTINEL2_BANDS  # with pydantic, which --help need not wait for

    wanted = SENTINEL2_BANDS if bands == "all" else parse_names("--bands", bands, SENTINEL2_BANDS)
    check_crs(crs)
    snap_metres(resolution)
    for option, file in (("--natural", natural), ("--anthropogenic", anthropogenic), ("--land-cover", land_cover)):
        _check_file(option, file)
    _check_output(output)
    check_ways(local, workers, plan, as_json)
    if json_logs:
        show_json_logs()

    composite = options.composite_settings(clear_classes, snow, min_observations, enough, min_sun)

    from spacex.api.dataset import plan_dataset

    work = plan_dataset(
        natural,
        anthropogenic,
        output=output,
        natural_where=natural_where,
        anthropogenic_where=anthropogenic_where,
        land_cover=land_cover,
        anthropogenic_classes=None if anthropogenic_classes is None else anthropogenic_classes.split(","),
        bbox=bbox,
        area=area,
        datetime=datetime,
        catalogue=catalogue,
        bands=wanted,
        share=share,
        distance=distance,
        count=count,
        limit_per_polygon=limit_per_polygon,
        seed=seed,
        min_valid=min_valid,
        stac_url=stac_url,
        collection=collection,
        crs=crs,
        resolution=resolution,
        max_cloud_cover=max_cloud_cover,
        composite=composite,
    )
    described = work.describe()
    if plan:
        print(json.dumps(described, indent=1)) if as_json else console.show_set_plan(described, output)
        return
    _make(work, described, local, workers, time_limit)


def _check_words(natural: str | None, datetime: str | None, demo: bool) -> None:
    if datetime is not None:
        parse_interval(datetime)
    elif not demo:
        raise RequestError("which days", got="no --datetime", expected="e.g. --datetime 2020-07-01/2020-08-30")
    if natural is None and not demo:
        raise RequestError("nothing states what is natural", do="Give --natural, a file of polygons.")


def _check_file(option: str, file: str | None) -> None:
    if file is not None and local_path(file) is None:
        raise RequestError(f"{option} must be a file of this machine", got=file, do="Copy it here first.")
    check_there(option, file)


def _check_output(output: str) -> None:
    if local_path(output) is None:
        raise RequestError("--output must be a folder on a disk, for training reads it from there", got=output)
    if output.rstrip("/").endswith(".zarr"):
        raise RequestError("--output is the name of a cube", got=output, expected="a folder for the chips")
    check_folder("--output", output)


def _make(work: PlannedDataset, described: dict[str, Any], local: bool, workers: int | None, time_limit: float) -> None:
    """Run, and say what came out."""
    from spacex.storage import write_text

    runner, tiles, plan_file = runner_of(local, workers), described["tiles"], str(work.folder.run / "plan.json")
    console.say(f"{described['chips_to_make']} chips to make in {tiles['new']} new tiles, {tiles['redo']} to redo, "
                f"{tiles['done']} done -> {work.folder.root}")  # fmt: skip
    made = in_order(
        lambda: work.run(
            runner,
            on_start=lambda log: write_text(plan_file, json.dumps(described, indent=1)),
            time_limit=time_limit,
        )
    )
    console.show_set(made, work.folder)
    if not made.complete or not made.chips:
        raise typer.Exit(INCOMPLETE)


app = make_app(make_dataset, __doc__)
