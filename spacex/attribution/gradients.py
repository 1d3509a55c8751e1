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
    """Signed integrated gradients of the logit from `baseline` to `x`, by Gauss-Legendre quadrature.

    Args:
        classifier: returns one logit per chip.
        x: chips in standardised units, (n, bands, height, width) float32.
        baseline: start of the path, same shape.
        steps: points on the path, each one forward and one backward pass.

    Returns:
        (n, bands, height, width) float32; summed per chip it is about logit(x) − logit(baseline)
        (completeness).
    """
    return (x - baseline) * mean_gradient(classifier, baseline, x, steps)
