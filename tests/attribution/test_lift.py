"""Lift's rules on values worked out by hand, and complete on every operation and network."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import third_party_networks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.attribution.lift import Lift, check_lift
from spacex.attribution.lift_slopes import CLOSED, SMOOTH
from spacex.errors import RequestError
from spacex.models.classes import BinaryView
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.features import find_features


class Apply(nn.Module):
    """logit = sum over a chip of an operation's result times fixed weights."""

    def __init__(self, operation: Callable[[Tensor], Tensor], weighted: bool = True) -> None:
        super().__init__()
        self.operation, self.weighted = operation, weighted

    def forward(self, u: Tensor) -> Tensor:
        out = self.operation(u).flatten(1)
        weights = torch.linspace(-1, 2, out.shape[1], dtype=out.dtype) if self.weighted else torch.ones(())
        return (out * weights).sum(1)


def carried(network: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor) -> Tensor:
    """The attribution without the check at loading, which takes chips of its own."""
    lift = Lift.__new__(Lift)
    lift.network = network
    return lift(x, x0)[0]


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def test_chords_by_hand():
    x, x0 = row(3.0, -1.0, 2.0, 9.0), row(-1.0, -2.0, 2.0, 1.0)
    for operation, expected in (
        (torch.relu, (3, 0, 0, 8)),
        (F.relu6, (3, 0, 0, 5)),
        (lambda t: F.leaky_relu(t, 0.1), (3.1, 0.1, 0, 8)),
        (torch.abs, (2, -1, 0, 8)),
        (lambda t: t.clamp(-1.5, 2.5), (3.5, 0.5, 0, 1.5)),
        (torch.square, (8, -3, 0, 80)),
        (F.hardsigmoid, (4 / 6, 1 / 6, 0, 2 / 6)),
    ):
        torch.testing.assert_close(carried(Apply(operation, False), x, x0), row(*expected))


def test_products_by_hand():
    """Each factor by the mean of the other: 3 * 5 - 1 * 2 = (3 - 1) * 3.5 + (5 - 2) * 2."""
    x, x0 = row(3.0, 5.0), row(1.0, 2.0)
    torch.testing.assert_close(carried(Apply(lambda t: t[..., :1] * t[..., 1:], False), x, x0), row(7.0, 6.0))
    # a / b = a (1 / b): of 3 / 5 - 1 / 2 the numerator has (3 - 1) * (1/5 + 1/2) / 2, the denominator the rest
    found = carried(Apply(lambda t: t[..., :1] / t[..., 1:], False), x, x0)
    torch.testing.assert_close(found, row(0.7, -0.6))


def test_norms_softmax_and_maxima_by_hand():
    x, x0 = row(3.0, 4.0), row(0.0, 5.0)
    # |x| = |x0| = 5: (x + x0) / 10 times the differences
    torch.testing.assert_close(carried(Apply(lambda t: t.norm(dim=-1), False), x, x0), row(0.9, -0.9))
    # max goes from 5 to 4. b - a goes from 5 to 1, so that it is always b's
    torch.testing.assert_close(carried(Apply(lambda t: t.amax(-1), False), x, x0), row(0.0, -1.0))
    # from max(1, 0) to max(0, 3): b - a goes from -1 to 3, three quarters of the way above 0
    crossing = carried(Apply(lambda t: torch.maximum(t[..., :1], t[..., 1:]), False), row(0.0, 3.0), row(1.0, 0.0))
    torch.testing.assert_close(crossing, row(-0.25, 2.25))
    # probabilities 1/2, 1/2 become 3/4, 1/4: logarithmic means .25 / log 1.5 and .25 / log 2, of log 3 and 0
    found = carried(Apply(lambda t: t.logsumexp(-1), False), row(log(3), 0.0), row(0.0, 0.0))
    torch.testing.assert_close(found, row(log(2), 0.0))
    found = carried(Apply(lambda t: t.softmax(-1)[..., :1], False), row(log(3), 0.0), row(0.0, 0.0))
    torch.testing.assert_close(found, row(0.25, 0.0))


