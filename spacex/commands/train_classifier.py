"""Train the classifier that says how natural a Sentinel-2 chip looks.

The network and its training are those of AnthroProtect's authors and of the paper: U-Net with three
activation maps and a small head, one-cycle schedule, CutMix as edge strips, random rotation and occlusion.

Examples:
    spacex train-classifier --data demo

    spacex train-classifier --data /data/anthroprotect --output runs/classifier --gpu

    ray job submit --working-dir . -- python jobs/train_classifier.py --data /data --workers 8 --gpu

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder (card.json and weights); log/ holds TensorBoard
events and one line of numbers per step. Exit code 2: the request is wrong, and nothing was trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from spacex.commands import options
from spacex.commands.checks import check_changes, check_data, check_folder
from spacex.commands.door import make_app
from spacex.commands.training import check_gpu
from spacex.errors import RequestError


def train_classifier(
    data: options.Data,
    output: Annotated[
        str,
        typer.Option(help="Folder or fsspec URI of the run and its checkpoint.", rich_help_panel=options.FIRST),
    ] = "runs/classifier",
    epochs: options.Epochs = 50,
    bands: Annotated[
        str, typer.Option(help="Band names in order, or 'all' (ten).", rich_help_panel=options.WHAT)
    ] = "B02,B03,B04",
    units: Annotated[
        Literal["sigma", "reflectance"],
        typer.Option(
            help="Standardise bands (for delta), or plain reflectance (for paper, repository).",
            rich_help_panel=options.WHAT,
        ),
    ] = "sigma",
    base: Annotated[
        int,
        typer.Option(help="Channels of the U-Net's first level.", min=1, max=512, rich_help_panel=options.HOW),
    ] = 32,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    grouped: options.Grouped = False,
    strict: options.Strict = False,
    change: options.Change = None,
    workers: options.Workers = 0,
    gpu: options.Gpu = False,
    precision: options.Precision = "auto",
    readers: options.Readers = 0,
) -> None:
    """Train, and print where the checkpoint is."""
    check_data(data)
    check_folder("--output", output)
    check_changes(change or [])
    chosen = _band_names(bands)

    check_gpu(gpu)

    from spacex.api.training import train_classifier as trained

    made = trained(
        data, output, bands=chosen, units=units, base=base, epochs=epochs or 50, limit=limit, seed=seed,
        grouped=grouped, strict=strict, changes=change or [], workers=workers, gpu=gpu, precision=precision,
        readers=readers,
    )  # fmt: skip
    print(f"checkpoint: {made.uri}")


def _band_names(text: str) -> tuple[str, ...]:
    """Names from ``B02,B03,B04`` or ``all``."""
    from spacex.settings import SENTINEL2_BANDS

    if text == "all":
        return SENTINEL2_BANDS
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in SENTINEL2_BANDS]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(SENTINEL2_BANDS)}")
    if len(set(names)) < len(names):
        raise RequestError("--bands names one twice", got=text)
    return names


app = make_app(train_classifier, __doc__)
