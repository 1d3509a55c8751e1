"""Training on Ray Train: starts the workers, each of which iterates the same run, and survives their deaths.

The run (`spacex.training.loop`) decides what is trained, how gradients are shared and where state is kept. Ray starts
one process group, restarts all workers when one dies, and carries the metrics of an epoch to the driver. The run then
resumes from its own state, so a killed worker costs at most the epoch it was in.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fsspec

from spacex.datasets.kinds import split_kind
from spacex.errors import SpacexError
from spacex.storage import check_visible, local_path
from spacex.training.distributed import Distributed, Precision
from spacex.training.loop import Epoch, Progress, Run
from spacex.training.state import RunStore

RETRIES = 5
"""Deaths of workers that a run survives without finishing an epoch in between."""
QUIET = {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1"}
"""By default Ray Train prints everything twice, and checks its workers only every two seconds."""


def train(
    learn: Callable[[Any, Distributed, Progress], Iterator[Epoch]],
    run: Run,
    *,
    workers: int,
    gpu: bool = False,
    precision: Precision = "auto",
    cpus: float = 1.0,
) -> None:
    """Train `run` on a Ray cluster: the one this process belongs to, or a new one on this machine.

    The module-level function `learn` yields the run's epochs for one worker. Each of the `workers` has one share of the
    batch, `cpus` processors and, with `gpu`, a GPU; the run's ``output`` must be reachable from every node.

    Raises:
        SpacexError: if a worker raised one, or the run failed more than `RETRIES` times within an epoch.
    """
    import ray
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not ray.is_initialized():
        ray.init(logging_level=logging.ERROR)
    filesystem, folder = _storage(run.output)
    make_trainer = partial(
        TorchTrainer,
        _work,
        train_loop_config={"learn": learn, "run": run, "precision": precision},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": cpus, **({"GPU": 1} if gpu else {})}
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # mypy sees the first version's
            name="ray",
            storage_path=folder,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=RETRIES),
            callbacks=[_reporter()],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    fit_until_done(lambda: make_trainer().fit(), RunStore(run.output).epochs_done, TrainingFailedError)


def fit_until_done(fit: Callable[[], object], epochs_done: Callable[[], int], failure: type[Exception]) -> None:
    """Fit again as long as every attempt, of which each survives `RETRIES` deaths, finishes an epoch.

    A run of any length then survives any number of deaths, but one that fails at the same place ends.
    """
    while True:
        before = epochs_done()
        try:
            fit()
        except failure as error:
            cause = _own_error(error)
            if cause is None and epochs_done() > before:
                continue
            raise cause or _failed(error) from error
        except SystemExit as stopped:  # how Ray Train answers Ctrl-C
            raise KeyboardInterrupt from stopped
        return


def _work(config: dict[str, Any]) -> None:
    """Iterates the run in one worker and reports each epoch to Ray."""
    import ray.train
    from ray.train.torch import get_device

    root = config["run"].source.root
    check_visible([] if root == "demo" else [split_kind(root)[1]])
    distributed = Distributed.from_process_group(get_device(), precision=config["precision"])
    # like the epochs' lines, what the first worker prints reaches the driver
    progress = partial(print, flush=True)
    for epoch in config["learn"](config["run"], distributed, progress):
        # a barrier, so every worker reports every epoch; the state has been written before
        ray.train.report({"line": str(epoch)})


def _storage(uri: str) -> tuple[Any, str]:
    """The run's folder as a pyarrow file system and path; Ray keeps files of its own below it."""
    from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

    fs, path = fsspec.core.url_to_fs(uri)
    if local_path(uri) is not None:
        return LocalFileSystem(), path
    return PyFileSystem(FSSpecHandler(fs)), path


def _own_error(error: Exception) -> SpacexError | None:
    """The first of our own errors behind Ray's."""
    for inner in getattr(error, "worker_failures", {}).values():
        for one in (inner, getattr(inner, "cause", None), inner.__cause__):
            if isinstance(one, SpacexError):
                return one
    return None


def _failed(error: Exception) -> SpacexError:
    """An error that names what Ray said."""
    last = str(error).strip().splitlines()[-1:]
    return SpacexError("the training run failed", got=last[0] if last else error, do="See the workers' logs.")


def _reporter() -> Any:
    from ray.train import UserCallback

    class Reporter(UserCallback):  # type: ignore[misc]
        """Prints an epoch's line; it lives in Ray's controller, whose output reaches the driver."""

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            print(metrics[0]["line"], flush=True)

    return Reporter()
