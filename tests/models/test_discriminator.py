"""PatchGAN: patches, size, cost, and nothing that mixes chips."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode  # shapes without arithmetic
from torch.utils.flop_counter import FlopCounterMode

from spacex.models.discriminator import Discriminator, DiscriminatorSettings


@pytest.mark.parametrize(("bands", "millions", "billions"), [(3, 2.76, 3.15), (10, 2.77, 3.26)])
def test_patchgan_70(bands: int, millions: float, billions: float) -> None:
    settings = DiscriminatorSettings(bands=bands)
    with FakeTensorMode(), FlopCounterMode(display=False) as flops, torch.no_grad():
        model = Discriminator(settings)
        assert model(torch.zeros(1, bands, 256, 256)).shape == (1, 1, 30, 30)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    assert flops.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.006)


@pytest.mark.parametrize(("strided", "size"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_its_patch_and_no_more(strided: int, size: int) -> None:
    settings = DiscriminatorSettings(base=4, strided=strided)
    u = torch.randn(1, 3, 128, 128, requires_grad=True)
    logits = Discriminator(settings)(u)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    rows = u.grad[0].abs().sum(dim=(0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == size


@pytest.mark.parametrize("change", [{}, {"norm": "instance"}, {"spectral": True}])
def test_chips_of_a_batch_do_not_meet(change: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorSettings(base=4).model_copy(update=change)).eval()
    u = torch.randn(3, 3, 64, 64)
    assert torch.allclose(model(u)[:1], model(u[:1]), atol=1e-6)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())


def test_spectral_norm_bounds_every_convolution() -> None:
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorSettings(base=4, spectral=True)).train()
    for _ in range(30):  # each forward pass is a step of the power iteration
        model(torch.randn(1, 3, 64, 64))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=0.05)


def test_weights_are_not_all_zero() -> None:
    # the repository starts one of its discriminators with N(0, 0)
    model = Discriminator(DiscriminatorSettings(base=8))
    assert all(layer.weight.std() > 0.01 for layer in model.modules() if isinstance(layer, nn.Conv2d))
