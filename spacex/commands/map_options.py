"""What `spacex map` may be told, group by group as `--help` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from spacex.attribution.names import DEFAULT_MAPS, MAP_NAMES, PRECISIONS
from spacex.commands.options import FIRST, HOW, RUNS, WHAT, WHEN, WHERE
from spacex.commands.validation import cube_name, parse_names, png_name

if TYPE_CHECKING:
    from spacex.sentinel2.scene_request import CompositeSettings

SCORE = "naturalness"
"""The classifier's score, which every cube holds."""

USUAL_MAPS = ",".join(DEFAULT_MAPS)

CLASSES = tuple(str(number) for number in range(1, 12))
"""Values of Sentinel-2's scene classification that can count as clear."""

Box = tuple[float, float, float, float]
Source = Literal["earth-search", "earth-search-c1", "planetary-computer", "cdse", "demo"]

Output = Annotated[
    str,
    typer.Option(
        help="Where the cube goes: a path or any fsspec URI (s3://, gs://) ending in .zarr.",
        callback=cube_name,
        rich_help_panel=FIRST,
    ),
]
Bbox = Annotated[
    Box | None,
    typer.Option(
        metavar="W S E N",
        help="Bounding box in degrees; commas between the numbers are fine. The demo catalogue has a default.",
        rich_help_panel=FIRST,
    ),
]
Area = Annotated[
    str | None,
    typer.Option(
        help="Instead of --bbox: a file of polygons (GeoJSON in degrees; GeoPackage, Shapefile, GeoParquet), or one of: fennoscandia, finland, norway, sweden.",
        rich_help_panel=FIRST,
    ),
]
Days = Annotated[
    list[str] | None,
    typer.Option(
        "--datetime",
        metavar="FIRST/LAST",
        help="Interval of days, e.g. 2020-07-01/2020-08-30, or a month (2020-07) or a year (2020). Repeat it for further steps of the cube's time axis. The demo catalogue has a default.",
        rich_help_panel=FIRST,
    ),
]
Local = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.", rich_help_panel=FIRST)]
PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Say what would be done and write nothing: tiles, scenes, chips, bytes, operations. No pixel is read.",
        rich_help_panel=FIRST,
    ),
]
Grow = Annotated[
    bool,
    typer.Option(
        "--grow",
        help="Let the cube that is there take the further days and land that are asked for; what it holds is kept.",
        rich_help_panel=FIRST,
    ),
]
Quicklook = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.png",
        help="Draw composite, attribution and naturalness side by side.",
        callback=png_name,
        rich_help_panel=FIRST,
    ),
]

Crs = Annotated[str, typer.Option(help="CRS of the cube, projected in metres.", rich_help_panel=WHERE)]
Resolution = Annotated[
    float, typer.Option(help="Metres per pixel, 1 to 1000. Networks are trained at 10 m.", rich_help_panel=WHERE)
]

Catalogue = Annotated[
    Source,
    typer.Option(
        metavar="NAME",
        help=f"Where scenes come from: {', '.join(get_args(Source))}. demo is the synthetic landscape that ships with SpacEX and needs no network.",
        rich_help_panel=WHEN,
    ),
]
StacUrl = Annotated[
    str | None,
    typer.Option(
        help="Another endpoint that speaks like --catalogue.", show_default="the catalogue's", rich_help_panel=WHEN
    ),
]
Collection = Annotated[
    str | None,
    typer.Option(help="Another collection of that endpoint.", show_default="the catalogue's", rich_help_panel=WHEN),
]
MaxCloudCover = Annotated[
    float,
    typer.Option(
        metavar="N",
        help="Percent; cloudier scenes are not used. In the others clouds are masked by pixel.",
        min=0,
        max=100,
        rich_help_panel=WHEN,
    ),
]
MinSun = Annotated[
    float,
    typer.Option(
        metavar="N", help="Degrees; scenes with a lower sun are not used.", min=0, max=90, rich_help_panel=WHEN
    ),
]

