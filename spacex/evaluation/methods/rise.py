"""RISE: the mean of random masks, each weighted by the score of what it leaves to be seen.

Petsiuk, Das & Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018
(arXiv 1806.07421), Eq. 6: S = 1 / (N p) * sum of f(x * M_i) * M_i. What a mask hides becomes the training
data's mean colour, zero in standardised units.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def masks(count: int, cells: int, size: int, keep: float = 0.5, shift: bool = True, seed: int = 0) -> Tensor:
    """Random masks ``(count, 1, size, size)`` float32 in 0..1; the same ones serve all chips.

    Each of `cells` x `cells` is kept with probability `keep`, p in the formula. With `shift`, as published, they are
    enlarged bilinearly and shifted by up to one cell; otherwise they stay whole.
    """
    generator = torch.Generator().manual_seed(seed)
    if not shift:
        coarse = (torch.rand(count, 1, cells, cells, generator=generator) < keep).float()
        return F.interpolate(coarse, size=(size, size), mode="nearest")
    # one cell more than fits, so that every mask can be shifted by up to a cell without leaving the chip
    step = -(-size // cells)
    coarse = (torch.rand(count, 1, cells + 1, cells + 1, generator=generator) < keep).float()
    large = F.interpolate(coarse, size=((cells + 1) * step,) * 2, mode="bilinear", align_corners=False)
    corners = torch.randint(step, (count, 2), generator=generator).tolist()
    return torch.stack([mask[:, r : r + size, c : c + size] for mask, (r, c) in zip(large, corners, strict=True)])


def rise(score: Callable[[Tensor], Tensor], u: Tensor, seen: Tensor, keep: float = 0.5, batch: int = 16) -> Tensor:
    """The map of every chip, ``(n, h, w)`` float32.

    `score` takes chips like `u` in standardised units to 0..1, `batch` at a time. All masks, `seen (count, 1, h, w)`
    with the mean `keep`, are used for every chip.
    """
    total = u.new_zeros(len(u), *u.shape[-2:])
    at_once = max(1, batch // len(u))
    with torch.no_grad():
        for some in torch.split(seen, at_once):
            hidden = (u[:, None] * some[None]).flatten(0, 1)
            values = score(hidden).float().reshape(len(u), len(some))
            # every mask counts by the score of what it leaves visible
            total += torch.einsum("nm,mhw->nhw", values, some[:, 0])
    return total / (len(seen) * keep)
