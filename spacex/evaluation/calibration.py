"""Does a map's number mean what its unit says? What it promises of a region, against what the region does to the logit.

Lift and path attribution are in logits per pixel: over a whole chip they sum to logit(x) − logit(x−). Of a part of a
chip that is a promise: put x− there and nowhere else, and the logit should fall by the map's sum over that part. A
perfect map has correlation and slope 1. Squares of a fixed grid are taken, so that nothing chooses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spacex.evaluation.bootstrap import Interval, association, draw
from spacex.evaluation.methods.baselines import ChipBatch

SIDES = (64, 128)
"""Pixels a side of the squares."""
MAPS = ("lift", "path")
"""Maps in logits per pixel."""


def promises(chips: ChipBatch, names: Sequence[str], sides: Sequence[int] = SIDES) -> pd.DataFrame:
    """Of every square of every chip, what maps promise and what happens.

    Args:
        chips: a batch whose checkpoint has generators.
        names: of `MAPS`.
        sides: pixels a side of the squares, which start at the upper left.

    Returns:
        A row per square: `chip` (index in the batch), `side`, `change` (logit(x) − logit(x with x− in the square)), and
        for each map its signed sum over square and bands, `<name>`, and that of the map as it is published (mean over
        bands of absolute values, times the number of bands), `<name>, absolute`.
    """
    rows = []
    maps = {name: getattr(chips, name) for name in names}
    for side, square in _squares(chips.u.shape[-2:], sides):
        mixed = chips.u.clone()
        mixed[square] = chips.u_minus[square]
        with torch.no_grad():
            change = chips.logit - chips.checkpoint.classifier(mixed).float()
        sums = {name: values[square].sum(dim=(1, 2, 3)) for name, values in maps.items()}
        sums |= {f"{name}, absolute": values[square].abs().sum(dim=(1, 2, 3)) for name, values in maps.items()}
        columns: dict[str, Tensor] = {"change": change, **sums}
        found = {name: values.double().cpu().numpy() for name, values in columns.items()}
        rows.append(pd.DataFrame({"chip": np.arange(len(change)), "side": side, **found}))
    return pd.concat(rows, ignore_index=True)


def kept(
    frames: Sequence[pd.DataFrame], repetitions: int, seed: int
) -> dict[tuple[str, int], tuple[Interval, Interval]]:
    """How well promises were kept, by map and side: correlation, and slope of what happened over what was promised.

    Args:
        frames: from `promises`, with the column `place`, the unit of the bootstrap.
        repetitions: of the bootstrap.
        seed: of the bootstrap.
    """
    table = pd.concat(frames, ignore_index=True)
    maps = [name for name in table.columns if name not in ("chip", "side", "change", "place")]
    out = {}
    for side, part in table.groupby("side"):
        draws = draw(part["place"].tolist(), repetitions, seed)
        for name in maps:
            out[name, int(str(side))] = association(part[name].to_numpy(), part["change"].to_numpy(), draws)
    return out


def _squares(shape: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    for side in sides:
        for row in range(0, shape[0] - side + 1, side):
            for col in range(0, shape[1] - side + 1, side):
                yield side, (slice(None), slice(None), slice(row, row + side), slice(col, col + side))
