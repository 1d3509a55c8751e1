"""What the two training jobs share: where and how a run is followed, and what is said about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec

from spacex.errors import RequestError
from spacex.settings import SENTINEL2_BANDS
from spacex.training.data import Source
from spacex.training.runs import Epoch, Run
from spacex.training.team import Precision, Team, choose_device


def make_source(data: str, bands: str, limit: int | None, grouped: bool, strict: bool) -> Source:
    """The chips asked for; the embedded data set is built now rather than by every worker at once."""
    if data == "demo":
        from spacex.world.dataset import demo_dataset

        demo_dataset()
    elif not Path(data).is_dir():
        raise RequestError(f"no folder {data}", do="Give the data set's folder, or 'demo'.")
    if limit is not None and limit < 2:
        raise RequestError("--limit leaves too little", got=limit, expected="2 or more")
    return Source(root=data, bands=band_names(bands), limit=limit, grouped=grouped, strict=strict)


def band_names(text: str) -> tuple[str, ...]:
    """Names from ``B02,B03,B04`` or ``all``."""
    if text == "all":
        return SENTINEL2_BANDS
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in SENTINEL2_BANDS]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(SENTINEL2_BANDS)}")
    return names


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
    if workers < 0:
        raise RequestError("--workers counts processes", got=workers, expected="0 or more")
    run = run.model_copy(update={"output": absolute(run.output)})
    if workers:
        from spacex.runners.ray_train import train

        prepare(run)
        train(learn, run, workers=workers, gpu=gpu, precision=precision)
    else:
        for epoch in learn(run, Team(device=choose_device(gpu), precision=precision)):
            print(epoch, file=sys.stderr, flush=True)
    print(f"checkpoint: {run.output}")


def absolute(uri: str) -> str:
    """Local folders with their full path, so that every worker means the same one; other URIs as they are."""
    protocol, path = fsspec.core.split_protocol(uri)
    return str(Path(path).resolve()) if protocol in (None, "file") else uri
