"""Operations that are made of simpler ones, so that the rules of those carry their differences.

Each is called as torch calls the operation, with the pass and torch's own function before; what runs within `with run:`
is seen by the pass again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.attribution import lift_rules as rules
from spacex.attribution.lift_rules import Function, Run


def divide(run: Run, func: Function, a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    """The quotient a / b = a (1 / b)."""
    if rounding_mode is not None or not isinstance(b, Tensor) or isinstance(b, torch.nn.Parameter):
        return func(a, b) if rounding_mode is None else func(a, b, rounding_mode=rounding_mode)
    with run:
        return b.reciprocal() * a


def divide_by(run: Run, func: Function, b: Tensor, a: Any) -> Any:
    """The same from the right."""
    return divide(run, func, a, b)


def layer_norm(
    run: Run, func: Function, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    *_: Any,
) -> Tensor:  # fmt: skip
    """Layer norm over the last dimensions."""
    flat = x.flatten(-len(normalized_shape))
    if all(one is None or isinstance(one, torch.nn.Parameter) for one in (weight, bias)):
        scale, shift = (None if one is None else one.flatten() for one in (weight, bias))
        return rules.normalise(run, flat, eps, True, scale, shift).view(x.shape)
    return _affine(run, rules.normalise(run, flat, eps, centred=True).view(x.shape), weight, bias)


def rms_norm(
    run: Run, func: Function, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    """RMS norm over the last dimensions."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = rules.normalise(run, x.flatten(-len(normalized_shape)), eps, centred=False).view(x.shape)
    return _affine(run, y, weight, None)


def group_norm(
    run: Run, func: Function, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    *_: Any,
) -> Tensor:  # fmt: skip
    """Group norm of (n, channels, ...)."""
    y = rules.normalise(run, x.reshape(len(x), num_groups, -1), eps, centred=True).view(x.shape)
    shape = (1, -1, *[1] * (x.dim() - 2))
    return _affine(run, y, None if weight is None else weight.view(shape), None if bias is None else bias.view(shape))


