"""RISE on networks whose answer is known."""

import pytest
import torch

from spacex.evaluation.methods import rise


def linear(weights):
    return lambda u: (u * weights).sum(dim=(1, 2, 3))


def test_it_is_the_published_sum_mask_by_mask():
    torch.manual_seed(0)
    u, weights = torch.rand(2, 3, 16, 16), torch.rand(3, 16, 16)
    seen = rise.masks(7, 4, 16)
    expected = sum(linear(weights)(u * mask)[:, None, None] * mask for mask in seen) / (7 * 0.5)
    torch.testing.assert_close(rise.rise(linear(weights), u, seen, batch=4), expected)


def test_a_linear_network_on_whole_cells_gives_its_own_weights():
    # with independent cells, E[f(x m) m_j] / p = p * sum(w x) + (1 - p) * w_j x_j (Petsiuk et al., appendix)
    torch.manual_seed(1)
    cells = torch.tensor([[0.0, 1.0], [3.0, 0.5]])
    weights = cells.repeat_interleave(4, 0).repeat_interleave(4, 1)[None] / 16
    got = rise.rise(linear(weights), torch.ones(1, 1, 8, 8), rise.masks(20_000, 2, 8, shift=False), batch=500)
    expected = 0.5 * cells.sum() + 0.5 * cells
    torch.testing.assert_close(got[0, ::4, ::4], expected, atol=0.05, rtol=0)


def test_the_only_place_that_matters_is_the_highest():
    weights = torch.zeros(1, 64, 64)
    weights[0, 40:56, 8:24] = 1 / 256
    got = rise.rise(linear(weights), torch.ones(1, 1, 64, 64), rise.masks(800, 4, 64), batch=200)[0]
    row, col = divmod(int(got.argmax()), 64)
    assert 40 <= row < 56
    assert 8 <= col < 24


def test_masks_are_shifted_soft_and_keep_their_share():
    seen = rise.masks(400, 4, 50)
    assert seen.shape == (400, 1, 50, 50)
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.02)
    assert ((seen > 0) & (seen < 1)).any()
    assert torch.equal(rise.masks(3, 4, 50, seed=5), rise.masks(3, 4, 50, seed=5))
