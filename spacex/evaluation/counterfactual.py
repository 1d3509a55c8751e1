"""Are x+ and x− good counterfactuals: do they move the score, by how much change, and without artefacts?

All functions take reflectance ``(n, bands, h, w)`` float32 and return ``(n,)`` float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spacex.evaluation.methods.chip_batch import ChipBatch

CHANGED = 0.005
"""A pixel counts as changed from half a per cent of reflectance on, about twice the sensor's noise."""


def quality(chips: ChipBatch, other_classifier: nn.Module | None = None) -> dict[str, Tensor]:
    """Every number about the counterfactuals of a batch: name -> ``(n,)`` float32.

    With another classifier in the same units, independently trained, also whether the change means the same to it.
    """
    networks = chips.attributor
    out = {"logit": chips.logit, "logit_plus": chips.logit_plus, "logit_minus": chips.logit_minus}
    out["monotone"] = ((chips.logit_minus < chips.logit) & (chips.logit < chips.logit_plus)).float()
    out["flipped"] = (chips.logit_minus < 0).float()
    # cycle: what is left of the change when the opposite generator is applied to the changed chip
    for name, changed, delta_back in (
        ("plus", chips.x_plus, networks.delta_minus(chips.u_plus)),
        ("minus", chips.x_minus, networks.delta_plus(chips.u_minus)),
    ):
        change = changed - chips.x
        out |= {f"{key}_{name}": value for key, value in size_of_change(chips.x, changed).items()}
        out[f"checkerboard_{name}"], out[f"border_{name}"] = checkerboard(change), border_energy(change)
        out[f"cycle_{name}"] = (change + networks.scaling.restore_change(delta_back)).abs().mean(dim=(1, 2, 3))
    if other_classifier is not None:
        out |= transfer(other_classifier, chips.u, chips.u_plus, chips.u_minus)
    return out


def size_of_change(x: Tensor, changed: Tensor) -> dict[str, Tensor]:
    """Mean and largest absolute change, share of changed pixels, share of values outside 0..1."""
    gap = (changed - x).abs()
    return {
        "l1": gap.mean(dim=(1, 2, 3)),
        "linf": gap.amax(dim=(1, 2, 3)),
        "changed": (gap.mean(dim=1) > CHANGED).float().mean(dim=(1, 2)),
        "outside": ((changed < 0) | (changed > 1)).float().mean(dim=(1, 2, 3)),
    }


def checkerboard(change: Tensor) -> Tensor:
    """Power of a change at periods of 2, 4 and 8 px over that at neighbouring frequencies; 1 is none.

    Strided and upsampling layers repeat every 2, 4 or 8 px, which shows as lines in the spectrum (Odena et
    al., "Deconvolution and Checkerboard Artifacts", Distill 2016). Sides must be multiples of 32.
    """
    picture = change.mean(dim=1) - change.mean(dim=(1, 2, 3))[:, None, None]
    size = picture.shape[-1]
    # a Hann window, or the chip's cut edges would themselves fill those lines
    window = torch.hann_window(size, device=change.device)
    power = torch.fft.fft2(picture * window * window[:, None]).abs().square()
    # a period of p pixels is the frequency size / p; on both axes, and beside each line what is normal there
    lines = [size // period for period in (2, 4, 8)]
    beside = [line + step for line in lines for step in (-6, -5, -4, 4, 5, 6)]
    both_axes = power + power.mT
    on, off = (both_axes[:, rows].mean(dim=(1, 2)) for rows in (lines, beside))
    return torch.where(off > 0, on / off.clamp(min=1e-30), torch.ones_like(on))


def border_energy(change: Tensor, frame: int = 16) -> Tensor:
    """Mean absolute change in the outer `frame` pixels over that inside; 1 is none, 0 without any change."""
    gap = change.abs().mean(dim=1)
    inner = gap[:, frame:-frame, frame:-frame]
    rim = (gap.sum(dim=(1, 2)) - inner.sum(dim=(1, 2))) / (gap[0].numel() - inner[0].numel())
    return torch.where(inner.mean(dim=(1, 2)) > 0, rim / inner.mean(dim=(1, 2)).clamp(min=1e-30), rim * 0)


def transfer(classifier: nn.Module, u: Tensor, u_plus: Tensor, u_minus: Tensor) -> dict[str, Tensor]:
    """What the change does to another classifier: adversarial noise for one network means nothing to another.

    `second_flipped` is NaN for chips that this classifier does not take for natural in the first place.
    """
    with torch.no_grad():
        plain, plus, minus = (classifier(chips).float() for chips in (u, u_plus, u_minus))
    flipped = torch.where(plain > 0, (minus < 0).float(), torch.nan)
    return {"second_logit": plain, "second_plus": plus, "second_minus": minus, "second_flipped": flipped}
