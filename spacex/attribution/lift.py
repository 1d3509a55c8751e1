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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.attribution.gradients import mean_gradient
from spacex.errors import RequestError
from spacex.models.classes import TargetVsRest, native_network
from spacex.models.classifier import RandomPixelOcclusion
from spacex.models.third_party import disable_inplace

NONLINEAR_LAYERS = (
    nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SiLU, nn.GELU, nn.Softplus, nn.Tanh, nn.Sigmoid,
    nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Mish,
)  # fmt: skip
"""Functions of one element: the rescale rule is defined for them."""
LINEAR_LAYERS = (
    nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample,
    nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReflectionPad2d, nn.ZeroPad2d, RandomPixelOcclusion,
)  # fmt: skip
"""Linear in eval mode: an ordinary gradient carries differences exactly."""
MIN_DISTANCE = 1e-4
"""Between input and baseline. Below it the chord's slope would be rounding, and the tangent's is taken instead."""
QUADRATURE_POINTS = 32
"""Between the logits of several classes: cheap, a few numbers per chip."""
TINY = 1e-12
"""Added to a distance that is divided by."""
TOLERANCE = 0.01
"""By how much the attribution's sum may miss the change of the logit, as a share of the sum of its absolute values."""
STRICT_TOLERANCE = 1e-4
"""The same in float32 for a network that is not ours: rounding leaves 1e-7, products of layers (the squeeze and
excitation of a trained MobileNetV3) 7e-4 and more, which is up to four fifths of the change itself."""


