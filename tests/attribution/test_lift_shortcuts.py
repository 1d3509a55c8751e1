"""What makes lift fast is what the plain rules give: one-step normalisation, patches, channel factors, few tangents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.attribution import lift_linear
from spacex.attribution.lift import Lift
from spacex.attribution.lift_slopes import _tangent, smooth_slope


def slope(network: nn.Module, x: Tensor, x0: Tensor) -> Tensor:
    """What lift multiplies the change of a picture with, of the sum of a network's results times fixed weights."""

    def logit(u: Tensor) -> Tensor:
        out = network(u).flatten(1)
        return (out * torch.linspace(-1, 2, out.shape[1], dtype=out.dtype)).sum(1)

    lift = Lift.__new__(Lift)
    lift.network = logit  # type: ignore[assignment]
    return lift(x, x0)[0] / (x - x0)


def pictures(*shape: int) -> tuple[Tensor, Tensor]:
    """Two that differ everywhere, also when they are rounded."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    return x, x + torch.randn(shape).sign() * (0.5 + torch.rand(shape))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_layer_norm_in_one_step_is_its_rule(affine, offset):
    """Against the rule written out in float64: s' Dc + c' Ds, with Ds by the variance."""
    network = nn.LayerNorm(8, elementwise_affine=affine).requires_grad_(False)
    x, x0 = (values + offset for values in pictures(2, 5, 8))
    weight = torch.ones(8)
    if affine:
        network.weight.copy_(weight.copy_(torch.linspace(0.5, -2, 8)))
        network.bias.fill_(0.3)
    g = torch.linspace(-1, 2, 40).view(5, 8).double() * weight
    (c, s), (c0, s0) = (
        (v - v.mean(-1, keepdim=True), (v.var(-1, correction=0, keepdim=True) + network.eps).rsqrt())
        for v in (x.double(), x0.double())
    )
    middle, along = (c + c0) / 2, -((s * s0) ** 2) / (s + s0) * 2
    to_c = g * (s + s0) / 2 + middle * along * (g * middle).mean(-1, keepdim=True)
    expected = to_c - to_c.mean(-1, keepdim=True)
    torch.testing.assert_close(slope(network, x, x0).double(), expected, rtol=2e-4, atol=2e-5 * (1 + offset))


def test_a_layer_norm_whose_weights_change_is_complete():
    """Weights that the picture chooses are products, which the one step leaves out."""

    class Adaptive(nn.Module):
        def forward(self, u: Tensor) -> Tensor:
            return F.layer_norm(u, (8,), u.mean(1)[0].sigmoid(), u.mean(1)[0])

    x, x0 = pictures(1, 5, 8)
    weights = torch.linspace(-1, 2, 40)
    change = ((Adaptive()(x) - Adaptive()(x0)).flatten() * weights).sum()
    torch.testing.assert_close((slope(Adaptive(), x, x0) * (x - x0)).sum(), change, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_float64_and_bfloat16_keeps_its_kind():
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.bfloat16, 3e-2)):
        network = nn.LayerNorm(8).requires_grad_(False).to(dtype)
        x, x0 = (values.to(dtype) for values in pictures(1, 5, 8))
        weights = torch.linspace(-1, 2, 40, dtype=dtype)
        change = ((network(x) - network(x0)).flatten() * weights).sum()
        got = (slope(network, x, x0) * (x - x0)).sum()
        torch.testing.assert_close(got.double(), change.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kernel", "channels", "side", "dtype"),
    [(1, (96, 64), 29, torch.float32), (4, (3, 700), 64, torch.float32), (2, (70, 80), 63, torch.float32),
     (1, (96, 64), 29, torch.bfloat16)],
)  # fmt: skip
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_patches_go_back_as_torch_takes_them(kernel, channels, side, dtype, batch, channels_last, monkeypatch):
    """Odd sides leave a rim that no patch covers; its gradient is 0."""
    monkeypatch.setattr(lift_linear, "MULTIPLICATIONS", 0)
    taken = []
    plain = lift_linear.rules.carry
    monkeypatch.setattr(lift_linear.rules, "carry", lambda *args: taken.append(args[0].shape) or plain(*args))
    network = nn.Conv2d(*channels, kernel, kernel).requires_grad_(False).to(dtype)
    x, x0 = (values.to(dtype) for values in pictures(batch, channels[0], side, side))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = slope(network, x, x0)
    assert len(taken) == 1
    point = x.clone().requires_grad_()
    out = network(point).flatten(1)
    logit = (out * torch.linspace(-1, 2, out.shape[1], dtype=dtype)).sum(1)
    (expected,) = torch.autograd.grad(logit.sum(), point)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", [{"padding": 1}, {"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_other_convolutions_are_left_to_torch(settings, monkeypatch):
    monkeypatch.setattr(lift_linear, "MULTIPLICATIONS", 0)
    network = nn.Conv2d(4, 6, **{"kernel_size": 3, "stride": 3} | settings).requires_grad_(False)
    x, x0 = pictures(1, 4, 12, 12)
    point = x.clone().requires_grad_()
    out = network(point).flatten(1)
    (expected,) = torch.autograd.grad((out * torch.linspace(-1, 2, out.shape[1])).sum(), point)
    torch.testing.assert_close(slope(network, x, x0), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_of_exported_programs_are_called_as_they_were(monkeypatch):
    """Their operators take lists where functions take numbers."""
    for least in (0, 2**60):
        monkeypatch.setattr(lift_linear, "MULTIPLICATIONS", least)

        class Exported(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.linspace(-1, 1, 6 * 4 * 4).view(6, 4, 2, 2), requires_grad=False)

            def forward(self, u: Tensor) -> Tensor:
                return torch.ops.aten.conv2d.default(u, self.weight, None, [2, 2])

        x, x0 = pictures(1, 4, 12, 12)
        point = x.clone().requires_grad_()
        out = Exported()(point).flatten(1)
        (expected,) = torch.autograd.grad((out * torch.linspace(-1, 2, out.shape[1])).sum(), point)
        torch.testing.assert_close(slope(Exported(), x, x0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_stored_statistics_are_a_factor_of_each_channel(affine, monkeypatch):
    monkeypatch.setattr(lift_linear, "ELEMENTS", 0)
    network = nn.BatchNorm2d(4, affine=affine).requires_grad_(False)
    network.train()(torch.randn(9, 4, 6, 6) * 3 + 1)
    network.eval()
    if affine:
        network.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 3.0]))
    x, x0 = pictures(2, 4, 6, 6)
    point = x.double().requires_grad_()
    out = network.double()(point).flatten(1)
    (expected,) = torch.autograd.grad((out * torch.linspace(-1, 2, 144).double()).sum(), point)
    torch.testing.assert_close(slope(network.float(), x, x0), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)])
def test_tangents_stand_where_the_ends_nearly_meet_in_any_order_of_memory(order):
    """Each picture may lie otherwise in memory than the other, and than the function's values."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    x0 = x + torch.where(torch.rand_like(x) < 0.3, 1e-5, 1.0)
    x0[0, 0, 0, 0] = x[0, 0, 0, 0]
    back = [order.index(i) for i in range(4)]
    for first, second in (
        (x, x0.permute(order).contiguous().permute(back)),
        (x.permute(order).contiguous().permute(back), x0),
    ):
        found = smooth_slope(F.gelu, first, second, F.gelu(x), F.gelu(x0).permute(order).contiguous().permute(back))
        distance = x.double() - x0.double()
        chord = (F.gelu(x.double()) - F.gelu(x0.double())) / distance
        expected = torch.where(distance.abs() < 1e-3, _tangent(F.gelu, (x + x0).double() / 2), chord)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_shortcuts_are_for_what_is_worth_them():
    """Of small pictures torch's own backward pass is used, to the bit."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).requires_grad_(False).eval()
    x, x0 = pictures(1, 3, 16, 16)
    point = x.clone().requires_grad_()
    out = network(point).flatten(1)
    (expected,) = torch.autograd.grad((out * torch.linspace(-1, 2, out.shape[1])).sum(), point)
    lift = Lift.__new__(Lift)
    lift.network = lambda u: (network(u).flatten(1) * torch.linspace(-1, 2, 8 * 16 * 16)).sum(1)  # type: ignore[assignment]
    assert torch.equal(lift(x, x0)[0], (x - x0) * expected)
