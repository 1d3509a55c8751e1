"""ASOS on heads whose answer is known."""

import pytest
import torch
from torch import nn

from spacex.evaluation.methods import asos


class Mean(nn.Module):
    """Logit = weights · mean of the maps: every pixel with activation a adds weights · a / pixels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, maps):
        return (maps.mean(dim=(2, 3)) * self.weights).sum(dim=1, keepdim=True)


def activation():
    maps = torch.zeros(1, 2, 20, 20)
    maps[0, 0, :10], maps[0, 1, 10:] = 0.75, -0.55
    return maps


def test_the_sensitivity_of_a_cube_is_the_fall_per_occluded_pixel():
    maps, head = activation(), Mean([4.0, 2.0])
    space = asos.fit([maps], head, edge=0.1, reach=1.0)
    score = torch.sigmoid(torch.tensor(4 * 0.375 - 2 * 0.275))
    without_top, without_bottom = torch.sigmoid(torch.tensor(-0.55)), torch.sigmoid(torch.tensor(1.5))
    drawn = space.maps(maps)[0]
    assert drawn[0, 0] == pytest.approx(float(score - without_top) / 200, rel=1e-5)
    assert drawn[19, 0] == pytest.approx(float(score - without_bottom) / 200, rel=1e-5)
    assert drawn[0, 0] > 0 > drawn[19, 0]  # the first speaks for the class, the second against it


def test_cubes_seen_in_too_few_pixels_stay_silent():
    assert asos.fit([activation()], Mean([4.0, 2.0]), edge=0.1, reach=1.0, least=201).sensitivity.abs().sum() == 0


def test_the_reach_takes_neighbouring_cubes_along():
    maps = torch.zeros(1, 1, 20, 20)
    maps[0, 0, :10], maps[0, 0, 10:] = 0.45, 0.55  # centres of neighbouring cubes of edge 0.1
    alone = asos.fit([maps], Mean([4.0]), edge=0.1, reach=1.0)
    wide = asos.fit([maps], Mean([4.0]), edge=0.1, reach=2.1)
    assert alone.pixels.max() == 200
    assert wide.pixels.max() == 400


def test_several_chips_add_falls_and_pixels():
    maps, head = activation(), Mean([4.0, 2.0])
    once, twice = asos.fit([maps], head), asos.fit([maps, maps], head)
    torch.testing.assert_close(once.sensitivity, twice.sensitivity)
    torch.testing.assert_close(2 * once.pixels, twice.pixels)


def test_activation_space_is_cut_from_minus_one_and_its_ends_belong_to_the_outer_cubes():
    values = torch.tensor([[-1.0, -0.81, -0.79, 0.99, 1.0]])
    assert asos.cube_of(values, 0.2).tolist() == [[0, 0, 1, 9, 9]]


def test_no_chips_is_an_error():
    with pytest.raises(ValueError, match="at least one chip"):
        asos.fit([], Mean([1.0]))
