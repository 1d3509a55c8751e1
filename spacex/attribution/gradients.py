"""Gradients integrated along the straight line between two points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from spacex.attribution.names import PATH_STEPS


def mean_gradients(
    function: Callable[..., Tensor], starts: Sequence[Tensor], ends: Sequence[Tensor], points: int, outer: Tensor | None
) -> list[Tensor]:
    """Mean gradient of a function's output, weighted by `outer`, along the straight line from `starts` to `ends`.

    Gauss-Legendre quadrature: exact for outputs that are polynomials up to degree 2 * `points` along the line.

    Args:
        function: of as many tensors as there are ends.
        starts: one tensor per argument.
        ends: of the same shapes.
        points: on the line; each costs one forward and one backward pass.
        outer: gradient with respect to the output, like it; None for one number.

    Returns:
        One tensor per argument, like `ends`.
    """
    totals = [torch.zeros_like(end) for end in ends]
    # nodes and weights are given for [-1, 1]; the line runs over [0, 1], hence (node + 1) / 2 and weight / 2
    for node, weight in zip(*np.polynomial.legendre.leggauss(points), strict=True):
        position = (float(node) + 1) / 2
        with torch.enable_grad():
            here = [torch.lerp(a, b, position).detach().requires_grad_() for a, b in zip(starts, ends, strict=True)]
            gradients = torch.autograd.grad(function(*here), here, outer, allow_unused=True)
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total += gradient * (float(weight) / 2)
    return totals


def mean_gradient(network: nn.Module, start: Tensor, end: Tensor, points: int) -> Tensor:
    """Mean gradient of a network's summed output along the straight line from `start` to `end`, like `end`."""
    return mean_gradients(lambda point: network(point).sum(), [start], [end], points, None)[0]


def integrated_gradients(classifier: nn.Module, x: Tensor, baseline: Tensor, steps: int = PATH_STEPS) -> Tensor:
    """Signed integrated gradients of the logit from `baseline` to `x`, chips (n, bands, h, w) in standardised units.

    Summed per chip it is about logit(x) − logit(baseline) (completeness). Each of the `steps` points on the path costs
    one forward and one backward pass.
    """
    return (x - baseline) * mean_gradient(classifier, baseline, x, steps)
