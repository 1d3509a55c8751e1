"""The two maps on networks whose answer is known by hand."""

import numpy as np
import pytest
import torch

from spacex.attribution.patterns import Patterns, difference, integrated_gradients
from spacex.errors import CheckpointError, RequestError


class Square(torch.nn.Module):
    """logit = sum of squares: its integrated gradients from b to x are x² − b² per pixel, exactly."""

    def forward(self, u):
        return (u**2).sum(dim=(1, 2, 3))


def test_difference_is_the_mean_over_bands_of_the_absolute_change():
    high = torch.tensor([0.3, 0.1]).view(1, 2, 1, 1)
    low = torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)
    assert difference(high, low).item() == pytest.approx((0.2 + 0.1) / 2)


def test_integrated_gradients_by_hand_and_complete():
    x, baseline = torch.full((1, 2, 3, 3), 3.0), torch.full((1, 2, 3, 3), 1.0)
    found = integrated_gradients(Square(), x, baseline, steps=8)
    torch.testing.assert_close(found, torch.full_like(x, 9.0 - 1.0))  # midpoint rule is exact for a quadratic
    torch.testing.assert_close(found.sum(), Square()(x)[0] - Square()(baseline)[0])


def test_completeness_on_the_networks_that_map(tiny_checkpoint):
    torch.manual_seed(0)
    x, baseline = torch.randn(2, 3, 256, 256), torch.randn(2, 3, 256, 256)
    classifier = tiny_checkpoint.classifier
    found = integrated_gradients(classifier, x, baseline, steps=64).sum(dim=(1, 2, 3))
    with torch.no_grad():
        expected = classifier(x) - classifier(baseline)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=1e-5)


def test_maps_do_not_depend_on_the_company_in_the_batch(tiny_checkpoint):
    chips = np.random.default_rng(0).random((4, 3, 256, 256), dtype=np.float32) * 0.2
    networks = Patterns(tiny_checkpoint, steps=2)
    first, second = networks(chips), networks(chips[[2, 2, 2, 2]])
    assert first.attribution is not None
    assert first.path_attribution is not None
    np.testing.assert_array_equal(first.attribution[2], second.attribution[3])
    np.testing.assert_array_equal(first.path_attribution[2], second.path_attribution[0])
    assert first.score[2] == second.score[1]
    assert first.attribution.shape == (4, 256, 256)
    assert (first.attribution >= 0).all()
    assert ((first.score > 0) & (first.score < 1)).all()


def test_attribution_is_in_reflectance(tiny_checkpoint):
    """By the definition, with the networks called one by one."""
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 0.2
    scaling = tiny_checkpoint.card.scaling
    with torch.no_grad():
        u = scaling.standardise(x)
        plus, minus = scaling.restore(tiny_checkpoint.maximiser(u)), scaling.restore(tiny_checkpoint.minimiser(u))
    expected = (plus - minus).abs().mean(dim=1).numpy()
    found = Patterns(tiny_checkpoint, maps=("attribution",))(x.numpy())
    assert found.path_attribution is None
    np.testing.assert_allclose(found.attribution, expected, rtol=1e-3, atol=1e-6)


def test_what_cannot_be_asked_for(tiny_checkpoint):
    with pytest.raises(RequestError, match="gradcam"):
        Patterns(tiny_checkpoint, maps=("gradcam",))
    bare = type(tiny_checkpoint)(tiny_checkpoint.card, tiny_checkpoint.classifier)
    with pytest.raises(CheckpointError, match="train_gan"):
        Patterns(bare)
