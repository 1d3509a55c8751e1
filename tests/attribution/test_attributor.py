"""The maps on networks whose answer is known by hand, and against Captum."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from spacex.attribution.attributor import Attributor, difference
from spacex.attribution.gradients import integrated_gradients
from spacex.attribution.inference import choose_precision, prepare_classifier, prepare_generator
from spacex.attribution.lift import Lift
from spacex.errors import CheckpointError, RequestError
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.generator import Generator, GeneratorSettings, context, window_halo


class Square(torch.nn.Module):
    """logit = sum of squares: its integrated gradients from b to x are x² − b² per pixel, exactly."""

    def forward(self, u):
        return (u**2).sum(dim=(1, 2, 3))


class Sum(torch.nn.Module):
    """logit = sum over pixels of an activation, so its chords can be worked out by hand."""

    def __init__(self, curve):
        super().__init__()
        self.curve = curve

    def forward(self, u):
        return self.curve(u).sum(dim=(1, 2, 3))


def chips(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, 256, 256), dtype=np.float32) * 0.2


def pearson(first, second):
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]


def test_difference_is_the_mean_over_bands_of_the_absolute_change():
    high = torch.tensor([0.3, 0.1]).view(1, 2, 1, 1)
    low = torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)
    assert difference(high, low).item() == pytest.approx((0.2 + 0.1) / 2)


@pytest.mark.parametrize("steps", [1, 4])
def test_integrated_gradients_by_hand_and_complete(steps):
    x, baseline = torch.full((1, 2, 3, 3), 3.0), torch.full((1, 2, 3, 3), 1.0)
    found = integrated_gradients(Square(), x, baseline, steps=steps)
    torch.testing.assert_close(found, torch.full_like(x, 9.0 - 1.0))  # n points are exact up to degree 2n − 1
    torch.testing.assert_close(found.sum(), Square()(x)[0] - Square()(baseline)[0])


def test_two_points_are_exact_where_two_midpoints_are_not():
    class Fourth(torch.nn.Module):
        def forward(self, u):
            return (u**4).sum(dim=(1, 2, 3))

    found = integrated_gradients(Fourth(), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), steps=2)
    assert found.item() == pytest.approx(1.0, rel=1e-6)  # midpoints: (0.25³ + 0.75³) · 4 / 2 = 0.875


def test_completeness_on_the_networks_that_map(tiny_checkpoint):
    torch.manual_seed(0)
    x, baseline = torch.randn(2, 3, 256, 256), torch.randn(2, 3, 256, 256)
    classifier = tiny_checkpoint.classifier
    with torch.no_grad():
        expected = classifier(x) - classifier(baseline)
    path = integrated_gradients(classifier, x, baseline, steps=32).sum(dim=(1, 2, 3))
    torch.testing.assert_close(path, expected, rtol=0.05, atol=1e-5)
    lift, change, logit = Lift(classifier, x[:1])(x, baseline)
    torch.testing.assert_close(lift.sum(dim=(1, 2, 3)), expected, rtol=1e-3, atol=1e-6)  # a sum of 196,608 terms
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logit, classifier(x), rtol=1e-4, atol=1e-6)


def test_lift_by_hand():
    x, baseline = torch.tensor([3.0, -1.0, 2.0]).view(1, 1, 1, 3), torch.tensor([-1.0, -2.0, 2.0]).view(1, 1, 1, 3)
    found, change, _ = Lift(Sum(nn.ReLU()), x)(x, baseline)
    # chords: (3 − 0) / 4 over 4; flat; and where nothing changed there is nothing to attribute
    torch.testing.assert_close(found, torch.tensor([3.0, 0.0, 0.0]).view_as(x))
    assert change.item() == 3.0
    found, _, _ = Lift(Sum(nn.Tanh()), x)(x, baseline)
    torch.testing.assert_close(found, torch.tanh(x) - torch.tanh(baseline))


def test_close_to_the_baseline_the_chord_is_the_slope():
    x = torch.tensor([0.5]).view(1, 1, 1, 1)
    found, _, _ = Lift(Sum(nn.Tanh()), x)(x, x - 1e-6)
    assert found.item() == pytest.approx((1 - np.tanh(0.5) ** 2) * 1e-6, rel=0.1)


@pytest.mark.parametrize("widths", [{"base": 4}, {"base": 6, "levels": 3, "up_kernel": 3}])
def test_lift_is_captums_deep_lift(widths):
    from captum.attr import DeepLift

    torch.manual_seed(3)
    classifier = Classifier(ClassifierSettings(**widths)).eval().requires_grad_(False)
    x, baseline = torch.randn(2, 3, 256, 256), torch.randn(2, 3, 256, 256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = DeepLift(classifier).attribute(x.clone().requires_grad_(), baselines=baseline).detach()
    folded = prepare_classifier(classifier, "float32", torch.device("cpu"))
    for network in (classifier, folded):
        found, _, _ = Lift(network, x[:1])(x, baseline)
        assert pearson(found, expected) > 0.9999
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_a_textbook_unet_with_max_pooling_is_followed(tiny_checkpoint):
    pooled = Classifier(ClassifierSettings(base=4, pool="max")).eval().requires_grad_(False)
    checkpoint = type(tiny_checkpoint)(
        tiny_checkpoint.card, pooled, tiny_checkpoint.maximiser, tiny_checkpoint.minimiser
    )
    found = Attributor(checkpoint, ("lift", "path_attribution"), steps=8)(chips(1))
    assert found.maps["lift"].max() > 0
    assert pearson(found.maps["lift"], found.maps["path_attribution"]) > 0.7


def test_maps_do_not_depend_on_the_company_in_the_batch(tiny_checkpoint):
    x = chips(4)
    networks = Attributor(tiny_checkpoint, ("attribution", "lift", "path_attribution"), steps=2)
    first, second = networks(x), networks(x[[2, 2, 2, 2]])
    assert set(first.maps) == {"attribution", "lift", "path_attribution"}
    for name, values in first.maps.items():
        np.testing.assert_array_equal(values[2], second.maps[name][3])
        assert values.shape == (4, 256, 256)
        assert (values >= 0).all()
    assert first.score[2] == second.score[1]
    assert ((first.score > 0) & (first.score < 1)).all()


def test_attribution_is_in_reflectance(tiny_checkpoint):
    """By the definition, with the networks called one by one."""
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 0.2
    scaling = tiny_checkpoint.card.scaling
    with torch.no_grad():
        u = scaling.standardise(x)
        plus, minus = scaling.restore(tiny_checkpoint.maximiser(u)), scaling.restore(tiny_checkpoint.minimiser(u))
    expected = (plus - minus).abs().mean(dim=1).numpy()
    found = Attributor(tiny_checkpoint, maps=("attribution",))(x.numpy())
    assert set(found.maps) == {"attribution"}
    np.testing.assert_allclose(found.maps["attribution"], expected, rtol=1e-3, atol=1e-6)


def test_generated_pictures_and_their_scores_on_chips_and_through_windows(tiny_checkpoint):
    """By the definition, with the networks called one by one."""
    x, names = chips(2, seed=4), ("x_plus", "x_minus", "raised", "lowered")
    scaling = tiny_checkpoint.card.scaling
    with torch.no_grad():
        u = scaling.standardise(torch.from_numpy(x))
        made = {"x_plus": tiny_checkpoint.maximiser(u), "x_minus": tiny_checkpoint.minimiser(u)}
        scores = [tiny_checkpoint.classifier(picture).sigmoid().numpy() for picture in made.values()]
    expected = {name: scaling.restore(picture).numpy() for name, picture in made.items()}
    networks = Attributor(tiny_checkpoint, names)
    whole, windows = networks(x), networks.generate(x)()
    parts = networks.classify(x, *((made[name] - u).numpy() for name in ("x_minus", "x_plus")))()
    assert set(windows.maps) == set(whole.maps) == {"x_plus", "x_minus"}
    assert parts.maps == {}
    margin = window_halo(tiny_checkpoint.card.generator, tiny_checkpoint.card.frame)
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    for name, picture in expected.items():
        np.testing.assert_allclose(whole.maps[name], picture, atol=1e-6)
        np.testing.assert_allclose(windows.maps[name][inner], picture[inner], atol=1e-6)
    for found in (whole, parts):
        for name, score in zip(("raised", "lowered"), scores, strict=True):
            np.testing.assert_allclose(found.generated_scores[name], score, rtol=1e-4, atol=1e-6)
    # a generator that nothing asks for does not run
    assert Attributor(tiny_checkpoint, ("x_plus",)).generate(x)().delta_minus is None


def test_a_window_says_of_its_inside_what_the_chip_says(tiny_checkpoint):
    """Beyond the context nothing matters: not the padding, not the size of the picture."""
    settings = tiny_checkpoint.card.generator
    margin = window_halo(settings, tiny_checkpoint.card.frame)
    assert context(settings) <= margin < context(settings) + 4
    x = chips(1)
    networks = Attributor(tiny_checkpoint)
    whole = networks.generate(x)()
    part = networks.generate(np.ascontiguousarray(x[..., 32:224, 32:224]))()
    chip = networks(x)
    inner = slice(32 + margin, 224 - margin)
    np.testing.assert_allclose(
        part.maps["attribution"][0, margin:-margin, margin:-margin],
        whole.maps["attribution"][0, inner, inner],
        rtol=1e-4,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        chip.maps["attribution"][0, inner, inner], whole.maps["attribution"][0, inner, inner], rtol=1e-4, atol=1e-7
    )
    with torch.no_grad():
        u = tiny_checkpoint.card.scaling.standardise(torch.from_numpy(x))
        expected = tiny_checkpoint.minimiser(u) - u
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_allclose(whole.delta_minus[inner], expected.numpy()[inner], rtol=1e-3, atol=1e-5)


def test_classifying_with_generated_changes_is_attributing_chips(tiny_checkpoint):
    x = chips(2)
    networks = Attributor(tiny_checkpoint)
    with torch.no_grad():
        u = tiny_checkpoint.card.scaling.standardise(torch.from_numpy(x))
        delta_minus = tiny_checkpoint.minimiser.delta(u).numpy()
    classified, attributed = networks.classify(x, delta_minus)(), networks(x)
    assert set(classified.maps) == {"lift"}
    np.testing.assert_allclose(classified.maps["lift"], attributed.maps["lift"], rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(classified.score, attributed.score)
    alone = Attributor(tiny_checkpoint, maps=())
    np.testing.assert_allclose(alone.classify(x, None)().score, classified.score, rtol=1e-6)
    assert alone(x).maps == {}


def test_bfloat16_draws_the_same_maps(tiny_checkpoint):
    x = chips(1)
    exact, rounded = (Attributor(tiny_checkpoint, precision=precision)(x) for precision in ("float32", "bfloat16"))
    for name, values in exact.maps.items():
        assert pearson(values, rounded.maps[name]) > 0.999, name
        assert (values != rounded.maps[name]).any()
    assert exact.score == pytest.approx(rounded.score, abs=2e-3)


def test_precision_is_chosen_by_the_device(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr("spacex.attribution.inference.native_bfloat16", lambda device, native=native: native)
        assert choose_precision("auto") == ("bfloat16" if native else "float32")
        assert choose_precision("float32") == "float32"
        assert choose_precision("bfloat16") == "bfloat16"
    with pytest.raises(RequestError, match="float16"):
        choose_precision("float16")


def test_what_cannot_be_asked_for(tiny_checkpoint):
    with pytest.raises(RequestError, match="gradcam"):
        Attributor(tiny_checkpoint, maps=("gradcam",))
    bare = type(tiny_checkpoint)(tiny_checkpoint.card, tiny_checkpoint.classifier)
    with pytest.raises(CheckpointError, match="train_gan"):
        Attributor(bare)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_generator_for_windows_is_the_generator(precision):
    """Doubled late, padded with zeros: the same answer wherever the edge is out of sight."""
    torch.manual_seed(0)
    settings = GeneratorSettings(base=6, cap=12, downs=2, blocks=1, stem=5)
    network = Generator(settings).eval().requires_grad_(False)
    for part in (*(layer.second for layer in network.body if hasattr(layer, "second")), network.last):
        torch.nn.init.normal_(part.weight, 0, 0.1)
    ready = prepare_generator(network, precision, torch.device("cpu"), edges_matter=False)
    assert not any(isinstance(layer, nn.Upsample) for layer in ready.modules())
    x = torch.randn(2, 3, 128, 96)
    reach = context(settings)
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    found, expected = ready.delta(x)[inner], network.delta(x)[inner]
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if precision == "float32" else 0.05)
