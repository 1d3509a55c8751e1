"""Generators that are trained on from those of a checkpoint, and a threshold below which they change nothing."""

from copy import deepcopy

import pytest
import torch

import spacex
from spacex.checkpoint import save_checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.training import gan_run
from spacex.training.enlarge import enlarge

pytestmark = pytest.mark.usefixtures("no_certificate")

SMALL = ["generator.base=4", "generator.blocks=1", "generator.downs=1", "generator.stem=3", "warmup=0", "batch=2"]
QUIET = {"report": lambda epoch: None, "progress": lambda line: None}


@pytest.fixture(scope="module")
def classifier(tiny_data, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("start") / "classifier")
    asked = {"epochs": 1, "changes": ["recipe.batch=4", "network.levels=2"], "base": 2} | QUIET
    return spacex.train_classifier(str(tiny_data), output, **asked)


@pytest.fixture(scope="module")
def gan(tiny_data, classifier, tmp_path_factory):
    def train(name, *changes, **more):
        output = str(tmp_path_factory.mktemp("start") / name)
        asked = {"epochs": 1, "changes": [*SMALL, *changes]} | QUIET | more
        return spacex.train_gan(str(tiny_data), classifier.uri, output, **asked)

    return train


@pytest.fixture(scope="module")
def first(gan, tmp_path_factory):
    """Generators that change something, which so few steps of so small a classifier do not teach them."""
    made = gan("made", seed=1)
    for generator in (made.maximiser, made.minimiser):
        torch.nn.init.normal_(generator.last.weight, 0.0, 0.01, generator=torch.Generator().manual_seed(2))
    folder = str(tmp_path_factory.mktemp("start") / "first")
    return save_checkpoint(folder, made.card.model_copy(update={"hashes": {}}), made.modules, made.applicability)


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def test_the_generators_of_a_checkpoint_are_trained_on(gan, first):
    still = gan("still", "rate=1e-12", start=first.uri)
    new = gan("new", "rate=1e-12")
    for role in ("maximiser", "minimiser"):
        mine, started, other = (weights(getattr(one, role)) for one in (first, still, new))
        assert (mine - started).abs().max() < 1e-9 < (mine - other).abs().max()
    assert still.card.training["patterns"]["start"] == first.uri
    assert "start" not in first.card.training["patterns"]


def test_a_threshold_leaves_pixels_alone_that_would_hardly_change(gan, first):
    sparse = gan("sparse", "rate=1e-12", "generator.threshold=0.02", start=first.uri)
    assert sparse.card.generator.threshold == 0.02
    assert "threshold" not in first.card.model_dump(mode="json")["generator"]
    u = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = (one.minimiser.delta(u) for one in (first, sparse))
    size = before.square().mean(1).sqrt()
    assert 0.1 < (size < 0.02).float().mean() < 0.9
    assert (after.abs().amax(1)[size < 0.02 - 1e-6] == 0).all()
    torch.testing.assert_close(after.square().mean(1).sqrt(), (size - 0.02).clamp_min(0), atol=1e-6, rtol=0)


def test_changes_are_enlarged_until_as_many_validation_chips_are_turned(gan, first, monkeypatch):
    # as if none were turned, so that the largest factor is kept
    none = lambda minimiser, share, turned: enlarge(minimiser, share, lambda: min(turned(), 0.0))  # noqa: E731
    monkeypatch.setattr(gan_run, "enlarge", none)
    enlarged = gan("enlarged", "rate=1e-12", "turns=0.99", start=first.uri)
    assert enlarged.card.training["patterns"]["enlarged"] == 1.5
    torch.testing.assert_close(enlarged.minimiser.last.weight, 1.5 * first.minimiser.last.weight)
    torch.testing.assert_close(enlarged.maximiser.last.weight, first.maximiser.last.weight)


@pytest.mark.parametrize(("enough", "factor", "asked"), [(1.0, 1.0, 1), (1.2, 1.2, 3), (1.6, 1.5, 6)])
def test_the_smallest_factor_that_turns_enough_is_kept(first, enough, factor, asked):
    minimiser, measured = deepcopy(first.minimiser), []

    def turned():
        measured.append(minimiser.last.weight.norm() / first.minimiser.last.weight.norm())
        return 0.97 if measured[-1] > enough - 0.01 else 0.9

    assert enlarge(minimiser, 0.95, turned) == pytest.approx(factor)
    assert len(measured) == asked
    torch.testing.assert_close(minimiser.last.bias, factor * first.minimiser.last.bias)


def test_nothing_is_enlarged_where_no_chip_can_be_turned(first):
    minimiser = deepcopy(first.minimiser)
    assert enlarge(minimiser, 0.95, lambda: float("nan")) == 1
    torch.testing.assert_close(minimiser.last.weight, first.minimiser.last.weight)


@pytest.mark.parametrize(
    ("changes", "start", "said"),
    [
        (["generator.threshold=0.02"], None, r"would never learn: got generator.threshold = 0.02.*--start"),
        (["generator.blocks=2"], "first", r"another shape: got generator.blocks=1.*Add --set generator.blocks=1"),
    ],
)
def test_what_cannot_start_is_one_line(gan, first, changes, start, said):
    with pytest.raises(RequestError, match=said):
        gan("none", *changes, start=start and first.uri)


def test_a_checkpoint_without_generators_is_no_start(gan, classifier):
    with pytest.raises(CheckpointError, match="has no minimiser"):
        gan("none", start=classifier.uri)
