"""Random changes of whole batches, drawn from a generator that the caller seeds.

A draw is made for the *global* batch and every worker applies its share; two workers then see what one would.
"""

from __future__ import annotations

from typing import NamedTuple

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
    return torch.stack([chip.flip(-1) if flip else chip for chip, flip in zip(out, flips.tolist(), strict=True)])


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


def zoomed(x: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """Every second time on average a random square of the batch, enlarged to the whole; otherwise `x` itself.

    Args:
        x: (n, bands, size, size); gradients flow through.
        least: smallest side of the square as a share of `size`, above 0 and at most 1.
        generator: source of the draw.
    """
    size = x.shape[-1]
    side = int(torch.randint(round(least * size), size + 1, (1,), generator=generator))
    row, col = torch.randint(size - side + 1, (2,), generator=generator).tolist()
    if torch.rand(1, generator=generator) < 0.5:
        return x
    window = x[..., row : row + side, col : col + side]
    return F.interpolate(window, (size, size), mode="bilinear", align_corners=False)


class Blotches(NamedTuple):
    """Drawn for n chips: what `blotched` lays over each."""

    field: Tensor
    """(n, 1, cells, cells) a coarse random field."""
    share: Tensor
    """(n,) share of the chip that is covered: where the field is highest."""
    colour: Tensor
    """(n, bands, 1, 1) offset in standard deviations; 0 for chips that get none."""


def draw_blotches(n: int, bands: int, chance: float, generator: torch.Generator) -> Blotches:
    """Blotches of one random scale, each chip's of a colour of its own, on 2 to 15 % of a chip.

    Args:
        n: chips.
        bands: bands of a chip; the offset of each is standard normal.
        chance: probability that a chip gets any.
        generator: source of the draw.
    """
    cells = int(torch.randint(4, 17, (1,), generator=generator))
    field = torch.randn(n, 1, cells, cells, generator=generator)
    share = 0.02 + 0.13 * torch.rand(n, generator=generator)
    colour = torch.randn(n, bands, 1, 1, generator=generator)
    return Blotches(field, share, colour * (torch.rand(n, 1, 1, 1, generator=generator) < chance))


def blotched(x: Tensor, blotches: Blotches, spread: Tensor | float = 1.0) -> Tensor:
    """Chips with their blotches, whose edges are soft over about two pixels.

    Args:
        x: (n, bands, size, size) in any units.
        blotches: drawn for as many.
        spread: standard deviation of each band in those units, (1, bands, 1, 1); 1 for standardised chips.
    """
    field, share, colour = (part.to(x.device, non_blocking=True) for part in blotches)
    size = x.shape[-1]
    smooth = F.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    ordered = smooth.flatten(1).sort(dim=1, descending=True).values
    level = ordered.gather(1, (share * size * size).long()[:, None])[:, :, None, None]
    cover = ((smooth - level) * (size / field.shape[-1] / 2)).clamp(0, 1)
    return x + cover * colour * spread


def draw_strips(n: int, chance: float, largest: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For every chip an edge (n,) int64, an index into `EDGES`, and a share (n,), uniform in 0..`largest`.

    Args:
        n: chips.
        chance: probability that a chip is mixed at all; the share of the others is 0.
        largest: largest share of a chip.
        generator: source of the draw.
    """
    edges = torch.randint(len(EDGES), (n,), generator=generator)
    chosen = torch.rand(n, generator=generator) < chance
    return edges, torch.rand(n, generator=generator) * largest * chosen


def other_label(label: Tensor, generator: torch.Generator) -> Tensor:
    """For every chip the index of a random chip of another label; itself where the batch has none.

    Args:
        label: (n,) 0 or 1, or numbers of classes.
        generator: source of the draw.
    """
    partners = torch.arange(len(label))
    for value in sorted(set(label.tolist())):
        mine, theirs = (label == value).nonzero()[:, 0], (label != value).nonzero()[:, 0]
        if len(mine) and len(theirs):
            partners[mine] = theirs[torch.randint(len(theirs), (len(mine),), generator=generator)]
    return partners


def edge_strip(chip: Tensor, other: Tensor, edge: str, share: float) -> tuple[Tensor, float]:
    """CutMix as ASOS does it: a strip along one edge comes from another chip.

    Args:
        chip: (bands, height, width).
        other: same shape.
        edge: one of `EDGES`.
        share: wanted share of the chip; it is rounded to whole pixels.

    Returns:
        The mixed chip, and the strip's exact share a of the area: the label becomes y·(1 − a) + y_other·a.
    """
    dim = -1 if edge in ("left", "right") else -2
    side = chip.shape[dim]
    width = round(share * side)
    if edge in ("top", "left"):
        parts = [other.narrow(dim, 0, width), chip.narrow(dim, width, side - width)]
    else:
        parts = [chip.narrow(dim, 0, side - width), other.narrow(dim, side - width, width)]
    return torch.cat(parts, dim), width / side
