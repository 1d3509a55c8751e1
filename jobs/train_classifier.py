"""Train the classifier that says how natural a Sentinel-2 chip looks.

The network and its training are those of AnthroProtect's authors and of the paper: U-Net with three
activation maps and a small head, one-cycle schedule, CutMix as edge strips, random rotation and occlusion.

Examples:
    python jobs/train_classifier.py --data demo

    python jobs/train_classifier.py --data /data/anthroprotect --output runs/classifier --gpu

    ray job submit --working-dir . -- python jobs/train_classifier.py --data /data --workers 8 --gpu

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder (card.json and weights); log/ holds TensorBoard
events and one line of numbers per step. Exit code 2: the request is wrong, and nothing was trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

import _cli
import typer
from _training import follow, make_source

app = _cli.make_app(__doc__ or "")


@app.command(help=__doc__)
def main(
    data: Annotated[str, typer.Option(help="AnthroProtect or MapInWild folder as published, or 'demo'.")],
    output: Annotated[
        str, typer.Option(help="Folder or fsspec URI of the run and its checkpoint.")
    ] = "runs/classifier",
    bands: Annotated[str, typer.Option(help="Band names in order, or 'all' (ten).")] = "B02,B03,B04",
    units: Annotated[
        Literal["sigma", "reflectance"],
        typer.Option(help="Standardise bands (for delta), or plain reflectance (for paper, repository)."),
    ] = "sigma",
    base: Annotated[int, typer.Option(min=1, help="Channels of the U-Net's first level.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 50,
    limit: Annotated[int | None, typer.Option(help="Use only this many chips of each split.")] = None,
    seed: Annotated[int, typer.Option(help="Names weights, order and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Ray workers; 0 trains in this process without Ray.")] = 0,
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU per worker, bfloat16 and torch.compile.")] = False,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: bfloat16 on a GPU only.")
    ] = "auto",
    readers: Annotated[int, typer.Option(min=0, help="Processes per worker that read ahead.")] = 0,
    grouped: Annotated[bool, typer.Option("--grouped", help="Split by place; the official split leaks.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a data set with a bad file.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, e.g. recipe.batch=16 or network.occlusion=0."),
    ] = None,
) -> None:
    """Train, and print where the checkpoint is."""
    from spacex.training.classifier_run import ClassifierRun, learn_classifier, prepare_classifier
    from spacex.training.presets import changed

    source = make_source(data, bands, limit, grouped, strict)
    run = ClassifierRun(source=source, output=output, seed=seed, readers=readers, units=units)
    sizes = [f"recipe.epochs={epochs}", f"network.base={base}"]
    follow(learn_classifier, prepare_classifier, changed(run, [*sizes, *(change or [])]), workers, gpu, precision)


if __name__ == "__main__":
    _cli.run(app)
