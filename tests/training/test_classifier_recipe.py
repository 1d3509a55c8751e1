"""What single settings of the classifier's recipe do to a batch, its labels and the weights that are kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from spacex.model_card import Scaling
from spacex.training.augment import quarter_mosaics
from spacex.training.batches import seeded
from spacex.training.classifier import ClassifierLearner
from spacex.training.metrics import binary_metrics
from spacex.training.presets import ClassifierRecipe

PLAIN = {"batch": 8, "cutmix": 0.0, "rotate": False, "loss": "bce", "rate": 0.01}


class Recorder(nn.Module):
    """Keeps the batches it sees; its logit is a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.seen: list[torch.Tensor] = []

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (n,), all alike."""
        self.seen.append(u.detach().clone())
        return self.weight.expand(len(u))


def learner(**settings: object) -> ClassifierLearner:
    scaling = Scaling(mean=(0.05, 0.04), std=(0.02, 0.03))
    return ClassifierLearner(ClassifierRecipe(**PLAIN | settings), Recorder(), scaling, steps=20)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.05 + 0.02 * torch.rand(8, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.0, 1, 0, 1, 0.25, 0.5, 0.75, 1])


def test_gains_and_offsets_change_reflectance_and_not_standardised_units():
    """Each band of each chip is a line of what it was: its slope is the gain, its height the offset, in reflectance."""
    x, label = batch()
    lit = learner(gains=(0.15, 0.08), offsets=(0.0086, 0.0086))
    lit.step(x, label)
    after = lit.scaling.restore(lit.network.seen[0])
    gain = (after.amax((2, 3)) - after.amin((2, 3))) / (x.amax((2, 3)) - x.amin((2, 3)))
    offset = (after - gain[:, :, None, None] * x).mean((2, 3))
    assert torch.allclose(gain[:, :, None, None] * x + offset[:, :, None, None], after, atol=1e-5)
    assert 0.05 < gain.log().std() < 0.4
    assert 0.002 < offset.std() < 0.03
    assert gain.unique().numel() == 16


def test_without_them_a_chip_is_seen_as_it_is():
    x, label = batch()
    plain = learner()
    plain.step(x, label)
    assert torch.allclose(plain.scaling.restore(plain.network.seen[0]), x, atol=1e-6)
    assert ClassifierRecipe().model_dump(mode="json").keys().isdisjoint({"gains", "offsets", "average", "smoothing"})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_are_labels_and_smoothing_draws_them_to_the_middle(smoothing):
    """The loss worked out by hand: cross-entropy of a score of sigmoid(2) with the mean label."""
    x, label = batch()
    soft = label * (1 - smoothing) + 0.5 * smoothing
    score = torch.sigmoid(torch.tensor(2.0))
    expected = -(soft * score.log() + (1 - soft) * (1 - score).log()).mean()
    assert learner(smoothing=smoothing).step(x, label)["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_running_mean_of_the_weights_is_kept_measured_and_resumed():
    x, label = batch()
    mean = learner(average=0.9)
    weights = []
    for _ in range(6):
        mean.step(x, label)
        weights.append(mean.network.weight.item())
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.9 * expected + 0.1 * weight
    assert mean.result().weight.item() == pytest.approx(expected, abs=1e-6)
    assert expected != pytest.approx(weights[-1], abs=1e-4)
    again = learner(average=0.9)
    again.load_state_dict(copy.deepcopy(mean.state_dict()))
    again.step(x, label)
    mean.step(x, label)
    assert torch.equal(again.result().weight, mean.result().weight)


def test_mosaics_of_a_batch_keep_every_chip_and_the_mean_of_its_labels():
    x, label = batch()
    mixed = learner(mosaics=1.0)
    for _ in range(4):
        mixed.step(x, label)
    standardised = mixed.scaling.standardise(x)
    for seen in mixed.network.seen:
        assert seen.shape == (2, 2, 32, 32)
        cells = seen.view(2, 2, 2, 16, 2, 16).permute(0, 2, 4, 1, 3, 5).reshape(8, 2, 16, 16)
        assert sorted(cells.mean((1, 2, 3)).tolist()) == sorted(standardised.mean((1, 2, 3)).tolist())
    shares = quarter_mosaics(x, label, seeded("mosaics"))[1]
    assert shares.mean() == label.mean()
    assert shares.shape == (2,)


def test_metrics_of_shares_are_of_whole_chips_and_of_all_together():
    label = torch.tensor([0.0, 1, 1, 0, 0.25, 0.5])
    score = torch.tensor([0.1, 0.9, 0.4, 0.2, 0.3, 0.6])
    measured = binary_metrics(score, label)
    assert (measured["chips"], measured["mixed"], measured["accuracy"]) == (4, 2, 0.75)
    assert measured["correlation"] == pytest.approx(torch.corrcoef(torch.stack([score, label]))[0, 1].item(), abs=1e-5)
    assert "correlation" not in binary_metrics(score[:4], label[:4])
