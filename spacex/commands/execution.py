"""How commands that work through tiles run: who does the work, how they are stopped, and what their exit codes say."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import typer

from spacex.commands import console as console
from spacex.errors import RequestError

if TYPE_CHECKING:
    from spacex.execution.jobs import Runner

INCOMPLETE = 3
"""Exit code when tiles were given up."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM."""

Outcome = TypeVar("Outcome")


def check_ways(local: bool, workers: int | None, plan: bool, as_json: bool) -> None:
    """Refuse ways of running that exclude each other."""
    if local and workers is not None:
        raise RequestError("--local works in this process", got=f"--workers {workers}", do="Leave one of them out.")
    if as_json and not plan:
        raise RequestError("--json prints a plan", do="Give --plan too.")


def show_json_logs() -> None:
    """One line of JSON per tile and try on stderr."""
    from spacex.execution.logs import json_logs

    json_logs()


def runner_of(local: bool, workers: int | None, gpu: bool = False, threads: int | None = None) -> Runner:
    """Who does the work; refuses workers that no machine can hold."""
    if local:
        from spacex.execution.local import run_local

        return run_local
    from spacex.execution.ray_actors import check_room, connect, run_ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    cpus, gpus = float(threads or 1), 1.0 if gpu else 0.0
    connect()
    check_room(workers, cpus, gpus)
    return partial(run_ray, workers=workers, cpus=cpus, gpus=gpus)


def in_order(run: Callable[[], Outcome]) -> Outcome:
    """Run, and end in order when asked to stop."""
    try:
        with _stopped_by_sigterm():
            return run()
    except KeyboardInterrupt as stop:
        console.say(f"stopped; finished tiles are safe. The same command resumes:\n  {console.again()}")
        raise typer.Exit(TERMINATED if stop.args == (signal.SIGTERM,) else INTERRUPTED) from stop


class _stopped_by_sigterm:
    """SIGTERM (of `ray job stop`, Slurm, Kubernetes) ends the run like Ctrl-C. Entered after Ray has started."""

    def __enter__(self) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt(signal.SIGTERM)

        self._before = signal.signal(signal.SIGTERM, stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
