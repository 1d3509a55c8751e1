import pytest
import torch
from torch import nn

from spacex.evaluation import counterfactual
from spacex.evaluation.methods.chip_batch import ChipBatch


def test_quality_of_a_real_pair_adds_up(tiny_checkpoint):
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.1
    chips = ChipBatch.of(tiny_checkpoint, x, ["a", "b"])
    got = counterfactual.quality(chips, tiny_checkpoint.classifier)
    assert all(values.shape == (2,) for values in got.values())
    torch.testing.assert_close(got["logit"], got["second_logit"])
    torch.testing.assert_close(got["logit_minus"], got["second_minus"])
    torch.testing.assert_close(got["l1_plus"], (chips.x_plus - x).abs().mean(dim=(1, 2, 3)))
    rising = (got["logit_minus"] < got["logit"]) & (got["logit"] < got["logit_plus"])
    torch.testing.assert_close(got["monotone"], rising.float())


def test_the_size_of_a_change_is_counted_by_hand():
    x = torch.full((1, 2, 4, 4), 0.5)
    changed = x.clone()
    changed[0, :, 0, 0] += 0.1
    changed[0, 0, 1, 1] += 0.6
    got = counterfactual.size_of_change(x, changed)
    assert float(got["l1"]) == pytest.approx((0.2 + 0.6) / 32)
    assert float(got["linf"]) == pytest.approx(0.6)
    assert float(got["changed"]) == pytest.approx(2 / 16)
    assert float(got["outside"]) == pytest.approx(1 / 32)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_checkerboard_stands_out_and_smooth_noise_does_not(period):
    torch.manual_seed(0)
    noise = torch.rand(1, 3, 256, 256) - 0.5
    place = torch.arange(256)
    board = (((place[:, None] + place) // (period // 2)) % 2).float() - 0.5
    assert float(counterfactual.checkerboard(noise)) == pytest.approx(1.0, abs=0.25)
    assert float(counterfactual.checkerboard(noise + 0.5 * board)) > 3
    assert float(counterfactual.checkerboard(torch.zeros(1, 3, 256, 256))) == 1.0


def test_a_change_at_the_border_only_and_no_change_at_all():
    change = torch.ones(1, 3, 64, 64)
    assert float(counterfactual.border_energy(change)) == pytest.approx(1.0)
    change[:, :, 16:-16, 16:-16] = 0.5
    assert float(counterfactual.border_energy(change)) == pytest.approx(2.0)
    assert float(counterfactual.border_energy(change * 0)) == 0.0


class Mean(nn.Module):
    def forward(self, u):
        return u.mean(dim=(1, 2, 3))


def test_transfer_counts_only_chips_the_second_classifier_takes_for_natural():
    u = torch.stack([torch.ones(3, 8, 8), -torch.ones(3, 8, 8)])
    got = counterfactual.transfer(Mean(), u, u + 1, u - 2)
    assert float(got["second_flipped"][0]) == 1.0
    assert torch.isnan(got["second_flipped"][1])
    assert got["second_minus"].tolist() == [-1.0, -3.0]