Maps = Annotated[
    str,
    typer.Option(
        help=f"Attribution maps, comma separated: {', '.join(MAP_NAMES)}. The score, {SCORE}, is in every cube; {SCORE} alone maps nothing else.",
        rich_help_panel=WHAT,
    ),
]
License = Annotated[
    str,
    typer.Option(
        metavar="SPDX", help="Of the maps, written into a new cube: an SPDX identifier.", rich_help_panel=WHAT
    ),
]
TilesFile = Annotated[
    str | None,
    typer.Option(
        "--tiles", metavar="FILE.geojson", help="Also write the tiles and their states there.", rich_help_panel=WHAT
    ),
]

ClearClasses = Annotated[
    str,
    typer.Option(
        help="Scene classification (SCL) values that count as clear, comma separated: 2 dark area, 4 vegetation, 5 bare, 6 water, 7 unclassified.",
        rich_help_panel=HOW,
    ),
]
Snow = Annotated[bool, typer.Option(help="Whether snow counts as a clear observation.", rich_help_panel=HOW)]
MinObservations = Annotated[
    int,
    typer.Option(metavar="N", help="Pixels seen clear less often have no data.", min=1, max=1000, rich_help_panel=HOW),
]
Enough = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="Clear observations per pixel that are enough for its median: the first K, least cloudy scenes first; 0 for all there are.",
        min=0,
        max=1000,
        rich_help_panel=HOW,
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Pixels between chips, a multiple of 4. Smaller is smoother and slower.",
        min=4,
        max=256,
        show_default="the checkpoint's: 192 without, 128 with instance norm",
        rich_help_panel=HOW,
    ),
]
TileSize = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Pixels a side of the unit of work, a multiple of 512. Larger tiles read less twice and need more memory.",
        min=512,
        max=8192,
        rich_help_panel=HOW,
    ),
]

Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(
        metavar="NAME",
        help=f"Arithmetic of the networks' inner layers: {', '.join(PRECISIONS)}. auto is bfloat16 where this processor, or the GPU with --gpu, multiplies it natively.",
        rich_help_panel=HOW,
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Ray actors.",
        min=1,
        max=100_000,
        show_default="as many as the cluster's CPUs, or GPUs with --gpu, allow",
        rich_help_panel=RUNS,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="CPU threads of each worker's networks.",
        min=1,
        max=1024,
        show_default="all with --local, else 1",
        rich_help_panel=RUNS,
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(
        metavar="N",
        help="Seconds the reading of one tile may take before it counts as failed.",
        min=1,
        rich_help_panel=RUNS,
    ),
]
Calibrate = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=10_000,
        help="Map N tiles of the region into a temporary cube first, here, and say from their times how many hours --workers will need.",
        rich_help_panel=RUNS,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Read a cube that is there from end to end first; what is damaged is mapped again.",
        rich_help_panel=RUNS,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the plan of --plan as JSON, for machines.", rich_help_panel=RUNS)
]
JsonLogs = Annotated[
    bool,
    typer.Option(
        "--json-logs",
        help="Also log one line of JSON per tile and try: tile, item, attempt, seconds, worker.",
        rich_help_panel=RUNS,
    ),
]


def composite_settings(
    classes: str, snow: bool, min_observations: int, enough: int, min_sun: float
) -> CompositeSettings:
    """What these options say of clear observations.

    Raises:
        RequestError: if a class is unknown or given twice.
    """
    numbers = parse_names("--clear-classes", classes, CLASSES)
    from spacex.sentinel2.scene_request import CompositeSettings  # with pydantic, which --help need not wait for

    return CompositeSettings(
        clear_classes=numbers,  # type: ignore[arg-type]  # as typed
        min_observations=min_observations,
        enough=enough,
        snow_is_clear=snow,
        min_sun_elevation=min_sun,
    )
