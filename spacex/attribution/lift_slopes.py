"""Slopes of the chords of element-wise functions: (f(x) − f(x0)) / (x − x0), also where x and x0 nearly meet.

DeepLIFT's rescale rule needs nothing else of a function of one number. A plain quotient of two small differences is
rounding, so piecewise linear functions and powers have closed forms, and smooth ones their tangent at the middle where
the two inputs are closer than `MIN_DISTANCE`. `x` and `x0` are equally shaped and float32; so are the slopes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

MIN_DISTANCE = 1e-3
"""Below it the tangent at the middle stands for the chord: it is off by a 24th of the third derivative times 1e-6, the
quotient by 6e-8 / 1e-3."""
TINY = 1e-12
"""Added to a distance that is divided by."""


def share_above(x: Tensor, x0: Tensor, level: float | Tensor = 0.0) -> Tensor:
    """The chord of a ReLU at `level`: the share of the way from x0 to x that lies above it.

    1 where both are above, 0 where neither is, and between them the upper one's share of the distance. The one quotient
    max(x, x0) / |x − x0|, clamped to 0..1, is all of that, and needs no case for equal ones.
    """
    top = torch.maximum(x, x0)
    if isinstance(level, Tensor) or level:
        top = top - level
    return top.div_((x - x0).abs_().add_(TINY)).clamp_(0.0, 1.0)


def _relu(x: Tensor, x0: Tensor, **_: Any) -> Tensor:
    return share_above(x, x0)


def _clamp(x: Tensor, x0: Tensor, min: Any = None, max: Any = None) -> Tensor:
    slope = torch.ones_like(x) if min is None else share_above(x, x0, min)
    return slope if max is None else slope - share_above(x, x0, max)


def _hardtanh(x: Tensor, x0: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return _clamp(x, x0, min_val, max_val)


def _hardsigmoid(x: Tensor, x0: Tensor) -> Tensor:
    return _clamp(x, x0, -3.0, 3.0) / 6


def _hardswish(x: Tensor, x0: Tensor) -> Tensor:
    # x times hardsigmoid(x), by the symmetric rule of a product
    gates = torch.nn.functional.hardsigmoid(x) + torch.nn.functional.hardsigmoid(x0)
    return (gates + (x + x0) * _hardsigmoid(x, x0)) / 2


def _leaky_relu(x: Tensor, x0: Tensor, negative_slope: float = 0.01) -> Tensor:
    return negative_slope + (1 - negative_slope) * share_above(x, x0)


def _prelu(x: Tensor, x0: Tensor, weight: Tensor) -> Tensor:
    weight = weight.view(1, -1, *[1] * (x.dim() - 2)) if weight.numel() > 1 else weight
    return weight + (1 - weight) * share_above(x, x0)


def _log(x: Tensor, x0: Tensor) -> Tensor:
    middle, distance = (x + x0) / 2, x - x0
    return torch.where(distance.abs() < MIN_DISTANCE * middle, 1 / middle, (x / x0).log() / distance)


def _sqrt(x: Tensor, x0: Tensor) -> Tensor:
    return 1 / (x.sqrt() + x0.sqrt()).clamp_min(TINY)


def _rsqrt(x: Tensor, x0: Tensor) -> Tensor:
    s, s0 = x.rsqrt(), x0.rsqrt()
    return -(s * s0).square() / (s + s0)


def _reciprocal(x: Tensor, x0: Tensor) -> Tensor:
    return -1 / (x * x0)


def _square(x: Tensor, x0: Tensor) -> Tensor:
    return x + x0


POWERS: Mapping[float, Callable[[Tensor, Tensor], Tensor]] = {
    2: _square, 0.5: _sqrt, -0.5: _rsqrt, -1: _reciprocal, 1: lambda x, x0: torch.ones_like(x),
    3: lambda x, x0: x * x + x * x0 + x0 * x0,
}  # fmt: skip

CLOSED: Mapping[str, Callable[..., Tensor]] = {
    "relu": _relu, "relu6": lambda x, x0: _clamp(x, x0, 0.0, 6.0), "hardtanh": _hardtanh, "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish, "leaky_relu": _leaky_relu, "prelu": _prelu, "_prelu_kernel": _prelu,
    "clamp": _clamp, "clip": _clamp, "clamp_min": _clamp, "clamp_max": lambda x, x0, max: _clamp(x, x0, None, max),
    "abs": lambda x, x0: 2 * share_above(x, x0) - 1, "square": _square, "sqrt": _sqrt, "rsqrt": _rsqrt,
    "reciprocal": _reciprocal, "log": _log, "log1p": lambda x, x0: _log(1 + x, 1 + x0),
    "log2": lambda x, x0: _log(x, x0) / math.log(2), "log10": lambda x, x0: _log(x, x0) / math.log(10),
}  # fmt: skip
"""Functions with a closed form, which takes the function's own further arguments."""

_SMOOTH = """elu celu selu gelu silu mish sigmoid tanh softplus logsigmoid log_sigmoid exp expm1 exp2 erf sin cos sinh
    cosh atan softsign tanhshrink softshrink hardshrink threshold pow __pow__ __rpow__"""
SMOOTH = frozenset(_SMOOTH.split())
"""Functions whose chord is a quotient, with the tangent at the middle where it would be rounding."""


DERIVATIVES = {"gelu": torch.ops.aten.gelu_backward, "silu": torch.ops.aten.silu_backward}
"""What autograd would call, of functions so common that its own time counts."""

Tangent = Callable[[Tensor], Tensor]


def smooth_slope(
    function: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, tangent: Tangent | None = None
) -> Tensor:
    """The chord of a smooth function, given its values y and y0, and its derivative if that is known."""
    tangent = tangent or partial(_tangent, function)
    distance = x - x0
    slope = (y - y0).div_(distance)
    distance.abs_()
    if x.device.type != "cpu":  # which elements are near is not asked, for the answer would wait for all queued work
        return torch.where(distance < MIN_DISTANCE, tangent(torch.lerp(x, x0, 0.5)), slope)
    places = np.flatnonzero(_line(distance, slope).numpy() < MIN_DISTANCE)  # a tenth of torch's time
    if len(places):
        chosen = torch.from_numpy(places)
        middle = torch.lerp(_line(x, slope)[chosen], _line(x0, slope)[chosen], 0.5)
        _line(slope, slope)[chosen] = tangent(middle)
    return slope


def _line(x: Tensor, like: Tensor) -> Tensor:
    """All elements of x in the order in which those of `like` lie in memory, where there are no gaps."""
    same = x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)
    return same.as_strided((x.numel(),), (1,))


def _tangent(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        y = function(point)
        (gradient,) = torch.autograd.grad(y, point, torch.ones_like(y))
    return gradient
