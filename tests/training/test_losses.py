import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacex.training import losses

LOGIT = st.floats(-8, 8)


def test_similarity_and_cycle_by_hand():
    x, changed = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -3.0], [0.0, 0.0]]]])
    assert losses.similarity(x, changed) == 1.0
    assert losses.cycle(x, changed) == 1.0


def test_discriminate_by_hand():
    real, fake = torch.tensor([0.0]), torch.tensor([0.0])
    assert losses.discriminator(real, fake).item() == pytest.approx(math.log(2))
    assert losses.discriminator(real, fake, "least-squares").item() == 0.5 * (1 + 0)


def test_fool_is_equation_4_as_printed():
    patches = torch.tensor([0.5, 3.0])
    assert losses.adversarial(patches, "least-squares").item() == pytest.approx(((0.5 - 1) ** 2 + (3 - 1) ** 2) / 2)


@given(LOGIT)
def test_activation_bce_is_the_cross_entropy_of_the_score(logit):
    z = torch.tensor([logit], dtype=torch.float64)
    score = torch.sigmoid(z).item()
    assert losses.activation_bce(z, "raise").item() == pytest.approx(-math.log(score), rel=1e-5)
    assert losses.activation_bce(z, "lower").item() == pytest.approx(-math.log(1 - score), rel=1e-3)


@given(LOGIT, st.floats(0.5, 4))
def test_margin_is_zero_beyond_it_and_linear_before(logit, margin):
    z = torch.tensor([logit])
    assert losses.activation_margin(z, "raise", margin).item() == pytest.approx(max(0, margin - logit), abs=1e-5)
    assert losses.activation_margin(z, "lower", margin).item() == pytest.approx(max(0, margin + logit), abs=1e-5)


def test_each_chip_may_have_a_margin_of_its_own():
    z, margins = torch.tensor([-1.0, 2.0, 0.5]), torch.tensor([0.5, 1.0, 2.0])
    assert losses.activation_margin(z, "lower", margins).item() == pytest.approx((0 + 3 + 2.5) / 3)


def test_roughness_by_hand():
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1.0  # one of three column differences is 1, no row difference
    assert losses.total_variation(step).item() == pytest.approx(1 / 3)
    assert losses.total_variation(torch.ones(1, 2, 5, 5)).item() == 0


def test_a_group_charges_a_pixel_once_for_all_its_bands():
    x, one, all_bands = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    one[0, 0, 0, 0], all_bands[0, :, 0, 0] = 2.0, 1.0
    for changed in (one, all_bands):  # four bands by 1 cost as much as one by 2: both have a root mean square of 1
        assert losses.similarity(x, changed, "group").item() == pytest.approx(1 / 4, rel=1e-3)


def test_no_change_costs_nothing_and_has_a_gradient():
    x = torch.zeros(1, 3, 4, 4)
    changed = torch.zeros(1, 3, 4, 4, requires_grad=True)
    total = losses.similarity(x, changed, "group") + losses.total_variation(changed - x, "group")
    total.backward()
    assert abs(total.item()) < 1e-8
    assert changed.grad.isfinite().all()


def test_roughness_of_a_group_by_hand():
    step = torch.zeros(1, 2, 4, 4)
    step[:, 0, :, 2:] = 1.0  # in one of two bands, across one of three columns
    assert losses.total_variation(step, "group").item() == pytest.approx(math.sqrt(1 / 2) / 3, rel=1e-3)


@pytest.mark.parametrize("size", ["l1", "group"])
def test_a_spot_that_is_drawn_costs_edges_and_one_that_is_taken_away_does_not(size):
    flat = torch.zeros(1, 2, 8, 8)
    spot = flat.clone()
    spot[..., 2:4, 2:4] = 1.0
    assert losses.added_edges(spot, flat, size).item() == pytest.approx(0, abs=1e-5)
    assert losses.added_edges(spot, spot, size).item() == 0
    pixels, halved, quartered = 2 * 4 / (7 * 8), 2 * 2 / (3 * 4), 2 * 0.25 / (1 * 2)  # at four pixels it is 1/4 high
    assert losses.added_edges(flat, spot, size).item() == pytest.approx(pixels + halved + quartered, rel=1e-3)


def test_a_shift_of_everything_draws_no_edges_whatever_there_is():
    x, shift = torch.rand(2, 3, 16, 16), torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1)
    assert losses.added_edges(x, x + shift).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_every_loss_is_a_mean(n):
    x, changed = torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8)
    z = torch.tensor([0.7])
    many = x.repeat(n, 1, 1, 1), changed.repeat(n, 1, 1, 1)
    assert losses.similarity(*many).item() == pytest.approx(losses.similarity(x, changed).item())
    assert losses.activation_margin(z.repeat(n), "lower", 2).item() == pytest.approx(2.7)
    assert losses.total_variation(many[0]).item() == pytest.approx(losses.total_variation(x).item())
    assert losses.added_edges(*many).item() == pytest.approx(losses.added_edges(x, changed).item())
