"""From a card and its weights to networks that can be used, every doubt settled before anything large is built."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.model_card import Card
from spacex.models.classes import BinaryView, check_output_columns, output_columns
from spacex.models.classifier import ClassifierSettings
from spacex.models.features import find_features
from spacex.models.generator import Generator
from spacex.models.third_party import network_builder


def maker(card: Card, part: str, trust: Collection[str]) -> Callable[[], nn.Module]:
    """What builds one of a card's networks, untrained.

    Args:
        card: of the checkpoint.
        part: "classifier", "maximiser" or "minimiser".
        trust: modules that may be imported.

    Raises:
        CheckpointError: if the classifier's module is not trusted or not there.
    """
    if part == "classifier":
        return network_builder(card.classifier, trust)
    assert card.generator is not None
    settings = card.generator
    return lambda: Generator(settings)


def build(
    card: Card, part: str, make: Callable[[], nn.Module], tensors: dict[str, Tensor], uri: str | Path
) -> nn.Module:
    """One of a card's networks with its weights, in eval mode and frozen; the classifier as one of n logits.

    Args:
        card: of the checkpoint.
        part: "classifier", "maximiser" or "minimiser".
        make: from `maker`.
        tensors: its weights by name.
        uri: of the checkpoint, for messages.

    Raises:
        CheckpointError: if the weights are not those of such a network, or it does not fit the card.
    """
    try:
        blocks = card.generator.blocks if part != "classifier" and card.generator else 0
        if blocks > len(tensors):
            raise RuntimeError(f"{len(tensors)} tensors for {blocks} blocks")
        _compare(make, tensors)
        module = make()
        module.load_state_dict(tensors)
    except RuntimeError as error:
        what = f"the {part} of {uri} does not have the shape its card tells"
        raise CheckpointError(what, got=error) from error
    module = module.eval().requires_grad_(False)
    return judge(module, card) if part == "classifier" else module


def judge(network: nn.Module, card: Card) -> nn.Module:
    """A bare network as a classifier of one logit, checked against its card on one chip if it is not our own.

    Args:
        network: in eval mode.
        card: what it was made for.

    Raises:
        CheckpointError: if it cannot judge the card's chips, gives other logits than its classes need, or lacks the
            features that the card names.
    """
    shape, bands, side = card.classifier, len(card.bands), card.chip_size
    own = isinstance(shape, ClassifierSettings)
    count = shape.outputs if isinstance(shape, ClassifierSettings) else output_columns(network, bands, side)
    check_output_columns(count, len(card.classes), "the card's classifier")
    if own and count == 1:
        return network
    features = () if own else find_features(network, torch.zeros(1, bands, side, side), card.features)
    return BinaryView(network, card.classes.index(card.target) if count > 1 else None, features).eval()


def _compare(make: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> None:
    """Shapes alone, before anything is built: a card may tell of networks that no memory holds."""
    told = _shapes(make)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in {*told, *found} if told.get(name) != found.get(name))
    if wrong:
        raise RuntimeError(f"{len(wrong)} tensors differ, such as {wrong[0]}")


def _shapes(make: Callable[[], nn.Module]) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            network = make()
    except CheckpointError:  # some foreign networks compute numbers while they are built
        network = make()
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
