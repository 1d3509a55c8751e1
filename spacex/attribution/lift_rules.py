"""Rules by which single operations carry a difference: M with M(x0, x)ᵀ (x − x0) = f(x) − f(x0), as a backward pass.

`README.md` beside this file derives each in a line. A rule is called in both runs of `spacex.attribution.lift`, as
torch calls the operation, with the run and torch's own function before: over the baseline x0 it computes the value and
leaves what it will need (`Run.exchange` returns None); over the chips x it gets that back and gives M to its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from spacex.attribution.gradients import mean_gradients
from spacex.attribution.lift_slopes import CLOSED, DERIVATIVES, POWERS, TINY, share_above, smooth_slope

EQUAL_LOGARITHMS = 1e-2
"""Difference below which the logarithmic mean of two numbers is their mean: off by a twelfth of its square."""
POINTS = 32
"""Gauss-Legendre points for an operation without a closed rule."""
Function = Callable[..., Any]


class Run(Protocol):
    """What a rule sees of the run it is called in."""

    quadrature: set[str]
    """Operations without a closed rule, carried by quadrature."""
    cut: set[str]
    """Operations that depend on the picture, and carry no difference."""

    def exchange(self, *values: Tensor) -> list[Tensor] | None:
        """Over the baseline keep some tensors and return None; over the chips return those that were kept."""

    def __enter__(self) -> Any:
        """Within the block the run sees operations again, which it does not while a rule is called."""

    def __exit__(self, *_: Any) -> Any: ...


def elementwise(name: str, run: Run, func: Function, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A function of every element by itself: the slope of its chord."""
    y: Tensor = func(x.detach(), *args, **kwargs)
    closed = CLOSED.get(name)
    if name in ("pow", "__pow__") and args and not isinstance(args[0], Tensor):
        power = POWERS.get(args[0])
        closed = power and (lambda x, x0, _: power(x, x0))
    starts = run.exchange(x) if closed else run.exchange(x, y)
    if starts is None or not x.requires_grad:
        return y
    now, start = x.detach().float(), starts[0].float()
    if closed:
        slope = closed(now, start, *args, **kwargs)
    else:
        known = DERIVATIVES.get(name)
        tangent = known and (lambda t: known(torch.ones_like(t), t, *args, **kwargs))
        slope = smooth_slope(lambda t: func(t, *args, **kwargs), now, start, y.float(), starts[1].float(), tangent)
    return carry(y, lambda g, slope: [(g * slope).to(g.dtype)], [slope], x)