def instance_norm(
    run: Run, func: Function, x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """Instance norm: group norm with a group for every channel, or batch norm by stored statistics."""
    with run:
        if not use_input_stats:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        return F.group_norm(x, x.shape[1], weight, bias, eps)


def glu(run: Run, func: Function, x: Tensor, dim: int = -1) -> Tensor:
    """Gated linear unit: one half of the channels times the sigmoid of the other."""
    with run:
        value, gate = x.chunk(2, dim)
        return value * gate.sigmoid()


def standard_deviation(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """The root of the variance."""
    with run:
        return torch.var(*args, **kwargs).sqrt()


def variance_and_mean(run: Run, func: Function, x: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Both, or the standard deviation and the mean."""
    one = torch.std if func.__name__.startswith("std") else torch.var
    with run:
        return one(x, dim, *args, **kwargs), x.mean(dim, kwargs.get("keepdim", False))


def log_softmax(
    run: Run, func: Function, x: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """The input minus its log-sum-exp."""
    dim = int(x.dim() not in (0, 1, 3)) if dim is None else dim  # as torch chooses
    with run:
        x = x if dtype is None else x.to(dtype)
        return x - torch.logsumexp(x, dim, keepdim=True)


def attention(
    run: Run, func: Function, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(q kᵀ / sqrt(width) + mask) v, without the dropout of training."""
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    with run:
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        weights = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
        if attn_mask is not None:
            weights = weights + attn_mask
        out: Tensor = weights.softmax(-1) @ value
        return out


def cosine_similarity(run: Run, func: Function, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 over both norms."""
    with run:
        norms = [torch.linalg.vector_norm(x, 2, dim, True).clamp_min(eps) for x in (x1, x2)]
        out: Tensor = ((x1 / norms[0]) * (x2 / norms[1])).sum(dim)
        return out


def norm(
    run: Run, func: Function, x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, **rest: Any
) -> Tensor:
    """The same with torch's older arguments."""
    with run:
        out: Tensor = torch.linalg.vector_norm(x, 2 if p in (None, "fro") else p, dim, keepdim, **rest)
        return out


def minimum(run: Run, func: Function, a: Tensor, b: Tensor) -> Tensor:
    """min(a, b) = −max(−a, −b)."""
    with run:
        return -torch.maximum(-a, -b)


def max_or_maximum(run: Run, func: Function, x: Tensor, dim: Any = None, keepdim: bool = False, **other: Any) -> Any:
    """torch.max: of two tensors, of all elements, or of a dimension together with where it lies."""
    if isinstance(dim, Tensor) or "other" in other:
        with run:
            return torch.maximum(x, other.get("other", dim))
    if dim is None:
        return amax(run, func, x)
    return torch.return_types.max((amax(run, func, x, dim, keepdim), x.detach().argmax(dim, keepdim)))


def min_or_minimum(run: Run, func: Function, x: Tensor, dim: Any = None, keepdim: bool = False, **other: Any) -> Any:
    """torch.min, likewise."""
    if isinstance(dim, Tensor) or "other" in other:
        return minimum(run, func, x, other.get("other", dim))
    if dim is None:
        return amin(run, func, x)
    return torch.return_types.min((amin(run, func, x, dim, keepdim), x.detach().argmin(dim, keepdim)))


def amax(run: Run, func: Function, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """A tree of maxima of two halves."""
    dims = [d % x.dim() for d in ((dim,) if isinstance(dim, int) else dim or range(x.dim()))]
    with run:
        for d in dims:
            while (size := x.shape[d]) > 1:
                half = size // 2
                larger = torch.maximum(x.narrow(d, 0, half), x.narrow(d, half, half))
                x = torch.cat([larger, x.narrow(d, size - 1, 1)], d) if size % 2 else larger
        return x if keepdim else x.squeeze(dims)


def amin(run: Run, func: Function, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """A tree of minima."""
    return -amax(run, func, -x, dim, keepdim)


def max_pool(
    run: Run, func: Function, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima of shifted pictures, one direction after the other."""
    axes = int(func.__name__.partition("pool")[2][0])  # max_pool2d and its like
    given = [(value,) * axes if isinstance(value, int) else tuple(value) for value in (kernel_size, padding, dilation)]
    strides = given[0] if stride is None or stride == [] else (stride,) * axes if isinstance(stride, int) else stride
    lowest = torch.finfo(x.dtype).min / 4  # not infinite, for infinities have no difference
    with run:
        y = x
        for axis, (kernel, pad, every, step) in enumerate(zip(*given, strides, strict=True), x.dim() - axes):
            size, reach = y.shape[axis], every * (kernel - 1) + 1
            count = (size + 2 * pad - reach + (step - 1) * ceil_mode) // step + 1
            count -= ceil_mode and (count - 1) * step >= size + pad  # no window begins behind the picture
            behind = max((count - 1) * step + reach - size - pad, 0)
            y = F.pad(y, (0, 0) * (x.dim() - 1 - axis) + (pad, behind), value=lowest) if pad or behind else y
            shifted = [
                y[(slice(None),) * axis + (slice(i * every, i * every + (count - 1) * step + 1, step),)]
                for i in range(kernel)
            ]
            y = shifted[0]
            for other in shifted[1:]:
                y = torch.maximum(y, other)
    if not (return_indices or func.__name__.endswith("with_indices")):
        return y
    full = getattr(F, f"max_pool{axes}d_with_indices")
    return y, full(x.detach(), kernel_size, stride, padding, dilation, ceil_mode)[1]


def adaptive_max_pool(run: Run, func: Function, x: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """A max pool whose windows divide the picture; to one pixel, the maximum."""
    axes = int(func.__name__.partition("pool")[2][0])
    sizes = (output_size,) * axes if isinstance(output_size, int) else output_size
    kernel = [have // (want or have) for have, want in zip(x.shape[-axes:], sizes, strict=True)]
    if return_indices or any(have % side for have, side in zip(x.shape[-axes:], kernel, strict=True)):
        return rules.mean_gradient(run, func, (x, output_size), {}, rules.POINTS)  # type: ignore[no-any-return]
    if kernel == list(x.shape[-axes:]):
        return amax(run, func, x, tuple(range(-axes, 0)), True)
    with run:
        return getattr(F, f"max_pool{axes}d")(x, kernel)  # type: ignore[no-any-return]


def _affine(run: Run, y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    with run:
        y = y if weight is None else y * weight
        return y if bias is None else y + bias
