"""The dissimilarity index against scikit-learn and by hand; what is stored of it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from spacex.checkpoint import load_checkpoint, save_checkpoint
from spacex.errors import CheckpointError
from spacex.models.applicability import (
    AXES,
    BANDS,
    Applicability,
    FeatureStatistics,
    count_features,
    fit_space,
    learn_applicability,
    spatial_folds,
)
from spacex.models.classifier import Classifier, ClassifierSettings


def samples(count, features, seed=0, rank=None):
    """Correlated features, some of them much larger than others."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, rank or features)) @ rng.normal(size=(rank or features, features))
    return mixed * rng.uniform(0.01, 100, features) + rng.normal(size=features)


def test_index_and_threshold_are_those_of_meyer_and_pebesma():
    train, new = samples(60, 12)[:40], samples(60, 12)[40:]
    folds = np.arange(40) // 4 % 5
    scaler = StandardScaler().fit(train)
    apart = np.linalg.norm(scaler.transform(train)[:, None] - scaler.transform(train)[None], axis=-1)
    mean = apart[~np.eye(40, dtype=bool)].mean()
    own = np.where(folds[:, None] == folds, np.inf, apart).min(axis=1) / mean
    low, high = np.quantile(own, [0.25, 0.75])
    threshold = own[own <= high + 1.5 * (high - low)].max()
    nearest = NearestNeighbors(n_neighbors=1).fit(scaler.transform(train)).kneighbors(scaler.transform(new))[0][:, 0]

    known = fit_space(torch.tensor(train, dtype=torch.float32), torch.tensor(folds))
    assert float(known.mean_distance) == pytest.approx(mean, rel=2e-3)
    assert float(known.threshold) == pytest.approx(threshold, rel=5e-3)
    found = known.dissimilarity(torch.tensor(new, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, nearest / mean / threshold, rtol=0.01)


def test_by_hand_on_a_line():
    # at -3, -1, 1, 3 (spread √5): neighbours are 2 apart, the mean of 2, 4, 6, 2, 4, 2 is 10/3, so 0.6 of it
    line = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    known = fit_space(line, torch.arange(4))
    assert float(known.threshold) == pytest.approx(0.6, rel=1e-3)
    found = known.dissimilarity(torch.tensor([[-3.0], [0.0], [5.0], [13.0]]))
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0, 5.0], atol=5e-3)


def test_what_lies_off_the_axes_counts_too():
    features = 3 * AXES
    train = torch.tensor(samples(200, features, rank=5), dtype=torch.float32)
    known = fit_space(train, spatial_folds(range(200)))
    aside = torch.linalg.svd((train - known.centre) / known.spread)[2][-1]  # no training chip varies that way
    shifted = train[:5] + 20 * aside * known.spread
    assert (known.dissimilarity(train[:5]) < 0.1).all()
    np.testing.assert_allclose(
        known.dissimilarity(shifted), 20 / (known.mean_distance * known.threshold).item(), rtol=0.02
    )


def test_haze_that_every_layer_ignores_is_seen_in_the_bands():
    """Brightness varies by chip and the bands follow it; a layer without use for it gives noise."""
    rng = np.random.default_rng(0)

    def chips(count, gain=1.0, offset=0.0):
        level = rng.lognormal(-3, 0.5, (count, 1)) * rng.normal(1, 0.1, (count, 3))
        spread = level * rng.normal(0.3, 0.03, (count, 3))
        noise = rng.normal(size=(count, 8))
        return torch.tensor(np.hstack([gain * level + offset, gain * spread, noise]), dtype=torch.float32)

    known = learn_applicability(chips(300), spatial_folds(range(300)), 3)
    hazy = chips(100, 0.6, 0.15)
    assert (known.dissimilarity(chips(100)) > 1).float().mean() < 0.1
    assert (known.dissimilarity(hazy) > 1).all()
    # of a bands' space that another version stored nothing is known
    older = Applicability.from_tensors({k.replace(BANDS, "other."): v for k, v in known.tensors().items()}, 8, 3)
    assert older.bands is None
    assert (older.dissimilarity(hazy) > 1).float().mean() < 0.1


