"""How commands that work through tiles run: where the work is done, how a run is stopped, and its exit codes."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar

import typer

from spacex.api.declaration import FIRST, RUNS, Setting
from spacex.commands import console
from spacex.errors import RequestError

if TYPE_CHECKING:
    from spacex.execution.jobs import Runner

INCOMPLETE = 3
"""Exit code when tiles were given up, or an output besides the result could not be written."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM."""

Outcome = TypeVar("Outcome")


class ExecutionOptions(TypedDict, total=False):
    """Where tiles are worked on, and what is printed."""

    local: Annotated[bool, Setting(FIRST, False)]
    """Work in this process, without Ray."""
    plan: Annotated[bool, Setting(FIRST, False)]
    """Say what would be done and write nothing: tiles, scenes, chips, bytes, operations. No pixel is read."""
    workers: Annotated[
        int | None,
        Setting(
            RUNS, unset="as many as the cluster's CPUs, or GPUs with --gpu, allow", least=0, most=100000, metavar="N"
        ),
    ]
    """Ray workers; 0 works in this process, as --local does and as for trainings."""
    json: Annotated[bool, Setting(RUNS, False)]
    """Print the plan of --plan as JSON, for machines."""
    json_logs: Annotated[bool, Setting(RUNS, False)]
    """Also log one line of JSON per tile and try: tile, item, attempt, seconds, worker."""


def check_execution_options(asked: ExecutionOptions, calibrate: int = 0) -> None:
    """Refuse options that exclude each other; turn JSON logs on.

    Args:
        asked: the options.
        calibrate: tiles to calibrate on, here, for the workers there will be.
    """
    if asked["workers"] == 0:
        asked["local"], asked["workers"] = True, None
    if asked["local"] and asked["workers"] is not None and not calibrate:
        raise RequestError(
            "--local works in this process", got=f"--workers {asked['workers']}", do="Leave one of them out."
        )
    if asked["json"] and not asked["plan"]:
        raise RequestError("--json prints a plan", do="Give --plan too.")
    if asked["json_logs"]:
        from spacex.execution.logs import json_logs

        json_logs()


def announce(asked: ExecutionOptions) -> None:
    """Say what a run on a cluster does first, once its options are checked and before anything takes long."""
    if not (asked["local"] or asked["plan"]):
        console.echo("planning: looking for scenes; then workers start, and the first tiles follow")


def make_runner(asked: ExecutionOptions, gpu: bool = False, threads: int | None = None) -> Runner:
    """Where the work is done; refuses workers that no machine can hold."""
    if asked["local"]:
        from spacex.execution.local import run_local

        return run_local
    from spacex.execution.ray_actors import check_resources, run_ray
    from spacex.execution.ray_cluster import connect

    # Ray's own lines on stderr would break the progress bar; what fails comes back as a tile's report.
    logging.getLogger("ray").setLevel(logging.ERROR)
    workers, cpus, gpus = asked["workers"], float(threads or 1), 1.0 if gpu else 0.0
    connect()
    check_resources(workers, cpus, gpus)
    return partial(run_ray, workers=workers, cpus=cpus, gpus=gpus)


def write_plan(file: str, description: dict[str, Any]) -> Callable[[object], None]:
    """Called when a run starts, writes its plan beside what it makes."""
    from spacex.storage import write_text

    return lambda log: write_text(file, json.dumps(description, indent=1))


def run_interruptibly(run: Callable[[], Outcome], safe: str = "finished tiles are") -> Outcome:
    """Run, and end in order on Ctrl-C or SIGTERM (of `ray job stop`, Slurm, Kubernetes). Called after Ray started.

    Args:
        run: what is done.
        safe: what is kept when it is stopped.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt(signal.SIGTERM)

    # Installed only now, for Ray installs a handler of its own when it starts.
    before = signal.signal(signal.SIGTERM, stop)
    try:
        return run()
    except KeyboardInterrupt as interrupt:
        console.echo(f"stopped; {safe} safe. The same command resumes:\n  {console.rerun_command()}")
        raise typer.Exit(TERMINATED if interrupt.args == (signal.SIGTERM,) else INTERRUPTED) from interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
