"""Insertion and deletion: does the score follow the pixels a map puts first?

After Petsiuk et al. (RISE, 2018). Deletion replaces the highest pixels step by step and measures the area
under the score (low is good); insertion starts from the fill and puts the highest pixels back (high is good).
Secondary numbers: on the embedded world deletion ranked poor maps above the exact truth, because the fill changes the
score as well. Hence three fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

Fill = Literal["blur", "mean", "other"]
FILLS: tuple[Fill, ...] = get_args(Fill)
"""A 31 px Gaussian blur of the chip, its mean colour, or a chip of the other class."""

STEPS = 8
"""Parts into which the pixels are divided."""


def filled(u: Tensor, fill: Fill, other: Tensor | None = None) -> Tensor:
    """What replaces pixels that are taken away from chips ``(n, bands, h, w)`` in standardised units; like `u`.

    The fill `other` takes them from as many chips of the other class, place for place as in CutMix.
    """
    if fill == "mean":
        return u.mean(dim=(2, 3), keepdim=True).expand_as(u)
    if fill == "other":
        if other is None:
            raise ValueError("the fill 'other' needs chips of the other class")
        return other
    # 31 px wide: 5 px standard deviation, cut at three of them
    blurred = gaussian_filter(u.cpu().numpy(), sigma=(0, 0, 5, 5), truncate=3.0, mode="reflect")
    return torch.from_numpy(blurred).to(u)


def areas(
    score: Callable[[Tensor], Tensor], u: Tensor, fill: Tensor, maps: Tensor, steps: int = STEPS, batch: int = 16
) -> list[Tensor]:
    """Deletion and insertion area of every chip, each ``(n,)`` float32 in 0..1 (trapezoid rule).

    Args:
        score: chips in standardised units to scores in 0..1.
        u: ``(n, bands, h, w)``.
        fill: like `u`, from :func:`filled`.
        maps: ``(n, h, w)``; equal values are taken in the order of their position.
        steps: parts into which the pixels are divided; `steps` + 1 scores per curve.
        batch: perturbed chips in one forward pass.
    """
    # the order of the order is, at each pixel, its rank: 0 for the highest
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1).reshape(maps.shape)[:, None]
    limits = [round(step * order.shape[1] / steps) for step in range(steps + 1)]
    both = []
    for first, rest in ((fill, u), (u, fill)):  # deletion puts the fill at the highest pixels, insertion the chip
        changed = torch.stack([torch.where(ranks < limit, first, rest) for limit in limits], dim=1)
        with torch.no_grad():
            scores = torch.cat([score(some).float() for some in torch.split(changed.flatten(0, 1), batch)])
        both.append(torch.trapezoid(scores.reshape(changed.shape[:2]), dim=1) / steps)
    return both
