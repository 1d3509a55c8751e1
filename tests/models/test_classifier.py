"""The classifier has the authors' shape, and occludes in training only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode  # shapes without arithmetic
from torch.utils.flop_counter import FlopCounterMode

from spacex.models.classifier import Classifier, ClassifierSettings, RandomPixelOcclusion

TINY = ClassifierSettings(base=2, levels=2)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_head_has_the_published_layers() -> None:
    model = Classifier(TINY)
    head = model.head
    assert [layer.weight.shape[:2] for layer in model.head_convolutions] == [(6, 3), (12, 6), (24, 12)]
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(24 * 8 * 8, 128), (128, 1)]
    # 3·6·25+6, 6·12·25+12, 12·24·25+24, 1536·128+128, 128+1
    assert parameters(head) == 456 + 1_812 + 7_224 + 196_736 + 129


def test_the_head_looks_at_84_27_and_8_pixels() -> None:
    sides = []
    model = Classifier(TINY).eval()
    for layer in model.head_convolutions:
        layer.register_forward_hook(lambda _, __, out: sides.append(tuple(out.shape[-2:])))
    assert model(torch.zeros(2, 3, 256, 256)).shape == (2,)
    assert sides == [(84, 84), (27, 27), (8, 8)]


def test_size_and_cost_of_the_authors_settings() -> None:
    with FakeTensorMode(), FlopCounterMode(display=False) as flops, torch.no_grad():
        model = Classifier().eval()
        model(torch.zeros(1, 3, 256, 256))
    assert parameters(model) == 4_127_064
    assert flops.get_total_flops() / 2 == pytest.approx(8.524e9, rel=1e-3)


def test_the_map_is_between_minus_one_and_one_and_decides_everything() -> None:
    model = Classifier(TINY).eval()
    u = 100 * torch.randn(2, 3, 256, 256)
    maps = model.activation_map(u)
    assert maps.shape == (2, 3, 256, 256)
    assert maps.abs().max() <= 1
    assert torch.equal(model.head(maps).squeeze(1), model(u))


def test_pixels_are_occluded_in_training_only_and_in_half_of_the_chips() -> None:
    torch.manual_seed(0)
    occlude = RandomPixelOcclusion(0.2)
    maps = torch.ones(400, 3, 16, 16)
    hidden = (occlude.train()(maps) == 0).float()
    assert torch.equal(hidden[:, :1].expand_as(hidden), hidden)  # all maps of a pixel at once
    share = hidden.mean(dim=(1, 2, 3))
    assert 0.4 < (share == 0).float().mean() < 0.6
    assert share[share > 0].mean() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(occlude.eval()(maps), maps)


def test_no_module_is_used_twice_or_works_in_place() -> None:
    model = Classifier(TINY).eval()
    calls: dict[nn.Module, int] = {}
    for module in model.modules():
        assert not getattr(module, "inplace", False)
        if isinstance(module, nn.ReLU | nn.Tanh):
            module.register_forward_hook(lambda m, *_: calls.__setitem__(m, calls.get(m, 0) + 1))
    model(torch.zeros(1, 3, 256, 256))
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("change", [{"pool": "max"}, {"up_kernel": 1}, {"up_kernel": 3}, {"dropout": 0.3}])
def test_every_setting_makes_a_network(change: dict[str, object]) -> None:
    model = Classifier(TINY.model_copy(update=change)).eval()
    assert model(torch.randn(1, 3, 256, 256)).shape == (1,)


def test_dropout_takes_the_places_of_the_authors_newer_version() -> None:
    weights = {name.split(".")[1] for name, _ in Classifier(TINY).named_parameters() if name.startswith("head")}
    newer = Classifier(TINY.model_copy(update={"dropout": 0.1}))
    assert weights == {"0", "2", "4", "7", "9"}
    assert {n.split(".")[1] for n, _ in newer.named_parameters() if n.startswith("head")} == {
        "0",
        "3",
        "6",
        "10",
        "13",
    }
