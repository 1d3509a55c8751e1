import pytest
import torch

from spacex.evaluation import perturbation


def mean_score(u):
    return u.mean(dim=(1, 2, 3))


def ramp():
    """A chip whose left half is 1, and the map that says so exactly."""
    u = torch.zeros(1, 1, 8, 8)
    u[..., :4] = 1.0
    return u, u[:, 0].clone()


def test_areas_of_a_mean_are_worked_out_by_hand():
    # deletion: the score falls linearly from 1/2 to 0 over the first half of the pixels, then stays: 1/2 * 1/2 * 1/2
    u, best = ramp()
    deletion, insertion = perturbation.areas(mean_score, u, torch.zeros_like(u), best, steps=8)
    assert float(deletion) == pytest.approx(1 / 8)
    assert float(insertion) == pytest.approx(1 / 2 - 1 / 8)


def test_the_worst_map_turns_the_areas_round():
    u, best = ramp()
    deletion, insertion = perturbation.areas(mean_score, u, torch.zeros_like(u), 1 - best, steps=8)
    assert float(deletion) == pytest.approx(1 / 2 - 1 / 8)
    assert float(insertion) == pytest.approx(1 / 8)


def test_batches_do_not_change_the_answer():
    torch.manual_seed(0)
    u, maps = torch.rand(3, 2, 16, 16), torch.rand(3, 16, 16)
    fill = perturbation.filled(u, "mean")
    small = perturbation.areas(mean_score, u, fill, maps, batch=2)
    large = perturbation.areas(mean_score, u, fill, maps, batch=100)
    torch.testing.assert_close(small, large)


def test_fills_are_the_mean_a_blur_or_another_chip():
    torch.manual_seed(0)
    u, other = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(perturbation.filled(u, "mean")[0, :, 5, 7], u[0].mean(dim=(1, 2)))
    blurred = perturbation.filled(u, "blur")
    assert blurred.std() < 0.2 * u.std()
    torch.testing.assert_close(blurred.mean(), u.mean(), rtol=0.01, atol=0)
    assert perturbation.filled(u, "other", other) is other
    with pytest.raises(ValueError, match="other class"):
        perturbation.filled(u, "other")


def test_a_single_bright_pixel_is_spread_over_thirty_one():
    u = torch.zeros(1, 1, 101, 101)
    u[0, 0, 50, 50] = 1.0
    row = perturbation.filled(u, "blur")[0, 0, 50]
    assert row.nonzero().flatten().tolist() == list(range(35, 66))