def test_normalisation_by_hand():
    # (2, 0) over its root mean square is (sqrt 2, 0), (1, 1) stays: v = 2 and 1, s = 1/sqrt 2 and 1, s' = .8536 and
    # Ds = -(1/2) / (1 + 1/sqrt 2) Dv = -.2929 Dv; Dv is 2 * 1.5 * 1 / 2 by the first and 2 * .5 * -1 / 2 by the second
    found = carried(Apply(lambda t: F.rms_norm(t, (2,), eps=0.0)[..., :1], False), row(2.0, 0.0), row(1.0, 1.0))
    expected = row(0.853553 - 1.5 * 1.5 * 0.292893, 1.5 * 0.5 * 0.292893)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum().item(), 2**0.5 - 1, atol=1e-5, rtol=0)
    # twice the picture is the same picture: nothing changes
    found = carried(Apply(lambda t: F.layer_norm(t, (2,), eps=0.0)[..., :1], False), row(6.0, 2.0), row(3.0, 1.0))
    torch.testing.assert_close(found.sum(), torch.zeros(()), atol=1e-6, rtol=0)


SELF = torch.linspace(-1, 1, 16 * 16).view(16, 16)
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(F, name) for name in (
        "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid",
        "hardtanh", "softplus", "logsigmoid", "softsign", "tanhshrink",
    )},
    **{name: getattr(torch, name) for name in (
        "tanh", "sigmoid", "exp", "expm1", "erf", "sin", "cos", "abs", "square",
    )},
    "gelu tanh": lambda t: F.gelu(t, approximate="tanh"),
    "prelu": lambda t: F.prelu(t, torch.tensor([0.3, 0.1])),
    "sqrt": lambda t: (t.abs() + 0.1).sqrt(),
    "rsqrt": lambda t: (t.square() + 0.1).rsqrt(),
    "log": lambda t: (t.abs() + 0.1).log(),
    "power": lambda t: t**3 + t.abs().pow(1.5) + 2**t,
    "clamp": lambda t: t.clamp(-0.5, 0.7) + t.clamp(min=0.1),
    "product": lambda t: t[:, :1] * t[:, 1:],
    "own square": lambda t: t * t,
    "gate": lambda t: t * t.mean((2, 3), keepdim=True).sigmoid(),
    "division": lambda t: t[:, :1] / (t[:, 1:].square() + 1) + 2 / (t.abs() + 1),
    "matrices": lambda t: t @ t.mT,
    "one matrix": lambda t: t.flatten(2) @ SELF[:, :3] + (t[:, 0] @ SELF[:4, :4]).sum(),
    "einsum": lambda t: torch.einsum("nchw,ncij->nhwij", t, t),
    "three factors": lambda t: torch.einsum("nch,nch,nch->nc", t[..., 0], t[..., 1], t[..., 2]),
    "dynamic convolution": lambda t: F.conv2d(t, t.mean((2, 3)).view(2, 1, 1, 1).expand(2, 1, 3, 3), groups=2),
    "layer norm": lambda t: F.layer_norm(t, (4, 4), SELF[:4, :4], SELF[4:8, :4]),
    "rms norm": lambda t: F.rms_norm(t, (4,)),
    "group norm": lambda t: F.group_norm(t, 2, torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.1])),
    "instance norm": lambda t: F.instance_norm(t),
    "norm": lambda t: t.norm(dim=(2, 3)) + torch.linalg.vector_norm(t, dim=-1).sum(-1) + t.norm(),
    "normalize": lambda t: F.normalize(t, dim=-1),
    "variance": lambda t: torch.cat([t.var((2, 3)), t.std((2, 3)), *torch.var_mean(t, (2, 3), correction=0)], 1),
    "softmax": lambda t: t.softmax(-1),
    "log softmax": lambda t: F.log_softmax(t, 1),
    "log-sum-exp": lambda t: t.logsumexp(-1),
    "attention": lambda t: F.scaled_dot_product_attention(t, t.flip(-1), t.roll(1, -1)),
    "causal attention": lambda t: F.scaled_dot_product_attention(t, t.flip(-1), t, is_causal=True, scale=2.0),
    "maximum": lambda t: torch.maximum(t[:, 0], t[:, 1]) + torch.minimum(t[:, 0], t[:, 1]) * 3,
    "max of a dimension": lambda t: t.max(-1).values + t.min(dim=2).values * 2 + t.max() + t.amax((1, 2)).sum(),
    "max pool": lambda t: F.max_pool2d(t, 3, 2, 1),
    "uneven max pool": lambda t: F.max_pool2d(t, (2, 3), (2, 1), (0, 1), ceil_mode=True),
    "global max pool": lambda t: F.adaptive_max_pool2d(t, 1) + F.adaptive_max_pool2d(t, 2).sum((2, 3), keepdim=True),
    "cosine": lambda t: F.cosine_similarity(t[:, 0], t[:, 1], dim=-1),
    "gated linear": lambda t: F.glu(t, 1),
    "in place": lambda t: _in_place(t),
    "spectrum": lambda t: torch.fft.irfft2(torch.fft.rfft2(t) * SELF[:4, :3]),
}  # fmt: skip


