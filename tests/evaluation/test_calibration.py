"""Promises of a region: kept to the digit where the classifier is linear, and compared as defined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import linregress
from torch import nn

from spacex.bootstrap import association, draw
from spacex.checkpoint import Checkpoint
from spacex.evaluation.calibration import square_sums, unit_calibration
from spacex.evaluation.methods.chip_batch import ChipBatch


class Sum(nn.Module):
    """A linear classifier."""

    def __init__(self):
        super().__init__()
        self.weigh = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, u):
        return self.weigh(u).sum(dim=(1, 2, 3))


@pytest.fixture
def x():
    return torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.1


def test_a_linear_classifier_keeps_every_promise(tiny_checkpoint, x):
    torch.manual_seed(0)
    parts = tiny_checkpoint.maximiser, tiny_checkpoint.minimiser
    chips = ChipBatch.of(Checkpoint(tiny_checkpoint.card, Sum().eval(), *parts), x, list("abc"))
    found = square_sums(chips, ("lift", "path"))
    assert len(found) == 3 * (16 + 4)
    np.testing.assert_allclose(found["lift"], found["change"], rtol=1e-4)
    np.testing.assert_allclose(found["path"], found["change"], rtol=1e-4)
    assert (found["lift, absolute"] >= found["lift"].abs() * (1 - 1e-5)).all()
    quarters = found[found["side"] == 128].groupby("chip")["lift"].sum()
    np.testing.assert_allclose(quarters, chips.lift.sum(dim=(1, 2, 3)).detach(), rtol=1e-4)
    whole = unit_calibration([found.assign(place=found["chip"].astype(str))], 100, 0)
    correlation, slope = whole["lift", 64]
    assert correlation.mean == pytest.approx(1, abs=1e-4)
    assert slope.mean == pytest.approx(1, abs=1e-3)


def test_a_classifier_that_saturates_breaks_them(tiny_checkpoint, x):
    """Half as much twice is not what it does at once: then the sums over the parts are not their effects."""
    chips = ChipBatch.of(tiny_checkpoint, x, list("abc"))
    found = square_sums(chips, ("lift",), (4,))
    assert not np.allclose(found["lift"], found["change"], rtol=1e-3, atol=1e-9)


def test_correlation_and_slope_are_those_of_least_squares():
    random = np.random.default_rng(0)
    x = random.normal(5, 2, 60)
    y = 3 * x + random.normal(0, 4, 60)
    places = [f"p{i // 6}" for i in range(60)]
    correlation, slope = association(x, y, draw(places, 500, 0))
    expected = linregress(x, y)
    assert correlation.mean == pytest.approx(expected.rvalue)
    assert slope.mean == pytest.approx(expected.slope)
    assert correlation.low < correlation.mean < correlation.high
    assert slope.low < 3 < slope.high
    assert slope.places == 10
    # one draw by hand: the second place three times, no other
    one = draw(places, 1, 0)
    one.weights[:] = 0
    one.weights[0, 1] = 3
    low = association(x, y, one)[1].low
    assert low == pytest.approx(linregress(x[6:12], y[6:12]).slope)


def test_what_does_not_vary_has_no_slope():
    correlation, slope = association(np.ones(4), np.arange(4.0), draw(list("aabb"), 10, 0))
    assert np.isnan(correlation.mean)
    assert np.isnan(slope.mean)


def test_sides_are_told_apart():
    frame = pd.DataFrame({"chip": 0, "side": [64, 64, 128, 128], "change": [1.0, 2, 1, 3], "lift": [1.0, 2, 1, 2],
                          "place": list("abab")})  # fmt: skip
    found = unit_calibration([frame], 10, 0)
    assert found["lift", 64][1].mean == pytest.approx(1)
    assert found["lift", 128][1].mean == pytest.approx(2)
