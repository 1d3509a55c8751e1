"""Random changes of whole batches, drawn from a generator that the caller seeds.

A draw is made for the *global* batch and every process applies its share; two processes then see what one would.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.datasets.mosaics import assemble

EDGES = ("top", "bottom", "left", "right")


def draw_turns(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform quarter turns (n,) int64 and flips (n,) bool."""
    return torch.randint(4, (n,), generator=generator), torch.rand(n, generator=generator) < 0.5


def quarter_turns(x: Tensor, turns: Tensor, flips: Tensor) -> Tensor:
    """Chips (n, bands, size, size) rotated by 0..3 quarter turns (n,) each, then mirrored left-right where `flips`."""
    out = torch.empty_like(x)
    # all chips of one turn and flip at a time
    for turn in range(4):
        for flip in (False, True):
            chosen = ((turns == turn) & (flips == flip)).nonzero()[:, 0].to(x.device)
            turned = torch.rot90(x[chosen], turn, (-2, -1))
            out[chosen] = turned.flip(-1) if flip else turned
    return out


def draw_per_band(n: int, bands: int, spreads: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Normal numbers (n, bands, 1, 1): one for all bands of a chip plus one for each band, of these deviations."""
    common, own = spreads
    return common * torch.randn(n, 1, 1, 1, generator=generator) + own * torch.randn(
        n, bands, 1, 1, generator=generator
    )


def random_jitter(x: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Chips (n, bands, size, size) after one random quarter turn, flip and shift for the whole batch.

    The shift is up to `reach` pixels, reflected at the edge. Gradients flow through.
    """
    size = x.shape[-1]
    turn = int(torch.randint(4, (1,), generator=generator))
    row, col = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    x = torch.rot90(x, turn, (-2, -1))
    if torch.rand(1, generator=generator) < 0.5:
        x = x.flip(-1)
    return F.pad(x, (reach,) * 4, mode="reflect")[..., row : row + size, col : col + size]


def random_zoom(x: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """With probability 1/2 a random square of chips (n, bands, size, size), enlarged to the whole; otherwise `x`.

    The side of the square is at least `least` · size, 0 < least ≤ 1. Gradients flow through.
    """
    size = x.shape[-1]
    side = int(torch.randint(round(least * size), size + 1, (1,), generator=generator))
    row, col = torch.randint(size - side + 1, (2,), generator=generator).tolist()
    if torch.rand(1, generator=generator) < 0.5:
        return x
    window = x[..., row : row + side, col : col + side]
    return F.interpolate(window, (size, size), mode="bilinear", align_corners=False)


class Blotches(NamedTuple):
    """Patches of a foreign colour, drawn for n chips; `add_blotches` lays them over the chips."""

    field: Tensor
    """(n, 1, cells, cells) a coarse random field."""
    share: Tensor
    """(n,) share of the chip that is covered: where the field is highest."""
    colour: Tensor
    """(n, bands, 1, 1) offset in standard deviations; 0 for chips that get none."""

    def shard(self, n: int, rank: int) -> Blotches:
        """Those of the n chips of one process."""
        return Blotches(*(part[n * rank : n * (rank + 1)] for part in self))


def draw_blotches(n: int, bands: int, chance: float, generator: torch.Generator) -> Blotches:
    """Blotches of one random scale, each chip's of a colour of its own, on 2 to 15 % of a chip.

    Each of the `n` chips gets any with probability `chance`; the offset of each band is standard normal.
    """
    cells = int(torch.randint(4, 17, (1,), generator=generator))
    field = torch.randn(n, 1, cells, cells, generator=generator)
    share = 0.02 + 0.13 * torch.rand(n, generator=generator)
    colour = torch.randn(n, bands, 1, 1, generator=generator)
    return Blotches(field, share, colour * (torch.rand(n, 1, 1, 1, generator=generator) < chance))


def add_blotches(x: Tensor, blotches: Blotches, spread: Tensor | float = 1.0) -> Tensor:
    """Chips (n, bands, size, size) with as many blotches, whose edges are soft over about two pixels.

    `spread` is the standard deviation of each band in the chips' units, (1, bands, 1, 1); 1 for standardised chips.
    """
    field, share, colour = (part.to(x.device, non_blocking=True) for part in blotches)
    size = x.shape[-1]
    smooth = F.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    # the level above which the wanted share of pixels lies: a quantile, one per chip
    ordered = smooth.flatten(1).sort(dim=1, descending=True).values
    level = ordered.gather(1, (share * size * size).long()[:, None])[:, :, None, None]
    # the field changes by about 1 per cell, so this slope rises from 0 to 1 within some two pixels
    cover = ((smooth - level) * (size / field.shape[-1] / 2)).clamp(0, 1)
    return x + cover * colour * spread


def draw_strips(n: int, chance: float, largest: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For every chip an edge (n,) int64, an index into `EDGES`, and a share (n,), uniform in 0..`largest`.

    A chip is mixed with probability `chance`; the share of the others is 0.
    """
    edges = torch.randint(len(EDGES), (n,), generator=generator)
    chosen = torch.rand(n, generator=generator) < chance
    return edges, torch.rand(n, generator=generator) * largest * chosen


def draw_partners(label: Tensor, generator: torch.Generator) -> Tensor:
    """For every chip the index of a random chip of another label (n,); its own where the batch has none."""
    partners = torch.arange(len(label))
    for value in sorted(set(label.tolist())):
        same, others = (label == value).nonzero()[:, 0], (label != value).nonzero()[:, 0]
        if len(same) and len(others):
            partners[same] = others[torch.randint(len(others), (len(same),), generator=generator)]
    return partners


def mix_strip(chip: Tensor, other: Tensor, edge: str, share: float) -> tuple[Tensor, float]:
    """CutMix as ASOS does it: a strip along one of the `EDGES` of a chip (bands, h, w) comes from another one.

    Returns:
        The mixed chip, and the strip's exact share a of the area, `share` rounded to whole pixels: the label becomes
        y·(1 − a) + y_other·a.
    """
    dim = -1 if edge in ("left", "right") else -2
    side = chip.shape[dim]
    width = round(share * side)
    if edge in ("top", "left"):
        parts = [other.narrow(dim, 0, width), chip.narrow(dim, width, side - width)]
    else:
        parts = [chip.narrow(dim, 0, side - width), other.narrow(dim, side - width, width)]
    return torch.cat(parts, dim), width / side


def quarter_mosaics(x: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mosaics of 2 x 2 of a batch's chips (n, bands, size, size), n a multiple of 4, and the means of their targets.

    Every second batch on average is sorted by its targets first: most mosaics are then of one kind, others mixed.
    """
    if torch.rand(1, generator=generator) < 0.5:
        last = target if target.ndim == 1 else target[:, -1]
        order = (last + 0.01 * torch.rand(len(x), generator=generator).to(x.device)).argsort()
        x, target = x[order], target[order]
    return assemble(x, 2), target.reshape(-1, 4, *target.shape[1:]).mean(dim=1)
