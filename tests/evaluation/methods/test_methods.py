"""The methods on toy networks and made-up chips whose maps are known."""

import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients, LayerGradCam, Occlusion
from torch import nn

from spacex.checkpoint import Checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.evaluation.methods import asos, trivial
from spacex.evaluation.methods import captum as captum_methods
from spacex.evaluation.methods import selection as methods
from spacex.evaluation.methods.chip_batch import ChipBatch
from spacex.model_card import Card, Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.generator import GeneratorSettings

SIZE = 64
SMALL = captum_methods.Effort(gradient_steps=8, window=16, stride=16, rise_masks=12, batch=8)


class Shift(nn.Module):
    """A generator that adds the same amount everywhere, in the networks' units."""

    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def delta(self, u):
        return torch.full_like(u, self.amount)


def checkpoint(bands=("B02", "B03", "B04"), generators=True):
    torch.manual_seed(1)
    settings = ClassifierSettings(bands=len(bands), base=4, levels=2, chip_size=SIZE)
    card = Card(
        kind="patterns" if generators else "classifier",
        bands=bands,
        chip_size=SIZE,
        frame=8,
        stride=48,
        scaling=Scaling(mean=(0.1,) * len(bands), std=(0.05,) * len(bands)),
        classifier=settings,
        generator=GeneratorSettings(bands=len(bands)) if generators else None,
    )
    classifier = Classifier(settings).eval().requires_grad_(False)
    return Checkpoint(card, classifier, Shift(0.5), Shift(-1.0)) if generators else Checkpoint(card, classifier)


