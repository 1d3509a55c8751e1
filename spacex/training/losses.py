"""The losses of pattern enhancement as pure functions, numbered as in the paper.

Emam, Stomberg & Roscher 2024 (10.1109/LGRS.2023.3335473), section II-B. x is a real chip, w₊ the maximiser, w₋ the
minimiser, d a discriminator, y the frozen classifier. The paper numbers 1, 4, 5 and 6; similarity and cycle, which it
prints in between without a number, are called 2 and 3 here.

Every image argument is (n, bands, height, width) float32 in the networks' units (standard deviations per band for the
`delta` preset, reflectance for `paper`), every logit argument (n,) or a patch map, before any sigmoid. All results
are means, hence scalars that do not depend on the batch size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversary = Literal["bce", "least-squares"]
Direction = Literal["raise", "lower"]
ChangeNorm = Literal["l1", "group"]
"""How the size of a difference of pixels is measured. ``l1``, the paper's: each band by itself. ``group``: root mean
square over the bands (group lasso, Yuan & Lin 2006), so that a pixel changes in all bands or in none."""
_LEVELS = 3
"""Scales at which added edges are looked for: 1, 2 and 4 pixels."""
_SMOOTHING = 1e-4
"""Rounds off the group norm near 0, where its gradient is not defined."""


def similarity(x: Tensor, generated: Tensor, norm: ChangeNorm = "l1") -> Tensor:
    """L_sim, Eq. 2: mean size of the change from real chips x to `generated`, w(x)."""
    if norm == "l1":
        return F.l1_loss(generated.float(), x.float())
    return _rms_over_bands(generated.float() - x.float()).mean()


def cycle(x: Tensor, restored: Tensor) -> Tensor:
    """L_cyc, Eq. 3: mean |x − w₊(w₋(x))| for w₊, whose `restored` is w₊(w₋(x)); for w₋ with the roles exchanged."""
    return F.l1_loss(restored.float(), x.float())


def discriminator(real: Tensor, fake: Tensor, form: Adversary = "bce") -> Tensor:
    """L_D: patch logits of real chips against 1 and of generated, detached ones against 0; half the sum of both.

    ``bce`` is the paper's Eq. 1, ``least-squares`` the published code's.
    """
    return 0.5 * (_against(real, 1.0, form) + _against(fake, 0.0, form))


def adversarial(fake: Tensor, form: Adversary = "bce") -> Tensor:
    """L_adv of a generator: the patches of its chips against 1, real.

    ``least-squares`` is Eq. 4 as printed, (d(w(x)) − 1)²; ``bce`` is what the paper's text says instead and what
    matches Eq. 1.
    """
    return _against(fake, 1.0, form)


def activation_bce(logit: Tensor, direction: Direction) -> Tensor:
    """L_AM, Eq. 5: cross-entropy of y(w(x)) against 1 for the maximiser, against 0 for the minimiser.

    The logit, one per chip, must be that of the *generated* chip. The published code takes the real chip's, so its
    gradient to the generators is zero.
    """
    return _against(logit, 1.0 if direction == "raise" else 0.0, "bce")


def activation_margin(logit: Tensor, direction: Direction, margin: float | Tensor) -> Tensor:
    """Mean of max(0, m − s·z), s = ±1: a hinge loss that ends once a chip's logit is m on the asked side.

    Ours. The cross-entropy of a good classifier on natural chips is near 0 for w₊ (no gradient), and for w₋ it never
    stops, which ends in colour casts over whole chips. The hinge avoids both, chip by chip.

    The logits (n,) are those of the generated chips; the margin m > 0 is one for all, or (n,), one for each chip.
    """
    sign = 1.0 if direction == "raise" else -1.0
    return F.relu(margin - sign * logit.float()).mean()


def total_variation(delta: Tensor, norm: ChangeNorm = "l1") -> Tensor:
    """Total variation of a change w(x) − x: mean vertical plus mean horizontal neighbour difference (anisotropic)."""
    vertical, horizontal = _edge_strength(delta.float(), norm)
    return vertical.mean() + horizontal.mean()


def added_edges(x: Tensor, generated: Tensor, norm: ChangeNorm = "l1") -> Tensor:
    """Edges that w(x) has and x has not: mean of max(0, |∇w(x)| − |∇x|) over both directions, at 1, 2 and 4 pixels.

    Ours. If the classifier treats fields as anthropogenic, w₋ can lower the score cheaply by adding small green
    patches instead of removing a pattern. A removed pattern leaves no new edges; an added patch has some.
    """
    x, generated, excess = x.float(), generated.float(), []
    for _ in range(_LEVELS):
        before, after = _edge_strength(x, norm), _edge_strength(generated, norm)
        # only what is stronger than in x counts: edges may vanish or weaken for free
        excess += [F.relu(b - a).mean() for a, b in zip(before, after, strict=True)]
        # a patch within a texture as strong as its own edge stands out only at a coarser scale
        x, generated = F.avg_pool2d(x, 2), F.avg_pool2d(generated, 2)
    return torch.stack(excess).sum()


def _edge_strength(image: Tensor, norm: ChangeNorm) -> tuple[Tensor, Tensor]:
    """Size of the differences between vertical and between horizontal neighbours."""
    measure = Tensor.abs if norm == "l1" else _rms_over_bands
    return measure(image.diff(dim=-2)), measure(image.diff(dim=-1))


def _rms_over_bands(delta: Tensor) -> Tensor:
    """Root mean square over the bands, (n, h, w)."""
    # sqrt(s² + e²) - e is 0 at 0 and differentiable there; sqrt(s²) would have no gradient in a fresh generator
    return (delta.square().mean(dim=1) + _SMOOTHING**2).sqrt() - _SMOOTHING


def _against(logits: Tensor, value: float, form: Adversary) -> Tensor:
    """Mean loss of logits whose target is `value`."""
    logits = logits.float()
    target = torch.full_like(logits, value)
    if form == "least-squares":
        return F.mse_loss(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target)
