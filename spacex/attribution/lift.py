"""DeepLIFT with the minimised picture as its baseline, in two forward passes and one backward pass.

The rescale rule (Shrikumar, Greenside & Kundaje, "Learning important features through propagating activation
differences", ICML 2017, section 3.5.1) replaces a non-linearity's slope by the slope of its chord between baseline
and input, (f(x) - f(x−)) / (x - x−). The backward pass then carries the whole change of the logit from x− to x
back to the pixels, wherever on the way the network bends; integrating gradients along that way costs several times
as much. Captum's implementation hooks every module, runs baseline and input together through the backward pass
too, and cannot run in bfloat16; it is the oracle of the tests.

The name: DeepLIFT from black is one of the paper's rivals and keeps its name in the tables; `lift` is from x−.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.errors import RequestError
from spacex.models.classes import TargetVsRest, native_network
from spacex.models.classifier import RandomPixelOcclusion
from spacex.models.third_party import disable_inplace

CURVES = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SiLU, nn.GELU, nn.Softplus, nn.Tanh, nn.Sigmoid,
          nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Mish)  # fmt: skip
"""Element by element: the rescale rule is defined."""
STRAIGHT = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample,
            nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReflectionPad2d, nn.ZeroPad2d,
            RandomPixelOcclusion)  # fmt: skip
"""Linear in eval mode: an ordinary gradient carries differences exactly."""
CLOSE = 1e-4
"""Input and baseline nearer than this have no chord worth its rounding: the slope itself is taken."""
NODES = 32
"""Gauss-Legendre points on the way between the logits of several classes: a few numbers per chip."""
TINY = 1e-12
"""Added to a distance that is divided by."""
COMPLETE = 0.01
"""Share of the attributed total by which its sum may miss the change of the logit."""
STRICT = 1e-4
"""The same in float32 for a network that is not ours: rounding leaves 1e-7, products of layers (the squeeze and
excitation of a trained MobileNetV3) 7e-4 and more, which is up to four fifths of the change itself."""


class Lift:
    """The rescale rule for one classifier.

    Args:
        classifier: in eval mode, (n, bands, h, w) to logits (n,); copied, not changed.
        chip: (1, bands, h, w) any chip, on which the sum of the attribution is compared with the change of the
            logit: a non-linearity that is hidden in a `forward` cannot be seen otherwise.

    Raises:
        RequestError: if the classifier has layers without a rescale rule.
    """

    def __init__(self, classifier: nn.Module, chip: Tensor) -> None:
        check_rules(classifier)
        self._network = disable_inplace(copy.deepcopy(classifier))
        self._chords = list(_put_chords(self._network))
        put_doublings(self._network)
        self.check(chip, chip * 0.9 - 0.1)

    def check(self, chip: Tensor, baseline: Tensor, share: float = COMPLETE) -> None:
        """Raises RequestError if the attribution of some chips does not sum to the change of their logits.

        Args:
            chip: chips in the classifier's units.
            baseline: others.
            share: of the attributed total that may be missing.
        """
        found, change, _ = self(chip, baseline)
        if not torch.allclose(found.sum(), change.sum(), rtol=0.0, atol=share * float(found.abs().sum()) + 1e-6):
            _refuse("a non-linearity outside its modules, or a product of two of them")

    @property
    def network(self) -> nn.Module:
        """The copy of the classifier that is called: first with the baseline, then with the chips."""
        return self._network

    def __call__(
        self, u: Tensor, baseline: Tensor, watch: AbstractContextManager[object] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attribute the change of the logit from `baseline` to `u`.

        Args:
            u: chips in the classifier's units, (n, bands, h, w) float32.
            baseline: x− in the same units, same shape.
            watch: entered while the network looks at the chips themselves.

        Returns:
            (n, bands, h, w) float32, signed, in logits per pixel; summed per chip it is logit(u) - logit(baseline)
            (completeness). That change, (n,). And logit(u), (n,).
        """
        with torch.no_grad():
            for chord in self._chords:
                chord.remember = True
            before = self._network(baseline).float()
            for chord in self._chords:
                chord.remember = False
        point = u.detach().requires_grad_()
        with torch.enable_grad():
            with watch or nullcontext():
                logit = self._network(point).float()
            (slope,) = torch.autograd.grad(logit.sum(), point)
        logit = logit.detach()
        return (u - baseline) * slope.float(), logit - before, logit


class _Chord(nn.Module):
    """A non-linearity that remembers what it did to the baseline, and then has the chord's slope."""

    def __init__(self, curve: nn.Module) -> None:
        super().__init__()
        self.curve, self.remember = curve, False
        self._start: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """f(x), whose gradient is the slope of the chord from the remembered baseline."""
        if self.remember:
            out: Tensor = self.curve(x)
            self._start = x, out
            return out
        assert self._start is not None
        start, self._start = self._start, None
        bent: Tensor = _Bent.apply(x, self.curve, *start)  # type: ignore[no-untyped-call]
        return bent


