"""What the two training commands share: the chips, where a run is followed, and what is said about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from spacex.commands.checks import split_protocol

if TYPE_CHECKING:
    from spacex.training.data import Source
    from spacex.training.runs import Epoch, Run
    from spacex.training.team import Precision, Team


def make_source(data: str, bands: tuple[str, ...], limit: int | None, grouped: bool, strict: bool) -> Source:
    """The chips asked for; the embedded data set is built now rather than by every worker at once."""
    from spacex.training.data import Source

    if data == "demo":
        from spacex.world.dataset import demo_dataset

        demo_dataset()
    return Source(root=data, bands=bands, limit=limit, grouped=grouped, strict=strict)


def follow(
    learn: Callable[[Any, Team], Iterator[Epoch]],
    prepare: Callable[[Any], object],
    run: Run,
    workers: int,
    gpu: bool,
    precision: Precision,
) -> None:
    """Train in this process, or with Ray's workers, and say where the checkpoint is.

    Args:
        learn: yields the run's epochs.
        prepare: refuses a wrong request, before workers are started.
        run: settings of the run.
        workers: processes; 0 trains here, without Ray.
        gpu: whether each takes a GPU.
        precision: of the networks' bodies.
    """
    check_gpu(gpu)
    run = run.model_copy(update={"output": absolute(run.output)})
    if workers:
        from spacex.runners.ray_train import train

        prepare(run)
        train(learn, run, workers=workers, gpu=gpu, precision=precision)
    else:
        from spacex.training.team import Team, choose_device

        for epoch in learn(run, Team(device=choose_device(gpu), precision=precision)):
            print(epoch, file=sys.stderr, flush=True)
    print(f"checkpoint: {run.output}")


def absolute(uri: str) -> str:
    """Local folders with their full path, so that every worker means the same one; other URIs as they are."""
    protocol, path = split_protocol(uri)
    return os.path.realpath(path) if protocol in ("file", "local") else uri


def check_gpu(gpu: bool) -> None:
    """Refuse `--gpu` at once where this machine has none; in a cluster the GPUs are elsewhere, and may yet come.

    Raises:
        RequestError: if there is no GPU.
    """
    if gpu and not (os.environ.keys() & {"RAY_ADDRESS", "RAY_JOB_ID"}):
        from spacex.training.team import choose_device

        choose_device(gpu)