class Lift:
    """The rescale rule for a copy of one classifier in eval mode, (n, bands, h, w) to logits (n,).

    On any chip, (1, bands, h, w), the sum of the attribution is compared with the change of the logit: a non-linearity
    that is hidden in a `forward` cannot be seen otherwise.

    Raises:
        RequestError: if the classifier has layers without a rescale rule.
    """

    def __init__(self, classifier: nn.Module, chip: Tensor) -> None:
        check_rules(classifier)
        self.network = disable_inplace(copy.deepcopy(classifier))
        """The copy that runs: first on the baseline, then on the chips."""
        self._chords = list(_insert_chords(self.network))
        replace_bilinear_upsampling(self.network)
        self.check(chip, chip * 0.9 - 0.1)

    def check(self, chip: Tensor, baseline: Tensor, tolerance: float = TOLERANCE) -> None:
        """Raise a `RequestError` unless the attribution of some chips sums to the change of their logits."""
        signed, change, _ = self(chip, baseline)
        if not torch.allclose(signed.sum(), change.sum(), rtol=0.0, atol=tolerance * float(signed.abs().sum()) + 1e-6):
            _refuse("a non-linearity outside its modules, or a product of two of them")

    def __call__(
        self, u: Tensor, baseline: Tensor, statistics: AbstractContextManager[object] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attribute the change of the logit from `baseline` to `u`, both (n, bands, h, w) in standardised units.

        `statistics` is entered while the network processes the chips themselves.

        Returns:
            (n, bands, h, w) float32, signed, in logits per pixel; summed per chip it is logit(u) - logit(baseline)
            (completeness). That change, (n,). And logit(u), (n,).
        """
        # first pass: every chord remembers what goes into its curve, and what comes out, for the baseline
        with torch.no_grad():
            for chord in self._chords:
                chord.remember = True
            before = self.network(baseline).float()
            for chord in self._chords:
                chord.remember = False
        # second pass: the chips; its backward pass takes the chords' slopes
        point = u.detach().requires_grad_()
        with torch.enable_grad():
            with statistics or nullcontext():
                logit = self.network(point).float()
            (slope,) = torch.autograd.grad(logit.sum(), point)
        logit = logit.detach()
        return (u - baseline) * slope.float(), logit - before, logit


class _Chord(nn.Module):
    """A non-linearity that remembers input and output of the baseline, and then has the slope of the chord."""

    def __init__(self, curve: nn.Module) -> None:
        super().__init__()
        self.curve, self.remember = curve, False
        self._start: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """f(x); after a pass with `remember`, its gradient is the slope of the chord from that pass's input."""
        if self.remember:
            out: Tensor = self.curve(x)
            self._start = x, out
            return out
        assert self._start is not None
        start, self._start = self._start, None
        return self._from(x, *start)

    def _from(self, x: Tensor, start: Tensor, start_out: Tensor) -> Tensor:
        out: Tensor = _ChordFunction.apply(x, self.curve, start, start_out)  # type: ignore[no-untyped-call]
        return out


class _TargetVsRestChord(_Chord):
    """A target class against the rest, with the slopes that carry its whole change back to the logits.

    A function of several inputs has no chord. The mean gradient along the straight line from the baseline's logits is
    complete in the same sense (Aumann-Shapley; Sundararajan et al. 2017); for two classes it is the plain difference.
    What quadrature misses of a sharp bend is made up by tilting the weights towards the logits that moved most.
    """

    def _from(self, x: Tensor, start: Tensor, start_out: Tensor) -> Tensor:
        out: Tensor = self.curve(x)
        slope = self._slope(x.detach(), start, out.detach() - start_out)
        # the value of the curve, the gradient of the straight line
        straight = (x * slope).sum(dim=1)
        return straight + (out - straight).detach()

    def _slope(self, x: Tensor, start: Tensor, change: Tensor) -> Tensor:
        distance, slope = x - start, mean_gradient(self.curve, start, x, QUADRATURE_POINTS)
        rest = -slope  # weights of the other classes; they sum to 1
        rest[:, self.curve.target] = 0  # type: ignore[index]
        # shifting weight between classes in proportion to how far each moved beyond their mean keeps the sum at 1
        beyond = distance - (rest * distance).sum(dim=1, keepdim=True)
        missing = change - (slope * distance).sum(dim=1)
        tilt = missing / ((rest * beyond.square()).sum(dim=1) + TINY)
        return slope + tilt[:, None] * rest * beyond


class _ChordFunction(torch.autograd.Function):
    """f(x) forward, the chord's slope backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, curve: nn.Module, start: Tensor, start_out: Tensor) -> Tensor:
        out: Tensor = curve(x)
        if isinstance(curve, nn.ReLU):
            # 1 where both are positive, 0 where neither is, and between them the positive one's share of the distance.
            # The one quotient max(x, x−) / |x − x−|, clamped to 0..1, is all of that, and needs no case for equal ones
            distance = (x.float() - start).abs_().add_(TINY)
            slope = torch.maximum(x, start).float().div_(distance).clamp_(0.0, 1.0)
        else:
            slope = _chord_slope(curve, x, out, start, start_out)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        return (outer[0] * slope).to(outer[0].dtype), None, None, None


def _chord_slope(curve: nn.Module, x: Tensor, out: Tensor, start: Tensor, start_out: Tensor) -> Tensor:
    distance = x.float() - start
    with torch.enable_grad():
        point = x.detach().float().requires_grad_()
        (tangent,) = torch.autograd.grad(curve(point).sum(), point)
    return torch.where(distance.abs() < MIN_DISTANCE, tangent, (out.float() - start_out) / distance)


class BilinearUpsample2x(nn.Module):
    """Bilinear upsampling by two with a cheap backward pass: PyTorch's took 18 of the 129 ms of a chip's lift."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels, 2 h, 2 w), as `nn.Upsample` does it."""
        upsampled: Tensor = _BilinearUpsample2xFunction.apply(x)  # type: ignore[no-untyped-call]
        return upsampled


class _BilinearUpsample2xFunction(torch.autograd.Function):
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
        # 1/4, 3/4, 3/4, 1/4, computed on the device: copying four numbers to a GPU would wait for all its queued work
        weights = 1 - (torch.arange(4, dtype=gradient.dtype, device=gradient.device) - 1.5).abs() / 2
        kernel = (weights[:, None] * weights).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(gradient, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=channels)


def check_rules(network: nn.Module) -> None:
    """Raise a `RequestError` that names the kinds of layers that have no rescale rule, if there are any."""
    known = (*NONLINEAR_LAYERS, *LINEAR_LAYERS, TargetVsRest, BilinearUpsample2x)
    leaves = [layer for layer in network.modules() if not list(layer.children())]
    if unknown := {type(layer).__name__ for layer in leaves if not isinstance(layer, known)}:
        _refuse(", ".join(sorted(unknown)))


def check_lift(classifier: nn.Module, bands: int, side: int) -> None:
    """Check that `Lift` can follow a classifier in eval mode, for chips of some bands and a side in pixels.

    Our own is known by its layers; any other is tried on one chip.

    Raises:
        RequestError: if it has layers without a rescale rule, or non-linearities outside its layers.
    """
    check_rules(classifier)
    if native_network(classifier) is None:
        chip = torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0))
        # the baseline is far away, so that a hidden non-linearity must show
        Lift(classifier, chip).check(chip, -2 * chip.flip(-1), STRICT_TOLERANCE)


def _insert_chords(network: nn.Module) -> Iterator[_Chord]:
    for parent, name, layer in _children(network):
        if isinstance(layer, (*NONLINEAR_LAYERS, TargetVsRest)):
            chord = _TargetVsRestChord(layer) if isinstance(layer, TargetVsRest) else _Chord(layer)
            setattr(parent, name, chord)
            yield chord


def replace_bilinear_upsampling(network: nn.Module) -> None:
    """Give every bilinear upsampling by two in a network the cheap backward pass."""
    for parent, name, layer in _children(network):
        bilinear = isinstance(layer, nn.Upsample) and layer.mode == "bilinear"
        if bilinear and layer.scale_factor == 2 and not layer.align_corners:
            setattr(parent, name, BilinearUpsample2x())


def _children(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Every layer with its parent and its name there, listed before any of them is replaced."""
    return [(parent, name, layer) for parent in network.modules() for name, layer in parent.named_children()]


def _refuse(got: str) -> None:
    raise RequestError(
        "the map `lift` needs a rescale rule for every layer of the classifier",
        got=got,
        expected="convolutions, average pooling, and ReLU or other non-linearities as modules of their own",
        do="Ask for --maps attribution,path_attribution.",
    )
