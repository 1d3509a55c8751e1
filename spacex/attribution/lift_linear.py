"""Linear operations with a backward pass of their own, where torch's takes several times as long for one chip.

Their gradient is what carries the difference, so nothing but time depends on this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.attribution import lift_rules as rules
from spacex.attribution.lift_rules import Function, Run

MULTIPLICATIONS, ELEMENTS = 2**22, 2**15
"""Of a convolution, and of a picture that is normalised, below which a rule in Python costs as much as it saves."""


def convolution(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """Linear. Patches side by side without overlap, single pixels too, go back by one product of matrices.

    On the CPU that takes half to a quarter of the time of torch's backward pass for a batch of one.
    """
    patches = _patches(*args, **kwargs)
    if patches is None:
        return rules.polynomial(run, func, *args, **kwargs)
    x, weight = args[0], args[1] if len(args) > 1 else kwargs["weight"]
    shape, (high, wide) = x.shape, patches

    def back(g: Tensor, weight: Tensor) -> list[Tensor]:
        h, w = g.shape[2:]
        if patches == (1, 1):
            return [(weight.flatten(1).mT @ g.flatten(2)).view(shape)]
        parts = (g.flatten(2).mT @ weight.flatten(1)).view(-1, h, w, shape[1], high, wide)
        to_x = parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, shape[1], h * high, w * wide)
        return [F.pad(to_x, (0, shape[3] - w * wide, 0, shape[2] - h * high))]

    plain = [one.detach() if isinstance(one, Tensor) else one for one in args]
    return rules.carry(func(*plain, **kwargs), back, [weight.detach()], x)


def _patches(
    input: Tensor, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> tuple[int, ...] | None:
    """The side of a convolution's patches, if they lie side by side and `convolution` is worth its time."""
    if not (isinstance(weight, torch.nn.Parameter) and input.requires_grad and input.dim() == 4 and groups == 1):
        return None
    step, rim, apart = (
        (value,) * 2 if isinstance(value, int) else tuple(value) for value in (stride, padding, dilation)
    )
    if (rim, apart, step) != ((0, 0), (1, 1), tuple(weight.shape[2:])):
        return None
    return step if weight.shape[:2].numel() * input.shape[2:].numel() > MULTIPLICATIONS else None


def batch_norm(run: Run, func: Function, *args: Any, **kwargs: Any) -> Tensor:
    """Linear by stored statistics, and carried as the factor of each channel; by the batch's own, refused."""
    if (args[5] if len(args) > 5 else kwargs.get("training", False)) and args[0].requires_grad:
        run.cut.add("batch_norm by the statistics of the batch")
    elif func is F.batch_norm and args[0].requires_grad and args[0].numel() > ELEMENTS:
        return _by_stored_statistics(*args, **kwargs)
    out: Tensor = func(*args, **kwargs)
    return out


def _by_stored_statistics(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    scale, shift = (None if one is None else one.detach() for one in (weight, bias))
    factor = (var + eps).rsqrt()
    factor = (factor if scale is None else factor * scale).view(-1, *[1] * (x.dim() - 2))
    y = F.batch_norm(x.detach(), mean, var, scale, shift, False, momentum, eps)
    return rules.carry(y, lambda g, factor: [(g * factor).to(g.dtype)], [factor], x)
