"""A few labelled chips of an embedded country that no shipped weights have seen."""

import pytest
import torch

from spacex.checkpoint import save_checkpoint

FRESH = 20_977
"""Seed of the country; nothing was trained or selected on it."""


@pytest.fixture(scope="session")
def fresh_chips(tmp_path_factory):
    """AnthroProtect's layout with truth: 12 natural test chips, 2 natural training chips."""
    from spacex.synthetic.dataset import build_dataset

    return build_dataset(tmp_path_factory.mktemp("fresh"), {"train": 4, "test": 24}, seed=FRESH, workers=0)


@pytest.fixture(scope="session")
def sure_checkpoint(tiny_checkpoint, tmp_path_factory):
    """The tiny checkpoint with a classifier that takes every chip for natural, so that none is left out."""
    modules = {name: getattr(tiny_checkpoint, name) for name in ("classifier", "maximiser", "minimiser")}
    bias = modules["classifier"].head[-1].bias
    before = bias.clone()
    with torch.no_grad():
        bias += 3.0
    card = tiny_checkpoint.card.model_copy(update={"hashes": {}})
    saved = save_checkpoint(tmp_path_factory.mktemp("sure"), card, modules, tiny_checkpoint.applicability)
    with torch.no_grad():
        bias.copy_(before)
    return saved
