"""Enlarge a trained minimiser's changes, so that x- turns as many validation chips as it is to."""

from __future__ import annotations

from collections.abc import Callable

import torch

from spacex.models.generator import Generator

TENTHS = 5
"""The most that changes are enlarged by."""


@torch.no_grad()
def enlarge(minimiser: Generator, share: float, turned: Callable[[], float]) -> float:
    """Enlarge a delta generator's changes in place by tenths until `turned` gives `share`, by a half at most.

    A soft threshold takes as much off every change that it leaves, so that a minimiser trained with one falls short of
    what it learned against. The last convolution is multiplied: what a threshold leaves alone, mostly stays alone.

    Args:
        minimiser: the trained network.
        share: of the natural chips that are to be turned, above 0 and below 1.
        turned: measures that share with the network as it is.

    Returns:
        The factor on the last convolution.
    """
    learned = [weights.clone() for weights in minimiser.last.parameters()]
    for tenths in range(TENTHS + 1):
        factor = 1 + tenths / 10
        for weights, before in zip(minimiser.last.parameters(), learned, strict=True):
            weights.copy_(before * factor)
        if not turned() < share:  # without natural chips it is not a number
            break
    return factor