def _in_place(t: Tensor) -> Tensor:
    """Statements whose value is ignored, on parts and on wholes, and what was kept of a tensor before it changed."""
    t = t * 1
    before = t.sigmoid()
    t.relu_()
    t[:, 0].mul_(before[:, 1])
    t[:, 1, :2] = before[:, 0, 2:] * 2
    t += before
    t /= before + 1
    F.silu(t, inplace=True)
    return t * before


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.3, 1.0, 4.0]), near=st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_every_operation_is_complete(name, seed, scale, near):
    """The sum is the change of the logit, to a 1e-4th of the attribution and the rounding of the logits."""
    torch.manual_seed(seed)
    x0 = torch.randn(1, 2, 4, 4) * scale
    step = torch.randn_like(x0)
    step[..., 1] = 0.0  # nothing changed here
    x, network = x0 + near * step, Apply(OPERATIONS[name])
    signed = carried(network, x, x0)
    change, rounding = float(network(x) - network(x0)), 1e-6 * float(network.operation(x).abs().sum())
    assert abs(float(signed.sum()) - change) <= 1e-4 * float(signed.abs().sum()) + rounding
    assert (signed[..., 1] == 0).all()


@pytest.mark.parametrize("name", sorted(({*CLOSED, *SMOOTH} & set(OPERATIONS)) - {"prelu"}))
def test_close_to_the_baseline_a_chord_is_the_slope(name):
    """Also where x and x0 differ by less than float32 can tell apart in f."""
    for distance in (1e-2, 1e-4, 1e-6):
        x0 = torch.linspace(-2.03, 2.07, 40).view(1, 1, 1, -1)
        x = x0 + distance
        point = ((x.double() + x0.double()) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(OPERATIONS[name](point).sum(), point)
        found = carried(Apply(OPERATIONS[name], False), x, x0) / (x - x0)
        torch.testing.assert_close(found, slope.float(), atol=2e-3, rtol=2e-3)


NETWORKS = {
    "ResNet with max pool": third_party_networks.Residual, "squeeze and excitation": third_party_networks.SqueezeExcite,
    "vision transformer": third_party_networks.Transformer, "in place": third_party_networks.Stages,
    "function": third_party_networks.Hidden, "product": third_party_networks.Gated,
}  # fmt: skip


def trained(network: nn.Module) -> nn.Module:
    """With statistics of its own, and its last layer far from 0."""
    network.train()(torch.randn(8, 3, 64, 64) + torch.randn(8, 3, 1, 1))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [1, 3])
