"""Compare where maps point: ours, the paper's rivals, and maps that no classifier has seen.

Three things can be evaluated:

- a checkpoint on a labelled data set with land cover (AnthroProtect's layout, or the embedded world, 'demo'),

- a finished cube against a CORINE raster: attribution and naturalness per land-cover class,

- faithfulness itself: the planted-shortcut experiment trains small networks on the embedded world and asks
whether maps point at the pattern the classifier uses, or at one it ignores.

Examples:
    python jobs/evaluate.py --data demo --output report

    python jobs/evaluate.py --data /data/anthroprotect --checkpoint runs/gan --output report/ --limit 200

    python jobs/evaluate.py --cube lapland.zarr --corine U2018_CLC2018.tif --output report/

    python jobs/evaluate.py --shortcut --output report/

Writes index.html (one file, opens without a network), table.csv (a row per method, its name first),
chips.parquet (a row per chip and method) and the figures as PNG. The numbers are not the paper's: see the
report's first section. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import _cli
import typer

if TYPE_CHECKING:
    from spacex.evaluation.run import EvaluationSettings, Report

app = _cli.make_app(__doc__ or "")


@app.command(help=__doc__)
def main(
    data: Annotated[str | None, typer.Option(help="AnthroProtect folder as published, or 'demo'.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint to evaluate; left out: the weights that ship.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    split: Annotated[str, typer.Option(help="Split to evaluate; select on val, report on test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Natural chips to draw; left out: all.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Names separated by commas, e.g. path,brightness; left out: all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of chips and of the bootstrap.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Chips in memory at once.")] = 4,
    perturbed: Annotated[int, typer.Option(min=0, help="Chips for insertion and deletion.")] = 4,
    fills: Annotated[str, typer.Option(help="What replaces pixels there: blur, mean, other.")] = "blur",
    quick: Annotated[
        bool, typer.Option("--quick", help="Coarser Occlusion, fewer RISE masks: a tenth of the time.")
    ] = False,
    second: Annotated[
        str | None, typer.Option(help="Second classifier's checkpoint: does the change transfer to it?")
    ] = None,
    twin: Annotated[
        str | None, typer.Option(help="Generators of another seed for the same classifier: do maps agree?")
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="NAME=CHECKPOINT whose maps should be empty, e.g. λ_AM = 0.")
    ] = None,
    cube: Annotated[str | None, typer.Option(help="A finished cube, instead of --data.")] = None,
    corine: Annotated[str | None, typer.Option(help="CORINE raster to compare the cube with.")] = None,
    shortcut: Annotated[bool, typer.Option("--shortcut", help="Run the planted-shortcut experiment instead.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; left out: all cores.")] = None,
) -> None:
    """Evaluate, and print where the report is."""
    from spacex.errors import RequestError

    if [data is not None, cube is not None, shortcut].count(True) != 1:
        raise RequestError("one thing at a time", expected="one of --data, --cube and --shortcut")
    if threads is not None:
        _set_threads(threads)
    if cube is not None:
        _compare_cube(cube, corine, output)
    elif shortcut:
        _run_shortcut(output, seed)
    else:
        from spacex.evaluation.evaluate import EvaluationRequest, evaluate

        request = EvaluationRequest(
            data=data or "",
            output=str(output),
            checkpoint=checkpoint,
            second=second,
            twin=twin,
            controls=_pairs(control or []),
            settings=_settings(split, limit, methods, batch, seed, perturbed, fills, quick),
        )
        with _progress() as report:
            table = evaluate(request, report)
        _say(output, f"{table.chips['all']} chips, {len(table.methods)} methods")


def _settings(
    split: str,
    limit: int | None,
    methods: str | None,
    batch: int,
    seed: int,
    perturbed: int,
    fills: str,
    quick: bool,
) -> EvaluationSettings:
    from spacex.attribution.captum_methods import QUICK, Effort
    from spacex.errors import RequestError
    from spacex.evaluation.perturbation import FILLS
    from spacex.evaluation.run import EvaluationSettings

    chosen = _names(fills)
    if set(chosen) - set(FILLS):
        raise RequestError("unknown fill", got=fills, expected=", ".join(FILLS))
    return EvaluationSettings(
        split=split,
        limit=limit,
        methods=_names(methods or ""),
        batch=batch,
        seed=seed,
        perturbed=perturbed,
        fills=chosen,
        effort=QUICK if quick else Effort(),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pairs(texts: list[str]) -> dict[str, str]:
    from spacex.errors import RequestError

    for text in texts:
        if "=" not in text:
            raise RequestError("a control needs a name", got=text, expected="NAME=CHECKPOINT")
    return dict(text.split("=", 1) for text in texts)


def _compare_cube(cube: str, corine: str | None, output: Path) -> None:
    from spacex.errors import RequestError
    from spacex.evaluation.cube_report import compare_cube

    if corine is None:
        raise RequestError("a cube is compared with a land-cover raster", expected="--corine FILE.tif")
    table = compare_cube(cube, corine, output)
    _say(output, f"{len(table)} land-cover classes", "index.html", "classes.csv")


def _run_shortcut(output: Path, seed: int) -> None:
    from spacex.evaluation.shortcut import ShortcutSettings, run_shortcut

    run_shortcut(output, ShortcutSettings(seed=seed), typer.echo)
    _say(output, "planted-shortcut experiment", "index.html", "shortcut.csv")


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _say(output: Path, what: str, *files: str) -> None:
    names = ", ".join(files or ("index.html", "table.csv", "chips.parquet"))
    typer.echo(f"{what}: {output.resolve()} ({names})")


@contextmanager
def _progress() -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("chips"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}")) as bar:
        task = bar.add_task("reading", total=None)

        def report(done: int, total: int, method: str) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{done / elapsed:.2f} chips/s, " if done and elapsed else ""
            bar.update(task, completed=done, total=total, description=f"{rate}{method}")

        yield report


if __name__ == "__main__":
    _cli.run(app)
