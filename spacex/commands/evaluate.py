"""Compare where maps point: ours, the paper's rivals, and maps that no classifier has seen.

Three things can be evaluated:

- a checkpoint on a labelled data set with land cover (AnthroProtect's layout, or the embedded world, 'demo'),

- a checkpoint on any other chips or pictures: insertion, deletion, counterfactuals, since nothing says where to look,

- a finished cube against a CORINE raster: attribution and naturalness per land-cover class.

Examples:
    spacex evaluate --data demo --output report

    spacex evaluate --data /data/anthroprotect --checkpoint runs/gan --output report/ --limit 200

    spacex evaluate --cube lapland.zarr --corine U2018_CLC2018.tif --output report/

Writes index.html (one file, opens without a network), table.csv (a row per method, its name first),
chips.parquet (a row per chip and method) and the figures as PNG. The numbers are not the paper's: see the
report's first section. Exit code 2: the request is wrong, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacex.api.declaration import FIRST, RUNS, Setting, pick
from spacex.api.evaluation_settings import EvaluateSettings
from spacex.api.validation import check_exists
from spacex.commands.app import make_app
from spacex.commands.console import echo
from spacex.commands.parameters import make_command
from spacex.errors import RequestError

if TYPE_CHECKING:
    from spacex.evaluation.run import ProgressCallback


class EvaluateOptions(EvaluateSettings, total=False):
    """Options of `spacex evaluate`."""

    cube: Annotated[str | None, Setting(FIRST, check=check_exists)]
    """A finished cube, instead of --data."""
    corine: Annotated[str | None, Setting(FIRST, check=check_exists)]
    """CORINE raster to compare the cube with."""
    threads: Annotated[int | None, Setting(RUNS, unset="all", least=1, most=1024)]
    """CPU threads of the networks."""


def evaluate(asked: EvaluateOptions) -> None:
    """Evaluate, and print where the report is."""
    output, data, cube, corine = Path(asked["output"]), asked["data"], asked["cube"], asked["corine"]
    if (data is None) == (cube is None):
        raise RequestError("one thing at a time", expected="one of --data and --cube")
    if cube is not None and corine is None:
        raise RequestError("a cube is compared with a land-cover raster", expected="--corine FILE.tif")
    if asked["threads"] is not None:
        import torch

        torch.set_num_threads(asked["threads"])
    if cube is None or corine is None:
        what, files = _evaluate_checkpoint(asked), "index.html, table.csv, chips.parquet"
    else:
        from spacex.evaluation.cube_report import compare_cube

        what = f"{len(compare_cube(cube, corine, output))} land-cover classes"
        files = "index.html, classes.csv"
    print(f"{what}: {output.resolve()} ({files})")


def _evaluate_checkpoint(asked: EvaluateOptions) -> str:
    from spacex.api import evaluation

    settings = pick(asked, EvaluateSettings.__annotations__)
    with _progress(asked["quick"]) as report:
        table = evaluation.evaluate(report=report, **settings)
    return f"{table.chips['all']} chips, {len(table.methods)} methods"


@contextmanager
def _progress(quick: bool) -> Iterator[ProgressCallback]:
    """A line and a bar on stderr, from the first chip on: before it, the request may still turn out to be wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # its first task counts chips; the method at work is its description
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("chips"), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
    task = bar.add_task("reading", total=None)

    def report(done: int, total: int, method: str) -> None:
        if not bar.live.is_started:  # without a terminal the bar is drawn at the end only
            echo(f"{total:,} chips, each through every method{'' if quick else '; --quick is coarser and faster'}")
        bar.start()
        elapsed = bar.tasks[0].elapsed or 0.0
        rate = f"{done / elapsed:.2f} chips/s, " if done and elapsed else ""
        bar.update(task, completed=done, total=total, description=f"{rate}{method}")

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


app = make_app(make_command(EvaluateOptions, evaluate), __doc__)