class _Weighing(_Chord):
    """A target class against the rest, with the slopes that carry its whole change back to the logits.

    A function of several inputs has no chord. The mean gradient along the straight line from the baseline's logits is
    complete in the same sense (Aumann-Shapley; Sundararajan et al. 2017); for two classes it is the plain difference.
    What quadrature misses of a sharp bend is made up by tilting the weights towards the logits that moved most.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) to (n,), like the curve."""
        out: Tensor = self.curve(x)
        if self.remember:
            self._start = x, out
            return out
        assert self._start is not None
        (start, start_out), self._start = self._start, None
        slope = self._slope(x.detach(), start, out.detach() - start_out)
        straight = (x * slope).sum(dim=1)
        return straight + (out - straight).detach()

    def _slope(self, x: Tensor, start: Tensor, change: Tensor) -> Tensor:
        way, slope = x - start, torch.zeros_like(x)
        for node, weight in zip(*np.polynomial.legendre.leggauss(NODES), strict=True):
            point = (start + way * ((float(node) + 1) / 2)).requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self.curve(point).sum(), point)
            slope += gradient * (float(weight) / 2)
        rest = -slope  # weights of the other classes; they sum to 1
        rest[:, self.curve.target] = 0  # type: ignore[index]
        off = way - (rest * way).sum(dim=1, keepdim=True)
        missing = change - (slope * way).sum(dim=1)
        tilt = missing / ((rest * off.square()).sum(dim=1) + TINY)
        return slope + tilt[:, None] * rest * off


class _Bent(torch.autograd.Function):
    """f(x) forward, the chord's slope backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, curve: nn.Module, start: Tensor, start_out: Tensor) -> Tensor:
        out: Tensor = curve(x)
        slope = _relu_chord(x, start) if isinstance(curve, nn.ReLU) else _chord(curve, x, out, start, start_out)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        return (outer[0] * slope).to(outer[0].dtype), None, None, None


class _Doubling(nn.Module):
    """Bilinear upsampling by two with a cheap backward pass: PyTorch's took 18 of the 129 ms of a chip's lift."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels, 2 h, 2 w), as `nn.Upsample` does it."""
        doubled: Tensor = _Doubled.apply(x)  # type: ignore[no-untyped-call]
        return doubled


class _Doubled(torch.autograd.Function):
    """Interpolation forward; backward its adjoint, a convolution of every channel by itself with stride 2.

    Pixel i of the small picture gives 1/4, 3/4, 3/4, 1/4 to pixels 2 i - 1 to 2 i + 2 of the large one, in either
    direction, and at the edges what would fall outside to the outermost pixel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (gradient,) = outer
        channels = gradient.shape[1]
        # worked out where it is needed: copying four numbers to a GPU would wait for all that it has still to do
        side = 1 - (torch.arange(4, dtype=gradient.dtype, device=gradient.device) - 1.5).abs() / 2
        kernel = (side[:, None] * side).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(gradient, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=channels)


def _relu_chord(x: Tensor, start: Tensor) -> Tensor:
    """1 where both are positive, 0 where neither is, and between them the positive one's share of the way.

    The one quotient max(x, x−) / |x − x−|, kept between 0 and 1, is all of that, and needs no case for equal ones.
    """
    across = (x.float() - start).abs_().add_(TINY)
    return torch.maximum(x, start).float().div_(across).clamp_(0.0, 1.0)


def _chord(curve: nn.Module, x: Tensor, out: Tensor, start: Tensor, start_out: Tensor) -> Tensor:
    across = x.float() - start
    slope = (out.float() - start_out) / across
    with torch.enable_grad():
        point = x.detach().float().requires_grad_()
        (tangent,) = torch.autograd.grad(curve(point).sum(), point)
    return torch.where(across.abs() < CLOSE, tangent, slope)


def without_rule(network: nn.Module) -> list[str]:
    """Names of the kinds of layers in a network that have no rescale rule here."""
    leaves = [layer for layer in network.modules() if not list(layer.children())]
    known = (*CURVES, *STRAIGHT, TargetVsRest, _Doubling)
    return sorted({type(layer).__name__ for layer in leaves if not isinstance(layer, known)})


def check_rules(network: nn.Module) -> None:
    """Raises RequestError, naming the layers, if a network has some without a rescale rule."""
    if strange := without_rule(network):
        _refuse(", ".join(strange))


def check_lift(classifier: nn.Module, bands: int, side: int) -> None:
    """Refuse a classifier that `Lift` cannot follow.

    Args:
        classifier: in eval mode. Our own is known by its layers; any other is tried on one chip.
        bands: of a chip.
        side: of a chip, pixels.

    Raises:
        RequestError: if it has layers without a rescale rule, or non-linearities outside its layers.
    """
    check_rules(classifier)
    if native_network(classifier) is None:
        chip = torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0))
        # far apart, so that whatever bends in secret has to
        Lift(classifier, chip).check(chip, -2 * chip.flip(-1), STRICT)


def _put_chords(network: nn.Module) -> Iterator[_Chord]:
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, (*CURVES, TargetVsRest)):
                chord = _Weighing(layer) if isinstance(layer, TargetVsRest) else _Chord(layer)
                setattr(parent, name, chord)
                yield chord


def put_doublings(network: nn.Module) -> None:
    """Give every bilinear upsampling by two in a network the cheap backward pass."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            how = (layer.mode, layer.scale_factor, bool(layer.align_corners)) if isinstance(layer, nn.Upsample) else ()
            if how == ("bilinear", 2, False):
                setattr(parent, name, _Doubling())


def _refuse(got: str) -> None:
    raise RequestError(
        "the map `lift` needs a rescale rule for every layer of the classifier",
        got=got,
        expected="convolutions, average pooling, and ReLU or other non-linearities as modules of their own",
        do="Ask for --maps attribution,path_attribution.",
    )