def product(run: Run, func: Function, a: Any, b: Any, **kwargs: Any) -> Tensor:
    """The product a * b of two tensors that both change: each by the mean of the other."""

    def back(g: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [(g * b).sum_to_size(a.shape), (g * a).sum_to_size(b.shape)]

    return _bilinear(run, func, a, b, back)


def matrix_product(run: Run, func: Function, a: Tensor, b: Tensor) -> Tensor:
    """The same of matrices and of stacks of them."""
    if min(a.dim(), b.dim()) < 2:
        return polynomial(run, func, a, b)

    def back(g: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [(g @ b.mT).sum_to_size(a.shape), (a.mT @ g).sum_to_size(b.shape)]

    return _bilinear(run, func, a, b, back)


def polynomial(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """What is linear in each of its tensors: the mean gradient, by as many points as make it exact."""
    if func.__name__ != "einsum" and sum(map(_may_change, (*args, *kwargs.values()))) < 2:
        return func(*args, **kwargs)  # type: ignore[no-any-return]
    return mean_gradient(run, func, args, kwargs, linear_in_one=True)  # type: ignore[no-any-return]


def variance(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """A square, for which one point is exact."""
    return mean_gradient(run, func, args, kwargs)  # type: ignore[no-any-return]


def sample(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """Values of a picture between its pixels: linear, unless the places are the picture's own choice."""
    return mean_gradient(run, func, args, kwargs, POINTS, linear_in_one=True)  # type: ignore[no-any-return]


def mean_gradient(
    run: Run, func: Function, args: Any, kwargs: Any, points: int = 0, linear_in_one: bool = False
) -> Any:
    """The mean gradient of one operation on the straight line between its inputs; 0 points: as many as are exact."""
    flat, spec = pytree.tree_flatten((args, kwargs))
    starts = run.exchange(*floating_tensors(flat))
    tensors = [i for i, value in enumerate(flat) if _is_floating(value)]
    moving = [i for i in tensors if flat[i].requires_grad]
    if starts is None or not moving or (linear_in_one and len(moving) == 1):
        return func(*args, **kwargs)
    if points:
        run.quadrature.add(func.__name__)
    before = dict(zip(tensors, starts, strict=True))

    def of_moving(*values: Tensor) -> Tensor:
        filled = list(flat)
        for i, value in zip(moving, values, strict=True):
            filled[i] = value
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return func(*args, **kwargs)  # type: ignore[no-any-return]

    ends, count = [flat[i].detach() for i in moving], points or (len(moving) + 1) // 2

    def back(g: Tensor, *saved: Tensor) -> list[Tensor]:
        return mean_gradients(of_moving, saved[: len(moving)], saved[len(moving) :], count, g)

    saved = [*(before[i] for i in moving), *ends]
    return carry(of_moving(*ends), back, saved, *(flat[i] for i in moving))


def maximum(run: Run, func: Function, a: Tensor, b: Tensor) -> Tensor:
    """max(a, b) = a + relu(b − a)."""
    starts, y = run.exchange(a, b), torch.maximum(a.detach(), b.detach())
    if starts is None:
        return y
    share = share_above((b - a).detach().float(), (starts[1] - starts[0]).float())
    shapes = a.shape, b.shape

    def back(g: Tensor, share: Tensor) -> list[Tensor]:
        to_b = (g * share).to(g.dtype)
        return [(g - to_b).sum_to_size(shapes[0]), to_b.sum_to_size(shapes[1])]

    return carry(y, back, [share], a, b)


def vector_norm(
    run: Run, func: Function, x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, **rest: Any
) -> Tensor:
    """The difference of |x| is (x + x0) · Dx / (|x| + |x0|). Of other orders by quadrature."""
    if ord not in (None, 2, "fro") or rest.get("dtype"):
        return mean_gradient(run, func, (x, ord, dim, keepdim), rest, POINTS)  # type: ignore[no-any-return]
    starts, dims = run.exchange(x), tuple(range(x.dim())) if dim is None else dim
    y: Tensor = torch.linalg.vector_norm(x.detach(), 2, dims, True)
    if starts is not None:
        sizes = y + torch.linalg.vector_norm(starts[0], 2, dims, True)
        y = _weighted_sum(x, (x.detach() + starts[0]) / sizes.clamp_min(TINY), y, dims)
    return y if keepdim else y.squeeze(dims)


def logsumexp(run: Run, func: Function, x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """Weights L / sum L, with the logarithmic means L of the softmax probabilities of x and x0."""
    starts, y = run.exchange(x), torch.logsumexp(x.detach(), dim, True)
    if starts is not None:
        now, start = x.detach() - y, starts[0] - torch.logsumexp(starts[0], dim, True)
        weights = _logarithmic_mean(now, start, now.exp(), start.exp())
        y = _weighted_sum(x, weights / weights.sum(dim, keepdim=True), y, dim)
    return y if keepdim else y.squeeze(dim)


def softmax(
    run: Run, func: Function, x: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """Its own Jacobian, with the logarithmic means L of the probabilities in their place."""
    along = int(x.dim() not in (0, 1, 3)) if dim is None else dim  # as torch chooses
    x = x if dtype is None else x.to(dtype)
    logarithms = F.log_softmax(x.detach(), along)
    p = logarithms.exp()
    starts = run.exchange(logarithms, p)
    if starts is None or not x.requires_grad:
        return p

    def back(g: Tensor, mean: Tensor) -> list[Tensor]:
        weighted = mean * g
        level = weighted.sum(along, keepdim=True) / mean.sum(along, keepdim=True)
        return [weighted.addcmul_(mean, level, value=-1)]

    return carry(p, back, [_logarithmic_mean(logarithms, starts[0], p, starts[1])], x)


def normalise(
    run: Run, x: Tensor, eps: float, centred: bool, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Divide by the root mean square along the last dimension, after taking the mean off if `centred`.

    y = c s: Dy = s' Dc + c' Ds with the middles '. Ds is −s² s0² / (s + s0) times the difference of the variance, which
    is the mean of 2 c' Dc. Nothing is divided by a difference. Where `centred`, weights that do not change may scale
    and shift y. Torch's own backward pass, r (g − mean g) − r³ c mean(c g), then does it all: with c' for c, with
    r = s s0 / s', and s' / r as a factor.
    """
    if centred:
        return _layer_norm(run, x, eps, weight, bias)

    def scale(x: Tensor) -> Tensor:
        return (x.square().mean(-1, keepdim=True) + eps).rsqrt()

    c, s = x.detach(), scale(x.detach())
    starts = run.exchange(c, s)
    if starts is None or not x.requires_grad:
        return c * s
    c0, s0 = starts

    def back(g: Tensor, c: Tensor, s: Tensor, slope: Tensor) -> list[Tensor]:
        return [(g * s).addcmul_(c, (g * c).mean(-1, keepdim=True) * slope, value=-2)]

    return carry(c * s, back, [torch.lerp(c, c0, 0.5), (s + s0) / 2, (s * s0).square_().div_(s + s0)], x)


def _layer_norm(run: Run, x: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    width, dtype = x.shape[-1:], torch.promote_types(x.dtype, torch.float32)
    now = x.detach().to(dtype)
    scale, shift = (None if one is None else one.detach().to(dtype) for one in (weight, bias))
    y, mean, s = torch.native_layer_norm(now, width, scale, shift, eps)
    starts = run.exchange(now, mean, s)
    if starts is None or not x.requires_grad:
        return y.to(x.dtype)
    mean, middle = torch.lerp(mean, starts[1], 0.5), (s + starts[2]) / 2
    r = s * starts[2] / middle

    def back(g: Tensor, c: Tensor, mean: Tensor, r: Tensor, factor: Tensor) -> list[Tensor]:
        backward = torch.ops.aten.native_layer_norm_backward
        to_x, *_ = backward(g.to(dtype), c, width, mean, r, scale, shift, [True, False, False])
        return [to_x.mul_(factor).to(g.dtype)]

    return carry(y.to(x.dtype), back, [torch.lerp(now, starts[0], 0.5), mean, r, middle / r], x)


def floating_tensors(values: Any) -> list[Tensor]:
    """All tensors of floating point numbers in nested arguments, in order."""
    return [value for value in pytree.tree_leaves(values) if _is_floating(value)]


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _may_change(value: Any) -> bool:
    """Whether an operand may depend on the picture: a number or a weight does not."""
    return isinstance(value, Tensor) and not isinstance(value, torch.nn.Parameter)


def _bilinear(run: Run, func: Function, a: Any, b: Any, back: Callable[..., list[Tensor]]) -> Tensor:
    starts = run.exchange(a, b) if _may_change(a) and _may_change(b) else None
    out: Tensor
    if starts is None or not (a.requires_grad and b.requires_grad):
        out = func(a, b)
        return out
    out = func(a.detach(), b.detach())
    return carry(out, back, [torch.lerp(a.detach(), starts[0], 0.5), torch.lerp(b.detach(), starts[1], 0.5)], a, b)


def _weighted_sum(x: Tensor, weights: Tensor, value: Tensor, dim: Any) -> Tensor:
    """`value`, with the gradient of the sum of x times weights over `dim`, which stays as 1."""
    line = (x * weights).sum(dim, keepdim=True)
    return value + (line - line.detach())


def _logarithmic_mean(logarithm: Tensor, logarithm0: Tensor, p: Tensor, p0: Tensor) -> Tensor:
    """(p − p0) / (log p − log p0); 0 where either is 0."""
    distance = logarithm - logarithm0
    mean = torch.where(distance.abs() < EQUAL_LOGARITHMS, torch.lerp(p, p0, 0.5), (p - p0).div_(distance))
    return mean.nan_to_num_(0.0, 0.0, 0.0)


def carry(value: Tensor, back: Callable[..., list[Tensor]], saved: Sequence[Tensor], *inputs: Tensor) -> Tensor:
    """`value`, a function of `inputs`, with a backward pass of the outer gradient and what is saved for it."""
    out: Tensor = _Carry.apply(value, back, saved, *inputs)  # type: ignore[no-untyped-call]
    return out


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, back: Function, saved: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.back = back
        ctx.save_for_backward(*saved)
        # an input handed on as it is would become a view, whose strides make a batch of one that lies channels last
        # look as if it did not, and everything after it would be copied
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        return None, None, None, *ctx.back(outer[0], *ctx.saved_tensors)
