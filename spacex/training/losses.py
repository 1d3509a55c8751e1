"""The losses of pattern enhancement as pure functions, numbered as in the paper.

Emam, Stomberg & Roscher 2024 (10.1109/LGRS.2023.3335473), section II-B. x is a real chip, w₊ the
maximiser, w₋ the minimiser, d a discriminator, y the frozen classifier. The numbers 1, 4, 5 and 6 are
the paper's; the two between them, similarity and cycle, are counted in its order (2 and 3).

Every picture argument is (n, bands, height, width) float32 in the networks' units (standard deviations
per band for the `delta` preset, reflectance for `paper`), every logit argument (n,) or a patch map,
before any sigmoid. All results are means, hence scalars that do not depend on the batch size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversary = Literal["bce", "least-squares"]
Direction = Literal["raise", "lower"]
Size = Literal["l1", "group"]
_LEVELS = 3
"""Of the pyramid on which drawn edges are looked for."""
_ROUND = 1e-4
"""Size of a change below which its norm is rounded off, or it would have no gradient at nothing."""


def similarity(x: Tensor, changed: Tensor, size: Size = "l1") -> Tensor:
    """L_sim, Eq. 2: the smallest change that does the job.

    Args:
        x: real chips.
        changed: w(x).
        size: how a change is measured. ``l1``, the paper's: mean |x − w(x)|, every band for itself. ``group``: the
            root mean square over the bands, mean over the pixels (group lasso, Yuan & Lin 2006), so that a
            pixel is changed in all bands or in none.
    """
    if size == "l1":
        return F.l1_loss(changed.float(), x.float())
    return _per_pixel(changed.float() - x.float()).mean()


def cycle(x: Tensor, restored: Tensor) -> Tensor:
    """L_cyc, Eq. 3: mean |x − w₊(w₋(x))| for w₊, and with the roles exchanged for w₋.

    Args:
        x: real chips.
        restored: what the *other* generator's picture was turned back into.
    """
    return F.l1_loss(restored.float(), x.float())


def discriminate(real: Tensor, fake: Tensor, form: Adversary = "bce") -> Tensor:
    """L_D: real patches are to be called 1 and fake ones 0; half the sum of both.

    Args:
        real: patch logits of real chips.
        fake: patch logits of generated chips, whose generator must not be trained by this loss (detached).
        form: ``bce``, the paper's Eq. 1, or ``least-squares``, the published code's.
    """
    return 0.5 * (_called(real, 1.0, form) + _called(fake, 0.0, form))


def fool(fake: Tensor, form: Adversary = "bce") -> Tensor:
    """L_adv of a generator: its patches are to be called real.

    ``least-squares`` is Eq. 4, (d(w(x)) − 1)², as printed; ``bce`` is what the paper's text says instead
    and what matches Eq. 1.
    """
    return _called(fake, 1.0, form)


def activation_bce(logit: Tensor, direction: Direction) -> Tensor:
    """L_AM, Eq. 5: cross-entropy of y(w(x)) against 1 for the maximiser, against 0 for the minimiser.

    The logit must be the classifier's answer to the *generated* picture, one per chip; the published
    code took the real one, so that its gradient to the generators was zero.
    """
    return _called(logit, 1.0 if direction == "raise" else 0.0, "bce")


def activation_margin(logit: Tensor, direction: Direction, margin: float | Tensor) -> Tensor:
    """Mean of max(0, m − s·z), s = ±1: push every chip m logits to the asked side, then leave it alone.

    Ours. On natural chips a good classifier's cross-entropy is near its floor for w₊ (no gradient) and
    never at rest for w₋ (colour casts over the whole chip); the margin stops both, chip by chip.

    Args:
        logit: (n,) classifier logits of the generated pictures.
        direction: ``raise`` for the maximiser, ``lower`` for the minimiser.
        margin: m > 0, in logits; one for all, or (n,), one for each chip.
    """
    sign = 1.0 if direction == "raise" else -1.0
    return F.relu(margin - sign * logit.float()).mean()


def total_variation(delta: Tensor, size: Size = "l1") -> Tensor:
    """Total variation of a change: mean |vertical| plus mean |horizontal| neighbour difference (anisotropic).

    Args:
        delta: w(x) − x.
        size: with ``l1`` every band for itself, with ``group`` the root mean square of a difference over the bands.
    """
    down, across = _slopes(delta.float(), size)
    return down.mean() + across.mean()


def added_edges(x: Tensor, changed: Tensor, size: Size = "l1") -> Tensor:
    """Edges that a change draws: mean of max(0, |∇w(x)| − |∇x|) over both directions, at 1, 2 and 4 pixels.

    Ours. What is taken away leaves its surroundings; what is put in has edges that the chip had not. Without this a
    classifier that knows fields for unnatural has cheaper x₋ than the same land without its mires: a few dozen green
    spots. The coarser levels see spots in a texture that has as strong edges of its own.

    Args:
        x: real chips.
        changed: w(x).
        size: as of `total_variation`.
    """
    x, changed, drawn = x.float(), changed.float(), []
    for _ in range(_LEVELS):
        there, now = _slopes(x, size), _slopes(changed, size)
        drawn += [F.relu(after - before).mean() for before, after in zip(there, now, strict=True)]
        x, changed = F.avg_pool2d(x, 2), F.avg_pool2d(changed, 2)
    return torch.stack(drawn).sum()


def _slopes(picture: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Size of the differences of vertical and of horizontal neighbours."""
    measure = Tensor.abs if size == "l1" else _per_pixel
    return measure(picture.diff(dim=-2)), measure(picture.diff(dim=-1))


def _per_pixel(delta: Tensor) -> Tensor:
    """Root mean square over the bands, (n, h, w); 0, and smooth, at 0."""
    return (delta.square().mean(dim=1) + _ROUND**2).sqrt() - _ROUND


def _called(logits: Tensor, value: float, form: Adversary) -> Tensor:
    logits = logits.float()
    target = torch.full_like(logits, value)
    if form == "least-squares":
        return F.mse_loss(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target)
