"""The sensitivity by place in a chip, against a classifier that weighs one half of it twice as much."""

import pytest
import torch
from torch import nn

from spacex.checkpoint import Checkpoint
from spacex.training.data import DatasetSettings, open_split
from spacex.training.sensitivity import CELL, measure_sensitivity


class Halves(nn.Module):
    """Sums a chip, its left half twice."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.register_buffer("weight", factor * torch.cat([torch.full((128,), 2.0), torch.ones(128)]))

    def forward(self, u):
        return (u * self.weight).sum(dim=(1, 2, 3))


@pytest.fixture
def train(tiny_data, tiny_checkpoint):
    return open_split(DatasetSettings(root=str(tiny_data), bands=tiny_checkpoint.card.bands), "train")


def test_a_half_that_counts_twice_is_twice_as_sensitive(train, tiny_checkpoint):
    parts = tiny_checkpoint.maximiser, tiny_checkpoint.minimiser
    double, plain = (measure_sensitivity(Checkpoint(tiny_checkpoint.card, network.eval(), *parts), train)
                     for network in (Halves(), nn.Sequential(nn.Flatten(), _Sum())))  # fmt: skip
    assert double.shape == (256 // CELL, 256 // CELL)
    assert float(double.mean()) == pytest.approx(1)
    # what the chips hold at a place is in both alike
    ratio = double / plain
    torch.testing.assert_close(ratio[:, :32] / ratio[:, 32:].mean(), torch.full((64, 32), 2.0), rtol=0.05, atol=0)


def test_of_empty_maps_nothing_is_known(train, tiny_checkpoint):
    parts = tiny_checkpoint.maximiser, tiny_checkpoint.minimiser
    assert measure_sensitivity(Checkpoint(tiny_checkpoint.card, Halves(0.0).eval(), *parts), train) is None


class _Sum(nn.Module):
    def forward(self, flat):
        return flat.sum(dim=1)