def test_a_gain_is_as_strange_for_a_flat_chip_as_for_a_rough_one():
    """Bands vary together, by a factor of a hundred between chips; one band of the strange ones is doubled."""
    rng = np.random.default_rng(0)

    def chips(count, gain=1.0):
        contrast = rng.lognormal(0, 1.2, (count, 1)) * rng.lognormal(0, 0.1, (count, 3))
        mean = rng.normal(size=(count, 3))
        return torch.tensor(np.hstack([mean, contrast * [1, gain, 1], rng.normal(size=(count, 8))]).astype("f4"))

    known = learn_applicability(chips(1000), spatial_folds(range(1000)), 3)
    assert (known.dissimilarity(chips(200)) > 1).float().mean() < 0.15
    strange = known.dissimilarity(torch.cat([chips(200, 3), chips(200, 1 / 3)]))
    assert (strange > 1).float().mean() > 0.95


def test_a_place_is_never_cut_in_two():
    folds = spatial_folds(list("abcabcdefghijklmnaz")).tolist()
    by_place = dict(zip("abcabcdefghijklmnaz", folds, strict=True))
    assert [by_place[place] for place in "abcabcdefghijklmnaz"] == folds
    assert len(set(folds)) == 10


def test_of_one_place_nothing_is_known():
    with pytest.raises(CheckpointError, match="two places"):
        learn_applicability(torch.rand(9, 4), torch.zeros(9), 1)


def test_statistics_are_those_of_every_level():
    torch.manual_seed(0)
    network = Classifier(ClassifierSettings(base=2, levels=2)).eval()
    chips = torch.randn(3, 3, 256, 256)
    with torch.no_grad():
        first = network.unet.encoders[0](chips)
        second = network.unet.encoders[1](network.unet.pool(first))
        third = network.unet.encoders[2](network.unet.pool(second))
        parts = [f(level) for level in (chips, first, second, third) for f in (
            lambda v: v.mean((2, 3)), lambda v: v.var((2, 3), correction=0).sqrt())]  # fmt: skip
        watch = FeatureStatistics(network)
        network(chips * 2)  # not looked at
        with watch:
            network(chips)
        network(chips * 3)
    torch.testing.assert_close(watch.pop(), torch.cat(parts, dim=1))
    assert count_features(network, 3, 256) == 2 * (2 + 4 + 8)


def test_what_is_known_travels_with_the_checkpoint(tiny_checkpoint, tmp_path):
    known = tiny_checkpoint.applicability
    assert known is not None
    assert tiny_checkpoint.card.applicability == known.summary
    again = load_checkpoint(tiny_checkpoint.uri).applicability
    for name, tensor in known.tensors().items():
        assert torch.equal(again.tensors()[name], tensor)
    without = save_checkpoint(
        tmp_path / "without",
        tiny_checkpoint.card,
        {name: getattr(tiny_checkpoint, name) for name in ("classifier", "maximiser", "minimiser")},
    )
    assert without.applicability is None
    assert without.digest != tiny_checkpoint.digest


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda t: t | {"centre": t["centre"][:-1]}, "does not fit the classifier"),
        (lambda t: t | {"points": t["points"][:, 1:]}, "does not fit the classifier"),
        (lambda t: t | {"threshold": torch.tensor(torch.nan)}, "does not fit the classifier"),
        (lambda t: {"centre": t["centre"]}, "damaged"),
        (lambda t: t | {f"{BANDS}centre": t[f"{BANDS}centre"][:-1]}, "does not fit the classifier"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_checkpoint, broken, line):
    tensors = tiny_checkpoint.applicability.tensors()
    features = len(tensors["centre"])
    with pytest.raises(CheckpointError, match=line):
        Applicability.from_tensors(broken(tensors), features, 3)


def test_maps_and_scores_are_the_same_with_and_without_it(tiny_checkpoint):
    import dataclasses

    from spacex.attribution.attributor import Attributor

    chips = np.random.default_rng(0).random((2, 3, 256, 256), dtype=np.float32) * 0.1
    maps = ("attribution", "lift")
    found = Attributor(tiny_checkpoint, maps)(chips)
    blind = Attributor(dataclasses.replace(tiny_checkpoint, applicability=None), maps)(chips)
    score_only = Attributor(tiny_checkpoint, ())(chips)
    assert blind.dissimilarity is None
    np.testing.assert_array_equal(found.score, blind.score)
    for name in maps:
        np.testing.assert_array_equal(found.maps[name], blind.maps[name])

    watch = FeatureStatistics(network := load_checkpoint(tiny_checkpoint.uri).classifier)
    with torch.no_grad(), watch:
        network(tiny_checkpoint.card.scaling.standardise(torch.from_numpy(chips)))
    expected = tiny_checkpoint.applicability.dissimilarity(watch.pop())
    np.testing.assert_allclose(found.dissimilarity, expected, rtol=1e-3)
    np.testing.assert_allclose(score_only.dissimilarity, expected, rtol=1e-3)
