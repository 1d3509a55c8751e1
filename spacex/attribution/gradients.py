"""Gradients integrated along the straight line between two pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from spacex.attribution.names import PATH_STEPS


def mean_gradient(network: nn.Module, start: Tensor, end: Tensor, points: int) -> Tensor:
    """Mean gradient of a network's summed output along the straight line from `start` to `end`, like `end`.

    Gauss-Legendre quadrature: exact for outputs that are polynomials up to degree 2 * `points` along the line.
    """
    path, total = end - start, torch.zeros_like(end)
    # nodes and weights are given for [-1, 1]; the line runs over [0, 1], hence (node + 1) / 2 and weight / 2
    for node, weight in zip(*np.polynomial.legendre.leggauss(points), strict=True):
        point = (start + path * ((float(node) + 1) / 2)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(network(point).sum(), point)
        total += gradient * (float(weight) / 2)
    return total


def integrated_gradients(classifier: nn.Module, x: Tensor, baseline: Tensor, steps: int = PATH_STEPS) -> Tensor:
    """Signed integrated gradients of the logit from `baseline` to `x`, chips (n, bands, h, w) in standardised units.

    Summed per chip it is about logit(x) − logit(baseline) (completeness). Each of the `steps` points on the path costs
    one forward and one backward pass.
    """
    return (x - baseline) * mean_gradient(classifier, baseline, x, steps)
