"""Compare where maps point: ours, the paper's rivals, and maps that no classifier has seen.

Four things can be evaluated:

- a checkpoint on a labelled data set with land cover (AnthroProtect's layout, or the embedded world, 'demo'),

- a checkpoint of pictures on such pictures: insertion, deletion and counterfactuals, since nothing says where to look,

- a finished cube against a CORINE raster: attribution and naturalness per land-cover class,

- faithfulness itself: the planted-shortcut experiment trains small networks on the embedded world and asks
whether maps point at the pattern the classifier uses, or at one it ignores.

Examples:
    spacex evaluate --data demo --output report

    spacex evaluate --data /data/anthroprotect --checkpoint runs/gan --output report/ --limit 200

    spacex evaluate --cube lapland.zarr --corine U2018_CLC2018.tif --output report/

    spacex evaluate --shortcut --output report/

Writes index.html (one file, opens without a network), table.csv (a row per method, its name first),
chips.parquet (a row per chip and method) and the figures as PNG. The numbers are not the paper's: see the
report's first section. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spacex.commands import options
from spacex.commands.app import make_app
from spacex.commands.validation import check_checkpoint, check_data, check_folder, check_there, parse_names
from spacex.errors import RequestError

if TYPE_CHECKING:
    from spacex.evaluation.run import EvaluationSettings, Report

FILLS = ("blur", "mean", "other")


def evaluate(
    data: Annotated[
        str | None,
        typer.Option(
            help="AnthroProtect folder as published, a folder of pictures by class, or 'demo'.",
            rich_help_panel=options.FIRST,
        ),
    ] = None,
    checkpoint: options.Checkpoint = None,
    output: Annotated[str, typer.Option(help="Folder of the report.", rich_help_panel=options.FIRST)] = "report",
    cube: Annotated[
        str | None, typer.Option(help="A finished cube, instead of --data.", rich_help_panel=options.FIRST)
    ] = None,
    corine: Annotated[
        str | None, typer.Option(help="CORINE raster to compare the cube with.", rich_help_panel=options.FIRST)
    ] = None,
    shortcut: Annotated[
        bool,
        typer.Option("--shortcut", help="Run the planted-shortcut experiment instead.", rich_help_panel=options.FIRST),
    ] = False,
    split: Annotated[
        Literal["train", "val", "test"],
        typer.Option(help="Split to evaluate; select on val, report on test.", rich_help_panel=options.WHAT),
    ] = "test",
    limit: Annotated[
        int | None,
        typer.Option(
            help="Natural chips to draw.", min=1, max=options.MANY, show_default="all", rich_help_panel=options.WHAT
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas, e.g. path,brightness.", show_default="all", rich_help_panel=options.WHAT
        ),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            help="Second classifier's checkpoint: does the change transfer to it?", rich_help_panel=options.WHAT
        ),
    ] = None,
    twin: Annotated[
        str | None,
        typer.Option(
            help="Generators of another seed for the same classifier: do maps agree?", rich_help_panel=options.WHAT
        ),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(help="NAME=CHECKPOINT whose maps should be empty, e.g. λ_AM = 0.", rich_help_panel=options.WHAT),
    ] = None,
    perturbed: Annotated[
        int,
        typer.Option(help="Chips for insertion and deletion.", min=0, max=options.MANY, rich_help_panel=options.HOW),
    ] = 4,
    fills: Annotated[
        str, typer.Option(help=f"What replaces pixels there: {', '.join(FILLS)}.", rich_help_panel=options.HOW)
    ] = "blur",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Coarser Occlusion, fewer RISE masks: a tenth of the time.", rich_help_panel=options.HOW
        ),
    ] = False,
    seed: options.Seed = 0,
    batch: Annotated[
        int, typer.Option(help="Chips in memory at once.", min=1, max=4096, rich_help_panel=options.RUNS)
    ] = 4,
    threads: options.Threads = None,
    trust: options.Trust = None,
) -> None:
    """Evaluate, and print where the report is."""
    if [data is not None, cube is not None, shortcut].count(True) != 1:
        raise RequestError("one thing at a time", expected="one of --data, --cube and --shortcut")
    check_folder("--output", output)
    if cube is not None:
        _compare_cube(cube, corine, Path(output), threads)
    elif data is None:
        _run_shortcut(Path(output), seed, threads)
    else:
        check_data(data)
        chosen = parse_names("--fills", fills, FILLS)
        for uri in (checkpoint, second, twin):
            check_checkpoint(uri)
        controls = _pairs(control or [])
        _set_threads(threads)

        from spacex.api.evaluation import evaluate as evaluated

        settings = dict(_settings(split, limit, methods, batch, seed, perturbed, chosen, quick))
        others: dict[str, Any] = {"second": second, "twin": twin, "controls": controls, "trust": trust or []}
        with _progress() as report:
            table = evaluated(data, checkpoint, output, **others, report=report, **settings)
        _say(Path(output), f"{table.chips['all']} chips, {len(table.methods)} methods")


def _settings(
    split: str,
    limit: int | None,
    methods: str | None,
    batch: int,
    seed: int,
    perturbed: int,
    fills: tuple[str, ...],
    quick: bool,
) -> EvaluationSettings:
    from spacex.evaluation.methods.captum import QUICK, Effort
    from spacex.evaluation.run import EvaluationSettings

    return EvaluationSettings(
        split=split,
        limit=limit,
        methods=tuple(part.strip() for part in (methods or "").split(",") if part.strip()),
        batch=batch,
        seed=seed,
        perturbed=perturbed,
        fills=fills,  # type: ignore[arg-type]  # checked by name above
        effort=QUICK if quick else Effort(),
    )


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for (name, sign, uri), text in zip(pairs, texts, strict=True):
        if not (name.strip() and sign and uri.strip()):
            raise RequestError("a control needs a name", got=text, expected="NAME=CHECKPOINT")
        check_checkpoint(uri)
    if len({name for name, *_ in pairs}) < len(pairs):
        raise RequestError("--control names one twice", got=", ".join(texts))
    return {name: uri for name, _, uri in pairs}


def _compare_cube(cube: str, corine: str | None, output: Path, threads: int | None) -> None:
    if corine is None:
        raise RequestError("a cube is compared with a land-cover raster", expected="--corine FILE.tif")
    check_there("--cube", cube)
    check_there("--corine", corine)
    _set_threads(threads)

    from spacex.evaluation.cube_report import compare_cube

    table = compare_cube(cube, corine, output)
    _say(output, f"{len(table)} land-cover classes", "index.html", "classes.csv")


def _run_shortcut(output: Path, seed: int, threads: int | None) -> None:
    _set_threads(threads)

    from spacex.evaluation.shortcut import ShortcutSettings, run_shortcut

    run_shortcut(output, ShortcutSettings(seed=seed), typer.echo)
    _say(output, "planted-shortcut experiment", "index.html", "shortcut.csv")


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _say(output: Path, what: str, *files: str) -> None:
    names = ", ".join(files or ("index.html", "table.csv", "chips.parquet"))
    typer.echo(f"{what}: {output.resolve()} ({names})")


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on stderr, from the first chip on: before it, the request may still turn out to be wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("chips"), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
    task = bar.add_task("reading", total=None)

    def report(done: int, total: int, method: str) -> None:
        bar.start()
        elapsed = bar.tasks[0].elapsed or 0.0
        rate = f"{done / elapsed:.2f} chips/s, " if done and elapsed else ""
        bar.update(task, completed=done, total=total, description=f"{rate}{method}")

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


app = make_app(evaluate, __doc__)