def batch(point=None, n=2):
    point = point or checkpoint()
    x = torch.rand(n, len(point.card.bands), SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 0.3
    return ChipBatch.of(point, x, [f"chip_{i}.tif" for i in range(n)])


def drawn(name, chips, listed=None):
    listed = listed or methods.all_methods(chips.checkpoint, SMALL)
    return next(method for method in listed if method.name == name)(chips)


def test_every_method_gives_one_finite_map_per_chip_that_is_not_negative():
    chips = batch(checkpoint(bands=("B02", "B03", "B04", "B08")))
    space = asos.fit([chips.checkpoint.classifier.activation_map(chips.u)], chips.checkpoint.classifier.head)
    listed = methods.all_methods(chips.checkpoint, SMALL, space, {"null": checkpoint(("B02", "B03", "B04", "B08"))})
    assert len({method.name for method in listed}) == len(listed)
    for method in listed:
        got = method(chips)
        assert got.shape == (2, SIZE, SIZE), method.name
        assert got.dtype == torch.float32, method.name
        assert torch.isfinite(got).all(), method.name
        assert (got >= 0).all(), method.name


def test_captums_own_answers_come_through():
    chips = batch()
    model, u = chips.checkpoint.classifier, chips.u.clone().requires_grad_()
    black, mean = chips.black, torch.zeros_like(u)
    torch.testing.assert_close(drawn("deeplift", chips), DeepLift(model).attribute(u, black).detach().abs().mean(1))
    expected = IntegratedGradients(model).attribute(u, mean, n_steps=8).detach().mean(1).clamp(min=0)
    torch.testing.assert_close(drawn("integrated-mean+", chips), expected.float(), atol=1e-6, rtol=1e-4)
    expected = Occlusion(model).attribute(u, (3, 16, 16), (3, 16, 16), black).detach()
    torch.testing.assert_close(drawn("occlusion", chips), expected.abs().mean(1).float(), atol=1e-6, rtol=1e-4)
    cam = LayerGradCam(model, model.head[0]).attribute(u, relu_attributions=True).detach()
    assert cam.shape[-2:] == (20, 20)
    torch.testing.assert_close(drawn("gradcam-first", chips).amax((1, 2)), cam.amax((1, 2, 3)), rtol=0.5, atol=1e-6)


def test_deeplift_and_integrated_gradients_are_complete():
    # the sum of a chip's contributions is the change of its logit: any hook that misses a layer breaks this
    chips = batch()
    gap = chips.logit - chips.checkpoint.classifier(chips.black).detach()
    effort = SMALL.model_copy(update={"gradient_steps": 256})
    torch.testing.assert_close(captum_methods.deep_lift(chips, chips.black).sum((1, 2, 3)), gap, rtol=0.02, atol=1e-3)
    got = captum_methods.integrated(chips, chips.black, effort).sum((1, 2, 3))
    torch.testing.assert_close(got, gap, rtol=0.02, atol=1e-3)


def test_maps_of_the_generators_are_what_the_generators_did():
    chips = batch()  # x+ is 0.5 and x- 1.0 standard deviations away; one is 0.05
    assert drawn("attribution", chips).unique() == pytest.approx(0.075, abs=1e-6)
    assert drawn("raised", chips).mean() == pytest.approx(0.025, abs=1e-6)
    assert drawn("lowered", chips).mean() == pytest.approx(0.05, abs=1e-6)
    assert drawn("attribution+", chips).mean() == pytest.approx(0.075, abs=1e-6)


def test_the_path_map_is_integrated_gradients_from_the_minimised_chip():
    chips = batch()
    expected = IntegratedGradients(chips.checkpoint.classifier).attribute(
        chips.u.clone().requires_grad_(), chips.u_minus, n_steps=4, method="gausslegendre"
    )
    torch.testing.assert_close(drawn("path", chips), expected.detach().abs().mean(1).float(), atol=1e-6, rtol=1e-4)


def test_brightness_is_the_visible_mean_and_an_index_needs_its_bands():
    chips = batch(checkpoint(bands=("B08", "B03", "B04")))
    torch.testing.assert_close(drawn("brightness", chips), chips.x[:, 1:].mean(1))
    names = {method.name for method in methods.all_methods(chips.checkpoint, SMALL)}
    assert {"ndvi", "minus-ndvi", "ndwi"} <= names
    expected = (chips.x[:, 0] - chips.x[:, 2]) / (chips.x[:, 0] + chips.x[:, 2])
    torch.testing.assert_close(drawn("ndvi", chips), expected / 2 + 0.5)
    assert "ndvi" not in {method.name for method in methods.all_methods(checkpoint(), SMALL)}


def test_sobel_of_a_ramp_is_its_slope():
    point = checkpoint()
    ramp = torch.arange(SIZE).float().expand(1, 3, SIZE, SIZE) * 0.002
    got = trivial.sobel(ChipBatch.of(point, ramp, ["a"]))
    torch.testing.assert_close(got[0, :, 1:-1], torch.full((SIZE, SIZE - 2), 0.002), rtol=1e-4, atol=1e-7)


def test_noise_depends_on_the_chip_and_not_on_its_batch():
    both, alone = batch(n=2), batch(n=1)
    torch.testing.assert_close(drawn("noise", both)[:1], drawn("noise", alone))
    assert not torch.equal(drawn("noise", both)[0], drawn("noise", both)[1])


def test_a_product_is_the_product_of_the_maps_each_over_its_maximum():
    chips = batch()
    a, b = drawn("brightness", chips), drawn("gradcam-first", chips)
    expected = a / a.amax((1, 2), keepdim=True) * b / b.amax((1, 2), keepdim=True)
    torch.testing.assert_close(drawn("brightness x gradcam-first", chips), expected)


def test_without_generators_only_the_rivals_are_listed_and_patterns_say_what_is_missing():
    point = checkpoint(generators=False)
    assert not {"path", "attribution", "deeplift-minimised"} & {m.name for m in methods.all_methods(point, SMALL)}
    with pytest.raises(CheckpointError, match="has no minimiser"):
        _ = batch(point).x_minus


def test_methods_are_chosen_by_name_in_their_own_order():
    listed = methods.all_methods(checkpoint(), SMALL)
    assert [m.name for m in methods.choose(listed, ["sobel", "path"])] == ["path", "sobel"]
    with pytest.raises(RequestError, match="grad-cam"):
        methods.choose(listed, ["grad-cam"])


def test_shared_work_is_done_once_and_charged_to_everyone():
    chips, calls = batch(), []

    def slow():
        calls.append(1)
        return chips.x

    chips.memoise("a", lambda: chips.memoise("b", slow))
    assert chips.shared_seconds == 0.0
    chips.memoise("a", slow)
    assert len(calls) == 1
    assert chips.shared_seconds > 0.0
