import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacex.training.augment import (
    EDGES,
    add_blotches,
    draw_blotches,
    draw_partners,
    draw_per_band,
    draw_strips,
    mix_strip,
    quarter_turns,
    random_jitter,
    random_zoom,
)
from spacex.training.batches import seeded


@given(st.sampled_from(EDGES), st.floats(0, 0.5))
def test_a_strip_covers_exactly_the_area_its_label_says(edge, share):
    mixed, area = mix_strip(torch.zeros(2, 16, 16), torch.ones(2, 16, 16), edge, share)
    assert mixed.mean().item() == pytest.approx(area)
    assert abs(area - share) <= 0.5 / 16 + 1e-9


@pytest.mark.parametrize(
    ("edge", "where"),
    [("top", (0, 5)), ("bottom", (15, 5)), ("left", (5, 0)), ("right", (5, 15))],
)
def test_a_strip_lies_along_its_edge_and_keeps_its_place(edge, where):
    other = torch.arange(256.0).view(1, 16, 16)
    mixed, _ = mix_strip(torch.full((1, 16, 16), -1.0), other, edge, 0.25)
    assert mixed[(0, *where)] == other[(0, *where)]
    assert (mixed == -1).sum() == 16 * 12


def test_strips_are_drawn_as_often_and_as_wide_as_asked():
    edges, shares = draw_strips(4000, 0.8, 0.5, seeded("strips"))
    assert (shares > 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert shares.max() <= 0.5
    assert shares[shares > 0].mean().item() == pytest.approx(0.25, abs=0.02)
    assert set(edges.tolist()) == {0, 1, 2, 3}


def test_partners_have_the_other_label():
    label = torch.tensor([0.0, 1, 1, 0, 1])
    assert (label[draw_partners(label, seeded(1))] == 1 - label).all()


def test_a_batch_of_one_label_keeps_its_own_chips():
    assert draw_partners(torch.ones(3), seeded(1)).tolist() == [0, 1, 2]


def test_four_quarter_turns_are_none():
    x = torch.rand(2, 3, 8, 8)
    once = quarter_turns(x, torch.tensor([1, 3]), torch.tensor([False, False]))
    assert torch.equal(quarter_turns(once, torch.tensor([3, 1]), torch.tensor([False, False])), x)
    assert not torch.equal(once, x)


@given(st.integers(0, 6), st.integers(0, 1000))
def test_jitter_moves_pixels_without_inventing_any(reach, seed):
    x = torch.arange(256.0).view(1, 1, 16, 16)
    moved = random_jitter(x, reach, seeded(seed))
    assert moved.shape == x.shape
    assert set(moved.flatten().tolist()) <= set(x.flatten().tolist())
    assert len(set(moved.flatten().tolist())) >= (16 - reach) ** 2


def test_jitter_lets_gradients_through():
    x = torch.rand(1, 1, 16, 16, requires_grad=True)
    random_jitter(x, 3, seeded(0)).sum().backward()
    assert x.grad.sum().item() == pytest.approx(256)


@given(st.floats(0.3, 1.0), st.integers(0, 50))
def test_zooming_shows_a_square_of_the_picture_enlarged_or_the_picture_itself(least, seed):
    side = 32
    columns = torch.arange(side, dtype=torch.float32).expand(1, 1, side, side)
    seen = random_zoom(columns, least, seeded(seed))
    assert seen.shape == columns.shape
    assert seen.min() >= 0
    assert seen.max() <= side - 1
    steps = seen.diff(dim=-1)[0, 0, :, 4:-4]
    # a square of s pixels enlarged to 32: neighbours differ by s / 32, everywhere the same
    assert steps.std() < 1e-4
    assert least * side - 1 <= steps.mean() * side <= side + 1e-3


def test_zooming_lets_gradients_through():
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    for seed in range(6):
        random_zoom(x, 0.5, seeded(seed)).sum().backward()
    assert (x.grad > 0).any()


@given(chance=st.floats(0, 1), seed=st.integers(0, 99))
def test_blotches_give_as_much_of_a_chip_as_was_drawn_one_foreign_colour(chance, seed):
    u = torch.randn(3, 2, 64, 64, generator=seeded("land", seed))
    drawn = draw_blotches(3, 2, chance, seeded("blotches", seed))
    change = add_blotches(u, drawn) - u
    changed = change.abs().amax(dim=1) > 1e-6
    for chip in range(3):
        colour = drawn.colour[chip, :, 0, 0]
        wanted = float(drawn.share[chip]) if colour.any() else 0.0
        assert float(changed[chip].float().mean()) == pytest.approx(wanted, abs=2 / 64**2)
        # everywhere the same colour, if not everywhere as much of it
        assert torch.allclose(change[chip, 0] * colour[1], change[chip, 1] * colour[0], atol=1e-4)


def test_as_many_chips_get_blotches_as_asked():
    drawn = draw_blotches(2000, 3, 0.3, seeded("many"))
    assert float(drawn.colour.any(dim=1).float().mean()) == pytest.approx(0.3, abs=0.04)
    assert float(drawn.share.min()) >= 0.02
    assert float(drawn.share.max()) <= 0.15


def test_gains_and_offsets_have_the_spread_they_are_asked_for():
    drawn = draw_per_band(4000, 3, (0.15, 0.08), seeded("gains"))
    assert drawn.shape == (4000, 3, 1, 1)
    common = drawn.mean(dim=1)
    # of a mean of three bands the common part has .15, and each band's own .08 / sqrt(3)
    assert common.std().item() == pytest.approx((0.15**2 + 0.08**2 / 3) ** 0.5, rel=0.05)
    assert (drawn[:, 0] - drawn[:, 1]).std().item() == pytest.approx(0.08 * 2**0.5, rel=0.05)
    assert not draw_per_band(4, 3, (0.0, 0.0), seeded("gains")).any()
