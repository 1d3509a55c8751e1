"""What `spacex make-dataset` may be told besides what it shares with `spacex map`."""

from __future__ import annotations

from typing import Annotated

import typer

from spacex.commands.map_options import Box
from spacex.commands.options import FIRST, HOW, MANY, WHAT, WHERE

EXPRESSION = "SQL over its attributes, e.g. \"IUCN_CAT in ('Ia','Ib','II')\"."

Output = Annotated[
    str,
    typer.Option(
        help="Folder of the set, on a disk that every worker sees. A report and contact sheets go to OUTPUT.run beside it.",
        rich_help_panel=FIRST,
    ),
]
Natural = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Polygons of natural land: GeoPackage, Shapefile, GeoJSON or GeoParquet. The demo catalogue has a default.",
        rich_help_panel=FIRST,
    ),
]
NaturalWhere = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR", help=f"Which of its features: {EXPRESSION}", show_default="all", rich_help_panel=FIRST
    ),
]
Anthropogenic = Annotated[
    str | None, typer.Option(metavar="FILE", help="Polygons of anthropogenic land, likewise.", rich_help_panel=FIRST)
]
AnthropogenicWhere = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR", help=f"Which of its features: {EXPRESSION}", show_default="all", rich_help_panel=FIRST
    ),
]
LandCover = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.tif",
        help="CORINE raster, level-3 codes or the EEA's grid codes. It goes with the chips; without --anthropogenic, it also states the anthropogenic class.",
        rich_help_panel=FIRST,
    ),
]
Days = Annotated[
    str | None,
    typer.Option(
        "--datetime",
        metavar="FIRST/LAST",
        help="Days of the composite, e.g. 2020-07-01/2020-08-30, or a month (2020-07) or a year (2020). The demo catalogue has a default.",
        rich_help_panel=FIRST,
    ),
]
Bbox = Annotated[
    Box | None,
    typer.Option(
        metavar="W S E N",
        help="Only chips within this box of degrees; commas between the numbers are fine.",
        show_default="wherever the files reach",
        rich_help_panel=WHERE,
    ),
]

Count = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Chips at most, half of each class; AnthroProtect has 23,919.",
        min=2,
        max=MANY,
        rich_help_panel=FIRST,
    ),
]
Bands = Annotated[
    str,
    typer.Option(help="Bands to read, comma separated; the others of a chip's ten are no data.", rich_help_panel=WHAT),
]
Share = Annotated[
    float,
    typer.Option(metavar="P", help="Share of a chip that must lie in its class.", min=0.01, max=1, rich_help_panel=HOW),
]
Distance = Annotated[
    float | None,
    typer.Option(
        metavar="M",
        help="Metres between the middles of two chips at least; they never overlap.",
        min=0,
        max=1e6,
        show_default="a chip's side, 2560 at 10 m",
        rich_help_panel=HOW,
    ),
]
LimitPerPolygon = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Chips of one polygon at most; where land cover states the class, of a square of 20 km.",
        min=1,
        max=MANY,
        rich_help_panel=HOW,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="CODES",
        help="Classes of --land-cover that are anthropogenic, as beginnings of CORINE codes, comma separated.",
        show_default="1,2 without --anthropogenic, else none",
        rich_help_panel=HOW,
    ),
]
MinValid = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="Share of a chip that must have data; others are left out.",
        min=0.01,
        max=1,
        rich_help_panel=HOW,
    ),
]
