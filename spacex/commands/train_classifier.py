"""Train the classifier that says how natural a Sentinel-2 chip looks.

The network and its training are those of AnthroProtect's authors and of the paper: U-Net with three
activation maps and a small head, one-cycle schedule, CutMix as edge strips, random rotation and occlusion.

Examples:
    spacex train-classifier --data demo

    spacex train-classifier --data /data/anthroprotect --output runs/classifier --gpu

    ray job submit --working-dir . -- python jobs/train_classifier.py --data /data --workers 8 --gpu

    spacex train-classifier --data pictures/ --target zebra

    spacex train-classifier --data demo --network timm:create_model
      --network-args '{"model_name": "resnet18", "num_classes": 1}'

Another network than ours is built by a function of an installed package; its output is one logit per chip, or one per
class. What it names is imported only if you --trust the module, or it is one of a few functions that do nothing else.

A run lives in its --output: stop it at any time, give the same command, and it goes on after the last
epoch that was finished. The checkpoint is the same folder (card.json and weights); log/ holds TensorBoard
events and one line of numbers per step. Exit code 2: the request is wrong, and nothing was trained.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from spacex.commands import options
from spacex.commands.app import make_app
from spacex.commands.training import check_gpu
from spacex.commands.validation import check_changes, check_data, check_folder
from spacex.errors import RequestError


def train_classifier(
    data: options.Data,
    output: Annotated[
        str,
        typer.Option(help="Folder or fsspec URI of the run and its checkpoint.", rich_help_panel=options.FIRST),
    ] = "runs/classifier",
    epochs: options.Epochs = 50,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Band names in order, or 'all' (ten).",
            show_default="B02,B03,B04; of pictures red,green,blue",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Class to be scored and explained, of those that pictures' folders or a classes.csv name.",
            show_default="natural",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CALLABLE",
            help="Another network than ours: a function or class of an installed package, e.g. timm:create_model.",
            show_default="our own",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    network_args: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Its keyword arguments, e.g. \'{"model_name": "resnet18", "num_classes": 1}\'.',
            show_default="none",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
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
    trust: options.Trust = None,
) -> None:
    """Train, and print where the checkpoint is."""
    check_data(data)
    check_folder("--output", output)
    check_changes(change or [])
    chosen = None if bands is None else _band_names(bands)
    arguments = _arguments(network, network_args)
    check_gpu(gpu)

    from spacex.api.training import train_classifier as trained

    made = trained(
        data, output, bands=chosen, target=target, network=network, arguments=arguments, units=units, base=base,
        epochs=epochs or 50, limit=limit, seed=seed, grouped=grouped, strict=strict, changes=change or [],
        workers=workers, gpu=gpu, precision=precision, readers=readers, trust=trust or [],
    )  # fmt: skip
    print(f"checkpoint: {made.uri}")


def _band_names(text: str) -> tuple[str, ...]:
    """Names from ``B02,B03,B04`` or ``all``."""
    from spacex.settings import PICTURE_BANDS, SENTINEL2_BANDS

    if text == "all":
        return SENTINEL2_BANDS
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in SENTINEL2_BANDS + PICTURE_BANDS]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(SENTINEL2_BANDS)}")
    if len(set(names)) < len(names):
        raise RequestError("--bands names one twice", got=text)
    return names


def _arguments(network: str | None, text: str | None) -> dict[str, Any]:
    """The keyword arguments of another network, from JSON."""
    if text is None:
        return {}
    if network is None:
        raise RequestError("--network-args are those of another network", do="Name it with --network.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError("--network-args is not JSON", got=error, expected='e.g. {"num_classes": 1}') from error
    if not isinstance(found, dict):
        raise RequestError("--network-args", got=text, expected='names and values, e.g. {"num_classes": 1}')
    return found


app = make_app(train_classifier, __doc__)
