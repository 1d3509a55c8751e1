"""Checkpoints: a folder with `card.json` and safetensors, on any store fsspec knows.

The card is the one place that knows bands, order, scaling and chip size. Weights are files named by their own content,
and the card, which names them, is written last and atomically. Whoever reads a checkpoint while it is written, or after
the writer was killed, therefore sees the old one or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from spacex.checkpoint_networks import load_network, part_builder
from spacex.errors import CheckpointError
from spacex.model_card import FORMAT_VERSION, Card, Scaling
from spacex.models.applicability import Applicability, count_features
from spacex.models.classes import check_numbers, unwrap
from spacex.models.third_party import ThirdPartySettings
from spacex.storage import write_bytes
from spacex.weights import SHIPPED

__all__ = ["Card", "Checkpoint", "Scaling", "load_checkpoint", "read_card", "save_checkpoint"]

MAX_CARD_BYTES = 4 * 2**20
"""Largest card that is read; those of real runs have some kilobytes."""


@dataclass(frozen=True)
class Checkpoint:
    """Networks ready to use (eval mode, no gradients to their weights) and their card."""

    card: Card
    """What they are and were made for."""
    classifier: nn.Module
    """Standardised chips (n, bands, chip_size, chip_size) to logits (n,), whatever network does it."""
    maximiser: nn.Module | None = None
    """Standardised chips to chips with a higher score; None in a classifier's checkpoint."""
    minimiser: nn.Module | None = None
    """Standardised chips to chips with a lower score; None in a classifier's checkpoint."""
    further: tuple[nn.Module, ...] = ()
    """More classifiers of the same training, of which `classifier` is the first; none in most checkpoints."""
    applicability: Applicability | None = None
    """How unlike the training chips a chip is; None where nothing is known."""
    sensitivity: Tensor | None = None
    """(cells, cells) float32, positive: mean lift by place in a chip, by which maps are divided; None if unknown."""
    uri: str = ""
    """Where they were read from or written to."""
    trust: tuple[str, ...] = ()
    """Modules the user trusts; workers load the networks with them again."""

    @property
    def digest(self) -> str:
        """Hash of what decides a map's values: weights, bands, scaling, shapes, frame and stride."""
        return self.card.digest

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks by the names of the card's parts, as `save_checkpoint` takes them."""
        generators = [one for one in (self.maximiser, self.minimiser) if one is not None]
        return dict(zip(self.card.parts, (self.classifier, *generators, *self.further), strict=True))


def save_checkpoint(
    uri: str | Path,
    card: Card,
    modules: dict[str, nn.Module],
    applicability: Applicability | None = None,
    sensitivity: Tensor | None = None,
) -> Checkpoint:
    """Write networks and their card; an older checkpoint at `uri` stays whole until the new one is.

    Args:
        uri: a folder on any store fsspec knows (`runs/classifier`, `s3://bucket/run`, `memory://x`).
        card: without hashes and applicability; they are filled in here.
        modules: "classifier", for kind "patterns" also "maximiser" and "minimiser", and "member2", … where the card
            has members. Classifiers are those of a checkpoint, or the network itself that the card's `classifier`
            builds.
        applicability: of the classifier, where it is known.
        sensitivity: of the classifier to places in a chip, where it is known.

    Returns:
        The checkpoint as it reads back from the store.

    Raises:
        CheckpointError: if the modules are not those of the card's kind.
    """
    if set(modules) != set(card.parts):
        what = f"these modules do not make a checkpoint of kind {card.kind!r}"
        raise CheckpointError(what, got=sorted(modules), expected=card.parts)
    fs, folder = _open(uri)
    states = {name: unwrap(module).state_dict() for name, module in modules.items()}
    if applicability is not None:
        states["applicability"] = applicability.tensors()
    if sensitivity is not None:
        states["sensitivity"] = {"cells": sensitivity}
    hashes = {}
    for part, state in states.items():
        data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})
        digest = hashlib.sha256(data).hexdigest()
        name = f"{part}-{digest[:8]}.safetensors"
        hashes[name] = digest
        write_bytes(f"{str(uri).rstrip('/')}/{name}", data, durable=True)
    summary = None if applicability is None else applicability.summary
    card = card.model_copy(update={"hashes": hashes, "applicability": summary})
    write_card(uri, card)
    # weights that no card names any more; object stores remember listings from before
    fs.invalidate_cache(folder)
    for path in fs.ls(folder, detail=False):
        name = path.rsplit("/", 1)[-1]
        if name.endswith(".safetensors") and name not in hashes:
            fs.rm_file(path)
    # whoever has built the network has imported its module
    trust = [card.classifier.module] if isinstance(card.classifier, ThirdPartySettings) else []
    return load_checkpoint(uri, trust=trust)


def write_card(uri: str | Path, card: Card) -> None:
    """Write the card of the checkpoint at `uri`, whole or not at all; its weights must be those that the card names."""
    write_bytes(f"{str(uri).rstrip('/')}/card.json", card.model_dump_json(indent=2).encode(), durable=True)


