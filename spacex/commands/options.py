"""Options that more than one command takes, and the groups in which `--help` shows all of them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

FIRST = "Most people need"
WHERE = "Where"
WHEN = "When, and which scenes"
WHAT = "What comes out"
HOW = "How it is made"
RUNS = "Where it runs"

MANY = 1_000_000_000
"""Limit of counts that have no other: larger numbers are slips of the hand, and overflow somewhere below."""

Data = Annotated[
    str,
    typer.Option(
        help="AnthroProtect or MapInWild folder as published, a folder of pictures by class (train/CLASS/*.png), or "
        "'demo'.",
        rich_help_panel=FIRST,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Passes over the chips.", min=1, max=MANY, show_default="the recipe's or preset's", rich_help_panel=FIRST
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        help="Use only this many chips of each split.", min=2, max=MANY, show_default="all", rich_help_panel=HOW
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Names every random draw: weights, order, samples.", min=0, max=2**32 - 1, rich_help_panel=HOW),
]
Workers = Annotated[
    int,
    typer.Option(help="Ray workers; 0 trains in this process without Ray.", min=0, max=100_000, rich_help_panel=RUNS),
]
Gpu = Annotated[bool, typer.Option("--gpu", help="Networks run on GPUs, one per worker.", rich_help_panel=RUNS)]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads of the networks.", min=1, max=1024, show_default="all", rich_help_panel=RUNS),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Of the networks' bodies; auto: bfloat16 on a GPU only.", rich_help_panel=RUNS),
]
Readers = Annotated[
    int, typer.Option(help="Processes per worker that read ahead.", min=0, max=256, rich_help_panel=RUNS)
]
Grouped = Annotated[
    bool, typer.Option("--grouped", help="Split by place; the official split leaks.", rich_help_panel=HOW)
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a data set with a bad file.", rich_help_panel=HOW)]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="MODULE",
        help="Installed module whose networks a checkpoint may name; its code runs here and on the workers. May be "
        "repeated. The model builders of timm, torchvision and torchgeo need no trust.",
        show_default="none",
        rich_help_panel=RUNS,
    ),
]
Change = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, e.g. recipe.batch=16, network.occlusion=0 (classifier) or generator.base=16 (generators).",
        rich_help_panel=HOW,
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="Folder or URI of a trained checkpoint. The weights that ship were trained on the synthetic landscape and "
        "say nothing reliable about real land.",
        show_default="the weights that ship",
        rich_help_panel=WHAT,
    ),
]
