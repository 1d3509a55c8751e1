"""Import of classifiers as checkpoints of this package: programs of `torch.export` and AnthroProtect's authors' (ASOS).

A program (.pt2) says all of itself but its bands (`spacex.models.exported`). Of ASOS three forms of file are read: a
plain state dict, a dict with `state_dict` and `hparams`, a Lightning checkpoint.
Channels, maps, widths and dropout are inferred from the shapes, and whatever does not fit is refused by name. How the
U-Net pools, which shapes do not tell, is decided by accuracy on labelled chips.

Files are opened with torch's `weights_only` reader and an allow-list. No pickle is ever run.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, get_args

import fsspec
import torch
from torch import Tensor, nn
from torch.serialization import safe_globals

from spacex.errors import CheckpointError
from spacex.model_card import LARGEST_CHIP, LEAST_CHIP, Card, Scaling
from spacex.models.asos import Pool, convert
from spacex.models.classes import check_output_columns, output_columns
from spacex.models.classifier import Classifier
from spacex.models.exported import Program, read_program
from spacex.settings import SENTINEL2_BANDS
from spacex.training.batches import shard
from spacex.training.classifier_run import check_side
from spacex.training.data import DatasetSettings, SplitName, open_split
from spacex.training.metrics import measure_classifier

MIN_ACCURACY = 0.9
"""Accuracy that an import must reach; the authors report 97 to 99 % on their splits."""

_ALLOWED: list[Any] = [
    *(nn.Tanh, nn.Sigmoid, nn.Softmax, nn.ReLU, nn.MSELoss, nn.BCELoss, nn.BCEWithLogitsLoss),
    # Lightning's dicts of hyper-parameters are read as plain ones
    (OrderedDict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (OrderedDict, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (OrderedDict, "lightning_fabric.utilities.data.AttributeDict"),
    (OrderedDict, "lightning.fabric.utilities.data.AttributeDict"),
]


def read_state_dict(uri: str | Path) -> dict[str, Tensor]:
    """The weights in a `.pt` or `.ckpt` file, by name, without running any of it.

    Raises:
        CheckpointError: if the file is missing, asks for a Python object that is not on the allow-list (named
            in the message), or holds no weights.
    """
    data = _read(uri)
    try:
        with safe_globals(_ALLOWED):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        text = str(error)
        named = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"([\w]+\.[\w.]+) was not an allowed", text)
        got = f"the Python object {named[1]}" if named else text.splitlines()[0]
        do = "Save only its state_dict() where you trust it, and import that."
        what = f"{uri} holds more than weights"
        raise CheckpointError(what, got=got, expected="tensors and settings", do=do) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{uri} is not a file of weights", got=error) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        keys = f" of {sorted(map(str, content))[:6]}" if isinstance(content, dict) else ""
        got, expected = f"{type(content).__name__}{keys}", "a state dict, alone or as 'state_dict'"
        raise CheckpointError(f"{uri} holds no weights", got=got, expected=expected)
    return _strip_prefixes({str(name): value for name, value in state.items()})


def import_checked(
    uri: str | Path, bands: Sequence[str] | None, root: str, split: SplitName = "test", limit: int | None = None
) -> tuple[Classifier, Card]:
    """Convert weights with each way of pooling, and keep the one that is more accurate on labelled chips.

    Args:
        uri: the authors' file.
        bands: its bands in order; None for the usual ones by their number.
        root: folder of labelled chips, as for training.
        split: which of them.
        limit: at most this many.

    Returns:
        The classifier and its card, with the metrics of both ways of pooling.

    Raises:
        CheckpointError: if even the better one is less accurate than `MIN_ACCURACY`, or the file is refused.
        DataError: if the labelled chips are not laid out as published.
    """
    state = read_state_dict(uri)
    classifiers = {pool: convert(state, pool) for pool in get_args(Pool)}
    card = imported_card(classifiers["max"], uri, bands)
    chips = open_split(DatasetSettings(root=root, bands=card.bands, limit=limit), split)
    metrics = {
        pool: measure_classifier(model, card.scaling, shard(chips, chips.all, batch=16))
        for pool, model in classifiers.items()
    }
    best = max(metrics, key=lambda pool: float(metrics[pool]["accuracy"]))
    if metrics[best]["accuracy"] < MIN_ACCURACY:
        raise CheckpointError(
            "the imported classifier does not do what its authors report",
            got=f"accuracy {metrics[best]['accuracy']:.3f} on {metrics[best]['chips']} labelled chips",
            expected=f"at least {MIN_ACCURACY}",
            do="Its U-Net was probably built in another way than its shapes suggest; do not use it.",
        )
    card = imported_card(classifiers[best], uri, bands)
    data = card.data | {"checked on": root, "split": chips.split_hash}
    return classifiers[best], card.model_copy(update={"metrics": metrics, "data": data})


def import_program(
    uri: str | Path,
    bands: Sequence[str] | None,
    root: str | None = None,
    split: SplitName = "test",
    limit: int | None = None,
) -> tuple[Program, Card]:
    """A program of `torch.export` (.pt2) and its card, for chips of the size that it was exported for.

    Where there is a folder `root` of labelled chips, the card has its metrics on a split of them.

    Raises:
        CheckpointError: if the program is refused, takes no square chips, or gives more than one logit for each.
        DataError: if the labelled chips are of another size, or not laid out as published.
    """
    settings, program = read_program(str(uri))
    count, *sides = program.sizes or (0,)
    if len(sides) != 2 or sides[0] != sides[1] or not (count >= 1 and LEAST_CHIP <= sides[0] <= LARGEST_CHIP):
        expected = f"bands, side and side, {LEAST_CHIP} to {LARGEST_CHIP} pixels"
        raise CheckpointError(f"{uri} takes no square chips", got=program.sizes, expected=expected)
    check_output_columns(output_columns(program, count, sides[0]), 0, str(uri))
    card = Card(
        bands=_bands(uri, count, bands),
        scaling=Scaling.identity(count),
        classifier=settings,
        chip_size=sides[0],
        intended_use="What the authors of the imported program trained it for.",
        limits="Imported as it was exported: it sees reflectance, 0 to 1, and nothing else is known of it.",
        **_origin(uri),
    )
    if root is not None:
        chips = open_split(DatasetSettings(root=root, bands=card.bands, limit=limit), split)
        check_side({split: chips}, card.chip_size)
        metrics = {split: measure_classifier(program, card.scaling, shard(chips, chips.all, batch=16))}
        data = card.data | {"checked on": root, "split": chips.split_hash}
        card = card.model_copy(update={"metrics": metrics, "data": data})
    return program, card


def imported_card(classifier: Classifier, uri: str | Path, bands: Sequence[str] | None = None) -> Card:
    """The card of an imported classifier: it sees plain reflectance, of the usual bands for their number unless named.

    Raises:
        CheckpointError: if the bands are neither 3 nor 10 and not named, or not as many as named.
    """
    names = _bands(uri, classifier.settings.bands, bands)
    return Card(
        bands=names,
        scaling=Scaling.identity(len(names)),
        classifier=classifier.settings,
        preset="asos",
        intended_use="Score of naturalness (protected land) as trained by the authors of the imported file.",
        limits="Imported by shape. Compare its accuracy on labelled tiles with the published one before use.",
        **_origin(uri),
    )


def _bands(uri: str | Path, count: int, named: Sequence[str] | None) -> tuple[str, ...]:
    published = {3: SENTINEL2_BANDS[:3], len(SENTINEL2_BANDS): SENTINEL2_BANDS}
    names = tuple(named) if named else published.get(count, ())
    if len(names) != count or not set(names) <= set(SENTINEL2_BANDS):
        got = f"{count} input channels and bands {','.join(names) or 'unnamed'}"
        raise CheckpointError(f"the bands of {uri} are unclear", got=got, do="Name its bands in order with --bands.")
    return names


def _origin(uri: str | Path) -> dict[str, Any]:
    file, digest = str(uri).rsplit("/", 1)[-1], hashlib.sha256(_read(uri)).hexdigest()
    return {"kind": "classifier", "data": {"name": "imported", "file": file, "sha256": digest}}


def _read(uri: str | Path) -> bytes:
    try:
        with fsspec.open(str(uri), "rb") as file:
            data: bytes = file.read()
    except Exception as error:  # every store has its own errors
        raise CheckpointError(f"{uri} cannot be read", got=error) from error
    return data


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers put before all of them."""
    for prefix in ("module.", "model.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state):
            return _strip_prefixes({name.removeprefix(prefix): value for name, value in state.items()})
    return state
