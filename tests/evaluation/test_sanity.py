import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from spacex.evaluation import sanity
from spacex.evaluation.methods.chip_batch import ChipBatch
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.evaluation.methods.trivial import brightness


def test_rank_correlation_is_scipys():
    torch.manual_seed(0)
    a = torch.rand(3, 40, 40)
    b = a + 0.5 * torch.rand(3, 40, 40)
    got = sanity.spearman(a, b)
    for i in range(3):
        chosen = slice(None, None, sanity.EVERY)
        expected = stats.spearmanr(a[i].flatten()[chosen], b[i].flatten()[chosen]).statistic
        assert got[i] == pytest.approx(expected)


def test_a_constant_map_has_no_rank_correlation():
    assert np.isnan(sanity.spearman(torch.ones(1, 20, 20), torch.rand(1, 20, 20))).all()


def test_the_cascade_goes_from_the_output_backwards_and_keeps_the_original():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    before = [parameter.clone() for parameter in network.parameters()]
    steps = list(sanity.randomise_layers(network))
    assert [name for name, _ in steps] == ["2", "0"]
    first, last = steps[0][1], steps[1][1]
    assert torch.equal(first[0].weight, network[0].weight)
    assert not torch.equal(first[2].weight, network[2].weight)
    assert not torch.equal(last[0].weight, network[0].weight)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_map_that_ignores_the_classifier_survives_and_one_that_uses_it_does_not(tiny_checkpoint):
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.1
    chips = ChipBatch.of(tiny_checkpoint, x, ["a", "b"])
    shown = choose(all_methods(tiny_checkpoint), ["brightness", "gradient", "attribution"])
    last = {step.method: step for step in sanity.randomise(chips, shown, stages=2)[-3:]}
    assert last["brightness"].spearman == pytest.approx(1.0)
    assert last["brightness"].ssim == pytest.approx(1.0)
    assert last["attribution"].spearman == pytest.approx(1.0)  # the generators stay as they are
    assert abs(last["gradient"].spearman) < 0.5
    assert brightness(chips).shape == (2, 256, 256)
