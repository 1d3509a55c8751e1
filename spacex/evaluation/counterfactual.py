"""Are x+ and x− good counterfactuals: do they move the score, by how much change, and without artefacts?

All functions take reflectance ``(n, bands, h, w)`` float32 and return ``(n,)`` float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spacex.evaluation.methods.baselines import ChipBatch

CHANGED = 0.005
"""A pixel counts as changed from half a per cent of reflectance on, about twice the sensor's noise."""


def quality(chips: ChipBatch, second: nn.Module | None = None) -> dict[str, Tensor]:
    """Every number about the counterfactuals of a batch: name -> ``(n,)`` float32.

    Args:
        chips: a batch whose checkpoint has generators.
        second: another classifier in the same units, independently trained; then also whether the change
            means the same to it.
    """
    generators = {"plus": chips.checkpoint.maximiser, "minus": chips.checkpoint.minimiser}
    pictures = {"plus": chips.x_plus, "minus": chips.x_minus}
    units = {"plus": chips.u_plus, "minus": chips.u_minus}
    logits = {name: _logit(chips.checkpoint.classifier, u) for name, u in units.items()}
    out = {"logit": chips.logit, "logit_plus": logits["plus"], "logit_minus": logits["minus"]}
    out["monotone"] = ((logits["minus"] < chips.logit) & (chips.logit < logits["plus"])).float()
    out["flipped"] = (logits["minus"] < 0).float()
    for name, picture in pictures.items():
        out |= {f"{key}_{name}": value for key, value in size_of_change(chips.x, picture).items()}
        out[f"checkerboard_{name}"] = checkerboard(picture - chips.x)
        out[f"border_{name}"] = border_energy(picture - chips.x)
        other = generators["minus" if name == "plus" else "plus"]
        back = chips.checkpoint.card.scaling.restore(_run(other, units[name]))
        out[f"cycle_{name}"] = (back - chips.x).abs().mean(dim=(1, 2, 3))
    if second is not None:
        out |= transfer(second, chips.u, units["plus"], units["minus"])
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
    lines = [size // period for period in (2, 4, 8)]
    beside = [line + step for line in lines for step in (-6, -5, -4, 4, 5, 6)]
    on = (_lines(power, lines) + _lines(power.mT, lines)) / 2
    off = (_lines(power, beside) + _lines(power.mT, beside)) / 2
    return torch.where(off > 0, on / off.clamp(min=1e-30), torch.ones_like(on))


def _lines(power: Tensor, rows: list[int]) -> Tensor:
    return power[:, [row % power.shape[1] for row in rows]].mean(dim=(1, 2))


def border_energy(change: Tensor, frame: int = 16) -> Tensor:
    """Mean absolute change in the outer `frame` pixels over that inside; 1 is none, 0 without any change."""
    gap = change.abs().mean(dim=1)
    inner = gap[:, frame:-frame, frame:-frame]
    rim = (gap.sum(dim=(1, 2)) - inner.sum(dim=(1, 2))) / (gap[0].numel() - inner[0].numel())
    return torch.where(inner.mean(dim=(1, 2)) > 0, rim / inner.mean(dim=(1, 2)).clamp(min=1e-30), rim * 0)


def transfer(second: nn.Module, u: Tensor, u_plus: Tensor, u_minus: Tensor) -> dict[str, Tensor]:
    """What the change does to a second classifier: adversarial noise for one network means nothing to another.

    `second_flipped` is NaN for chips the second classifier does not take for natural in the first place.
    """
    plain, plus, minus = _logit(second, u), _logit(second, u_plus), _logit(second, u_minus)
    nothing = torch.full_like(plain, torch.nan)
    flipped = torch.where(plain > 0, (minus < 0).float(), nothing)
    return {"second_logit": plain, "second_plus": plus, "second_minus": minus, "second_flipped": flipped}


def _logit(classifier: nn.Module, u: Tensor) -> Tensor:
    with torch.no_grad():
        return classifier(u).float()  # type: ignore[no-any-return]


def _run(generator: nn.Module | None, u: Tensor) -> Tensor:
    if generator is None:
        return u
    with torch.no_grad():
        return generator(u).float()  # type: ignore[no-any-return]
