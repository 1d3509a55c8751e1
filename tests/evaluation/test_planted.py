"""A planted shortcut: marks lie where they are said to, and a classifier that was taught one shows it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spacex.evaluation import certify, planted
from spacex.model_card import Scaling
from spacex.training.data import DatasetSettings
from spacex.training.distributed import SINGLE


def test_a_mark_is_planted_where_the_mask_says_and_nowhere_else():
    x, marks = torch.full((5, 3, 64, 64), 0.1), torch.full((4, 3, 16, 16), 0.5)
    marked, where = planted.plant(x, marks, np.random.default_rng(0))
    assert (where.sum((1, 2)) == 16**2).all()
    assert torch.equal(marked == 0.5, where[:, None].expand_as(marked))
    assert (marked[~where[:, None].expand_as(marked)] == 0.1).all()
    assert (x == 0.1).all()


def test_a_chequered_mark_is_far_from_the_land_on_both_sides():
    x = 0.3 + 0.02 * torch.randn(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mark = planted.chequered(x)
    assert mark.shape == (1, 3, 16, 16)
    assert torch.allclose((mark - 0.3).abs(), torch.tensor(0.03), atol=1e-3)
    assert (mark[0, 0, 0, 0] > 0.3) != (mark[0, 1, 0, 0] > 0.3)
    assert (mark[0, 0, 0, 3] > 0.3) != (mark[0, 0, 0, 4] > 0.3)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_labels_says_where_marks_are_and_the_rest_what_the_land_is(share):
    natural = np.arange(4000) < 2000
    marked, labels = planted.mixed_labels(natural, share, np.random.default_rng(0))
    assert marked.mean() == pytest.approx(0.5, abs=0.05)
    assert (labels == natural)[marked == natural].all()
    assert (labels == marked)[marked != natural].mean() == pytest.approx(share, abs=0.05)


def test_shares_are_those_of_a_score_worked_out_by_hand():
    """The logit is the mean of the first band: the mark of 1/16 of the chip adds 1/16 (.9 - .1), the land 15/16 .1."""

    class Mean:
        standardise = staticmethod(torch.from_numpy)

        @staticmethod
        def score(u):
            return type("Answer", (), {"logit": u[:, 0].mean((1, 2))})

    plain, other = torch.full((2, 1, 64, 64), 0.1), torch.zeros(2, 1, 64, 64)
    found = planted.shares(Mean, plain, other, torch.full((1, 1, 16, 16), 0.9), torch.ones_like(plain[:, 0]).mul)
    assert found.effect == pytest.approx([0.8 / (0.8 + 15 * 0.1)] * 2, rel=1e-5)


def test_a_classifier_that_is_taught_a_mark_uses_it():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(1))
    network(torch.zeros(1, 1, 16, 16))
    source = SimpleNamespace(classifier=network, card=SimpleNamespace(scaling=Scaling.identity(1), chip_size=16))
    marks = torch.ones(1, 1, 4, 4)

    def draw(count, seed):
        random = np.random.default_rng(seed)
        x = torch.from_numpy(random.random((count, 1, 16, 16), np.float32))
        marked = torch.from_numpy(random.random(count) < 0.5)
        return torch.where(marked[:, None, None, None], planted.plant(x, marks, random)[0], x), marked.numpy()

    before = [tensor.clone() for tensor in network.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "RATE", 5e-3)
        taught = planted.taught_classifier(source, draw, SINGLE, 120)
    x, marked = draw(200, 1000)
    assert (marked == (taught(x).flatten() > 0).numpy()).mean() > 0.7  # chance: .5
    assert all(map(torch.equal, before, network.parameters()))


def test_the_certificate_holds_the_slope_where_it_is_asked_for(tiny_checkpoint, fresh_chips, monkeypatch):
    monkeypatch.setattr(planted, "STEPS", 2)
    monkeypatch.setattr(planted, "GENERATOR_STEPS", 2)
    monkeypatch.setattr(certify, "EXPLAINED", 8)
    source = DatasetSettings(root=str(fresh_chips), bands=tiny_checkpoint.card.bands)
    certificate = certify.certify(tiny_checkpoint, source, planted=True)
    slope, shown = certificate.checks[-2:]
    assert slope.name.startswith("slope of")
    assert slope.control == "brightness"
    assert shown.gap == pytest.approx(shown.value - shown.beside)
    assert certificate.missing == {}
