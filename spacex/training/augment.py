"""Random changes of whole batches, drawn from a generator that the caller seeds.

A draw is made for the *global* batch and every worker applies its share; two workers then see what one would.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EDGES = ("top", "bottom", "left", "right")


def quarter_turns(x: Tensor, turns: Tensor, flips: Tensor) -> Tensor:
    """Rotate every chip by its number of quarter turns, then mirror where asked.

    Args:
        x: (n, bands, size, size).
        turns: (n,) integers 0..3.
        flips: (n,) booleans, left-right after the rotation.
    """
    out = [torch.rot90(chip, int(turn), (-2, -1)) for chip, turn in zip(x, turns.tolist(), strict=True)]
    return torch.stack(
        [chip.flip(-1) if flip else chip for chip, flip in zip(out, flips.tolist(), strict=True)]
    )


def draw_turns(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform quarter turns (n,) int64 and flips (n,) bool."""
    return torch.randint(4, (n,), generator=generator), torch.rand(n, generator=generator) < 0.5


def jitter(x: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """One random quarter turn, flip and shift (reflected at the edge) for the whole batch.

    Args:
        x: (n, bands, size, size); gradients flow through.
        reach: largest shift in pixels, 0 or more.
        generator: source of the draw.
    """
    size = x.shape[-1]
    turn = int(torch.randint(4, (1,), generator=generator))
    row, col = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    x = torch.rot90(x, turn, (-2, -1))
    if torch.rand(1, generator=generator) < 0.5:
        x = x.flip(-1)
    return F.pad(x, (reach,) * 4, mode="reflect")[..., row : row + size, col : col + size]


def draw_strip(largest: float, generator: torch.Generator) -> tuple[str, float]:
    """An edge and a share of the chip, uniform in (0, `largest`)."""
    edge = EDGES[int(torch.randint(4, (1,), generator=generator))]
    return edge, float(torch.rand(1, generator=generator)) * largest


def other_label(label: Tensor, generator: torch.Generator) -> Tensor:
    """For every chip the index of a random chip of the other label; itself where the batch has none.

    Args:
        label: (n,) 0 or 1.
        generator: source of the draw.
    """
    partners = torch.arange(len(label))
    for value in (0, 1):
        mine, theirs = (label == value).nonzero()[:, 0], (label != value).nonzero()[:, 0]
        if len(mine) and len(theirs):
            partners[mine] = theirs[torch.randint(len(theirs), (len(mine),), generator=generator)]
    return partners


def edge_strip(x: Tensor, label: Tensor, partner: Tensor, edge: str, share: float) -> tuple[Tensor, Tensor]:
    """CutMix as ASOS does it: a strip along one edge comes from the partner, the label is mixed by area.

    Args:
        x: chips, (n, bands, height, width).
        label: (n,) in [0, 1].
        partner: (n,) index of the chip a strip is taken from.
        edge: one of `EDGES`.
        share: wanted share of the chip, rounded to whole pixels; the label follows what was rounded.

    Returns:
        Mixed chips and labels, y·(1 − a) + y_partner·a with a the strip's exact share of the area.
    """
    side = x.shape[-1] if edge in ("left", "right") else x.shape[-2]
    width = round(share * side)
    take = slice(0, width) if edge in ("top", "left") else slice(side - width, side)
    where = (..., take) if edge in ("left", "right") else (..., take, slice(None))
    mixed = x.clone()
    mixed[where] = x[partner][where]
    area = width / side
    return mixed, label * (1 - area) + label[partner] * area
