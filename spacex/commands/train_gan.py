"""Train the maximiser and the minimiser that show what a classifier takes for natural.

Presets (spacex/training/presets.py has every number and its source):

- delta: a small, norm-free change stopped by a margin; the default, and the fastest to train and to map with.

- paper: as published (needs a classifier trained with --units reflectance).

- repository: the published code's sizes and factors, its activation term connected (likewise).

- class-difference: shows what separates the classes, NOT what the classifier uses; in a planted-shortcut
test it pointed at a pattern the classifier provably ignores.

Examples:
    spacex train-gan --data demo --classifier runs/classifier --output runs/gan

    spacex train-gan --data /data/anthroprotect --preset paper --gpu

    ray job submit --working-dir . -- python jobs/train_gan.py --data /data --workers 8 --gpu

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder: card.json, classifier, maximiser, minimiser.
log/ holds, per step, every loss term, the gradient each term sends to each generator, the scores and the
changes, and every few hundred steps a picture. A run that collapses says so. Exit code 2: the request is
wrong, and nothing was trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from spacex.commands import options
from spacex.commands.app import make_app
from spacex.commands.training import check_gpu
from spacex.commands.validation import check_checkpoint, check_data, check_folder


def train_gan(
    data: options.Data,
    classifier: Annotated[
        str,
        typer.Option(help="Checkpoint of the classifier to explain.", rich_help_panel=options.FIRST),
    ] = "runs/classifier",
    output: Annotated[
        str,
        typer.Option(help="Folder or fsspec URI of the run and its checkpoint.", rich_help_panel=options.FIRST),
    ] = "runs/gan",
    preset: Annotated[
        Literal["delta", "paper", "repository", "class-difference"],
        typer.Option(help="How to train.", rich_help_panel=options.FIRST),
    ] = "delta",
    epochs: options.Epochs = None,
    further: Annotated[
        list[str] | None,
        typer.Option(
            help="Another classifier the change must move too; may be repeated.", rich_help_panel=options.WHAT
        ),
    ] = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    grouped: options.Grouped = False,
    strict: options.Strict = False,
    change: options.Change = None,
    workers: options.Workers = 0,
    gpu: options.Gpu = False,
    precision: options.Precision = "auto",
    readers: options.Readers = 0,
    trust: options.Trust = None,
) -> None:
    """Train, and print where the checkpoint is."""
    check_data(data)
    check_folder("--output", output)
    for uri in (classifier, *(further or [])):
        check_checkpoint(uri)
    check_gpu(gpu)

    from spacex.api.training import train_gan as trained

    made = trained(
        data, classifier, output, preset=preset, further=further or [], epochs=epochs, limit=limit, seed=seed,
        grouped=grouped, strict=strict, changes=change or [], workers=workers, gpu=gpu, precision=precision,
        readers=readers, trust=trust or [],
    )  # fmt: skip
    print(f"checkpoint: {made.uri}")


app = make_app(train_gan, __doc__)