def test_networks_are_complete(name, classes):
    torch.manual_seed(0)
    network = BinaryView(trained(NETWORKS[name](classes=classes)), 1 if classes > 1 else None).eval()
    record = check_lift(network, 3, 64)
    assert record.miss <= 1e-4
    assert record.quadrature == ()
    x, x0 = torch.randn(2, 2, 3, 64, 64).unbind()
    signed, change, logit = Lift(network, x[:1])(x, x0)
    expected = network(x) - network(x0)
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logit, network(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(signed.sum((1, 2, 3)), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(Lift(network, x[:1])(x[:1], x0[:1])[0], Lift(network, x[:1])(x[:1], x0[:1])[0])


class Steady(nn.Module):
    """A logit that hardly depends on the chip, and whose own rounding is larger than a ten-thousandth of its change."""

    def forward(self, u: Tensor) -> Tensor:
        return 10 + 1e-6 * u.tanh().mean((1, 2, 3))


def test_a_logit_that_hardly_changes_is_followed_to_its_own_rounding():
    assert check_lift(Steady(), 3, 64).miss > 1e-4


def test_of_our_network_lift_is_the_rescale_rule_of_its_modules():
    """The rescale rule as it was published: a slope for every ReLU and tanh, from two plain runs."""
    torch.manual_seed(1)
    network = Classifier(ClassifierSettings(base=4, levels=3, chip_size=64)).eval().requires_grad_(False)
    x, x0 = torch.randn(2, 1, 3, 64, 64).unbind()
    signed, change, _ = Lift(network, x)(x, x0)
    curves = [module for module in network.modules() if isinstance(module, nn.ReLU | nn.Tanh)]
    starts: list[tuple[Tensor, Tensor]] = []
    handles = [m.register_forward_hook(lambda _, inputs, out: starts.append((inputs[0], out))) for m in curves]
    network(x0)
    for handle in handles:
        handle.remove()

    def rescaled(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        start, start_out = starts.pop(0)
        distance = (inputs[0].double() - start).detach()
        slope = torch.where(distance == 0, 0.0, (out.detach().double() - start_out) / distance).float()
        line = inputs[0] * slope
        return out.detach() + line - line.detach()

    for module in curves:
        module.register_forward_hook(rescaled)
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(point).sum(), point)
    difference = signed - (x - x0) * slope
    assert float(difference.abs().max()) <= 1e-4 * float(signed.abs().max())
    assert float(difference.abs().sum()) <= 1e-4 * float(signed.abs().sum())
    assert float(difference.sum().abs()) <= 1e-5 * float(change.abs())


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda t: torch.where(t > 0.3, t, 0 * t), "gt"),
        (lambda t: t * (t > 0), "gt"),
        (lambda t: t.round(), "round"),
        (lambda t: t.sort(-1).values.flatten(1) * torch.arange(3 * 64 * 64), "sort"),
        (lambda t: t.topk(3, dim=-1).values, "topk"),
        (lambda t: F.batch_norm(t, None, None, training=True), "statistics of the batch"),
        (lambda t: t.relu() if t.mean() > 0 else t * 2 + 1, "gt"),
        (lambda t: t.detach() * t, "detach"),
        (lambda t: F.grid_sample(t, t[:, :2].permute(0, 2, 3, 1), align_corners=False), "grid_sample"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_name(operation, named):
    with pytest.raises(RequestError, match=f"cannot follow.*got.*{named}.*--maps attribution,path_attribution"):
        check_lift(Apply(operation), 3, 64)


def test_quadrature_of_one_operation_is_told():
    record = check_lift(Apply(torch.sinc), 3, 64)
    assert record.quadrature == ("sinc",)
    assert record.miss <= 1e-4


def test_the_network_and_the_chips_stay_as_they_are():
    def spoils(t: Tensor) -> Tensor:
        return t.mul_(t.sigmoid()).relu_()

    x, x0 = torch.randn(2, 1, 2, 4, 4).unbind()
    kept = x.clone(), x0.clone()
    signed = carried(Apply(spoils), x, x0)
    assert torch.equal(x, kept[0])
    assert torch.equal(x0, kept[1])
    torch.testing.assert_close(signed, carried(Apply(lambda t: (t * t.sigmoid()).relu()), x, x0))


def test_hooks_that_only_look_do_not_disturb():
    from spacex.models.applicability import FeatureStatistics

    torch.manual_seed(0)
    network = trained(third_party_networks.SqueezeExcite())
    view = BinaryView(network, None, find_features(network, torch.zeros(1, 3, 64, 64))).eval()
    x, x0 = torch.randn(2, 2, 3, 64, 64).unbind()
    plain = Lift(view, x[:1])(x, x0)[0]
    statistics = FeatureStatistics(view)
    assert torch.equal(Lift(view, x[:1])(x, x0, statistics)[0], plain)
    seen = statistics.pop()
    with statistics, torch.no_grad():
        view(x)
    torch.testing.assert_close(seen, statistics.pop())