def load_checkpoint(
    uri: str | Path = "europe",
    *,
    bands: tuple[str, ...] | None = None,
    device: str | torch.device = "cpu",
    trust: Collection[str] = (),
) -> Checkpoint:
    """Read a checkpoint and check that it is whole and fits.

    Args:
        uri: its folder on any store fsspec knows, or the name of one that ships with this package: ``europe``, trained
            on Sentinel-2 chips of 34 countries, or ``demo``, trained on the embedded synthetic landscape.
        bands: the bands the caller has, in the caller's order; None to take whatever the card says.
        device: where the networks go; they are float32.
        trust: modules that may be imported if the card names one of them as its classifier's
            (`spacex.models.third_party`); their code runs on this machine.

    Raises:
        CheckpointError: if it is missing, damaged, of an unknown format, made for other bands, or needs a module that
            is not trusted or not installed.

    >>> import spacex
    >>> spacex.load_checkpoint().card.bands
    ('B02', 'B03', 'B04')
    """
    fs, folder = _open(uri)
    card = _read_card(fs, folder, uri)
    if bands is not None and tuple(bands) != card.bands:
        raise CheckpointError(
            f"the checkpoint {uri} was made for other bands",
            got=",".join(bands),
            expected=",".join(card.bands),
            do="Give these bands in this order, or choose another checkpoint.",
        )
    # trust is checked for all parts before any weights are read
    builders = {part: part_builder(card, part, trust) for part in card.parts}
    weights = {part: _read_weights(fs, folder, card, part) for part in builders}
    modules = {part: load_network(card, part, build, weights[part], uri) for part, build in builders.items()}
    modules = {part: module.to(device) for part, module in modules.items()}
    applicability = None
    if card.applicability is not None:
        features = count_features(modules["classifier"], len(card.bands), card.chip_size)
        tensors = _read_weights(fs, folder, card, "applicability")
        applicability = Applicability.from_tensors(tensors, features, len(card.bands)).to(torch.device(device))
    sensitivity = _read_sensitivity(fs, folder, card)
    further = tuple(modules.pop(part) for part in card.parts if part.startswith("member"))
    named: dict[str, Any] = {"uri": str(uri), "trust": tuple(trust), "further": further, **modules}
    return Checkpoint(card, applicability=applicability, sensitivity=sensitivity, **named)


def read_card(uri: str | Path) -> Card:
    """The card alone, without reading any weights; raises CheckpointError like :func:`load_checkpoint`."""
    return _read_card(*_open(uri), uri)


def _open(uri: str | Path) -> tuple[Any, str]:
    try:
        fs, folder = fsspec.core.url_to_fs(str(SHIPPED.get(str(uri), uri)))
    except (ValueError, ImportError, OSError) as error:
        raise CheckpointError("this is no place for a checkpoint", got=f"{uri} ({error})") from error
    return fs, folder.rstrip("/")


def _read_card(fs: Any, folder: str, uri: str | Path) -> Card:
    try:
        text = fs.cat_file(f"{folder}/card.json", start=0, end=MAX_CARD_BYTES + 1)
    except Exception as error:  # every store has its own errors for "not there" and "not allowed"
        do = "Give the folder that a training job or jobs/import_checkpoint.py printed."
        raise CheckpointError(f"no checkpoint at {uri}", got=error or "no card.json", do=do) from error
    if len(text) > MAX_CARD_BYTES:
        raise CheckpointError(f"the card of {uri} is too large", got=f"more than {MAX_CARD_BYTES} bytes")
    try:
        card: dict[str, Any] = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the card of {uri} is not JSON", got=error) from error
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint {uri} has another format",
            got=f"version {card.get('format_version')}",
            expected=f"version {FORMAT_VERSION}",
            do="Use the version of this package that wrote it.",
        )
    try:
        return Card.model_validate(card)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "card"
        raise CheckpointError(f"the card of {uri} is damaged at {name}", got=first["msg"]) from error


def _read_sensitivity(fs: Any, folder: str, card: Card) -> Tensor | None:
    if not card.evened:
        return None
    cells = _read_weights(fs, folder, card, "sensitivity").get("cells", torch.zeros(0))
    if cells.ndim != 2 or not 1 <= min(cells.shape) == max(cells.shape) <= card.chip_size:
        got, expected = tuple(cells.shape), f"a square of at most {card.chip_size}"
        raise CheckpointError(f"the sensitivity of {folder} does not fit", got=got, expected=expected)
    if not bool((cells > 0).all() & cells.isfinite().all()):
        raise CheckpointError(f"the sensitivity of {folder} is damaged", got="cells that are not positive")
    return cells


def _read_weights(fs: Any, folder: str, card: Card, part: str) -> dict[str, Tensor]:
    names = [name for name in card.hashes if name.startswith(f"{part}-") and "/" not in name]
    if len(names) != 1:
        what = f"the card of {folder} names no weights for the {part}"
        raise CheckpointError(what, got=sorted(card.hashes))
    try:
        data: bytes = fs.cat_file(f"{folder}/{names[0]}")
    except Exception as error:  # every store has its own errors
        raise CheckpointError(f"weights are missing: {folder}/{names[0]}", got=error) from error
    if hashlib.sha256(data).hexdigest() != card.hashes[names[0]]:
        what, do = f"{folder}/{names[0]} is damaged", "Copy the checkpoint again."
        raise CheckpointError(what, got="another SHA-256 than the card's", do=do)
    try:
        tensors = load(data)
    except Exception as error:  # of Rust, of json, or of torch, by what is wrong with the file
        what = f"{folder}/{names[0]} is damaged"
        raise CheckpointError(what, got=error, expected="safetensors", do="Copy the checkpoint again.") from error
    check_numbers(tensors, f"{folder}/{names[0]}")
    return tensors
