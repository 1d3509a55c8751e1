"""From a card and its weights to networks ready to use, with every check made before anything large is built."""

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

GENERATORS = ("maximiser", "minimiser")
"""Parts of a checkpoint that are no classifiers."""


def part_builder(card: Card, part: str, trust: Collection[str]) -> Callable[[], nn.Module]:
    """A function that builds one of a card's networks, untrained.

    Raises:
        CheckpointError: if the classifier's module is not trusted or not there.
    """
    if part not in GENERATORS:
        return network_builder(card.classifier, trust)
    settings = card.generator
    return lambda: Generator(settings)


def load_network(
    card: Card, part: str, build: Callable[[], nn.Module], tensors: dict[str, Tensor], uri: str | Path
) -> nn.Module:
    """One of a card's networks with its weights, in eval mode and frozen; the classifier as one of n logits.

    `build` is of `part_builder`; the `uri` is for messages.

    Raises:
        CheckpointError: if the weights are not those of such a network, or it does not fit the card.
    """
    try:
        # a card may name networks that no memory holds, so shapes are compared on the meta device before anything is
        # built; even there each of a generator's blocks costs time, so their number is compared first
        blocks = card.generator.blocks if part in GENERATORS and card.generator else 0
        if blocks > len(tensors):
            raise RuntimeError(f"{len(tensors)} tensors for {blocks} blocks")
        expected, shapes = _shapes(build), {name: tensor.shape for name, tensor in tensors.items()}
        wrong = sorted(name for name in {*expected, *shapes} if expected.get(name) != shapes.get(name))
        if wrong:
            raise RuntimeError(f"{len(wrong)} tensors differ, such as {wrong[0]}")
        module = build()
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the {part} of {uri} does not have the shape its card tells", got=error) from error
    module = module.eval().requires_grad_(False)
    return module if part in GENERATORS else classifier_view(module, card)


def classifier_view(network: nn.Module, card: Card) -> nn.Module:
    """A network in eval mode as a classifier of one logit; a third party's is checked against its card on one chip.

    Raises:
        CheckpointError: if it cannot take the card's chips, gives other logits than its classes need, or lacks the
            features that the card names.
    """
    shape, bands, side = card.classifier, len(card.bands), card.chip_size
    native = isinstance(shape, ClassifierSettings)
    count = shape.outputs if isinstance(shape, ClassifierSettings) else output_columns(network, bands, side)
    check_output_columns(count, len(card.classes), "the card's classifier")
    if native and count == 1:
        return network
    features = () if native else find_features(network, torch.zeros(1, bands, side, side), card.features)
    return BinaryView(network, card.classes.index(card.target) if count > 1 else None, features).eval()


def _shapes(build: Callable[[], nn.Module]) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            network = build()
    except CheckpointError:  # some third-party networks compute numbers while they are built
        network = build()
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
