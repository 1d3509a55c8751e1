"""Does a map's number mean what its unit says? Compares sums over squares with the effect of the squares on the logit.

Lift and path attribution are in logits per pixel: over a whole chip they sum to logit(x) − logit(x−). For a part of a
chip the sum is a prediction: if x− is put there and nowhere else, the logit should fall by the map's sum over that
part. A perfect map has correlation and slope 1. The squares lie on a fixed grid, so that nothing selects them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from spacex.bootstrap import Interval, association, draw
from spacex.evaluation.methods.chip_batch import ChipBatch

PARTS = (4, 2)
"""Squares per side of a chip."""
MAPS = ("lift", "path")
"""Maps in logits per pixel."""


def square_sums(chips: ChipBatch, names: Sequence[str], parts: Sequence[int] = PARTS) -> pd.DataFrame:
    """For every square of every chip, what some of `MAPS` predict and what happens; squares start at the upper left.

    Returns:
        A row per square: `chip` (index in the batch), `side`, `change` (logit(x) − logit(x with x− in the square)), and
        for each map its signed sum over square and bands, `<name>`, and that of the map as it is published (mean over
        bands of absolute values, times the number of bands), `<name>, absolute`.
    """
    rows = []
    maps = {name: getattr(chips, name) for name in names}
    for side in (chips.u.shape[-1] // part for part in parts):
        for row, col in product(*(range(0, length - side + 1, side) for length in chips.u.shape[-2:])):
            square = np.s_[:, :, row : row + side, col : col + side]
            # x− in this square alone, x everywhere else
            mixed = chips.u.clone()
            mixed[square] = chips.u_minus[square]
            columns = {"change": chips.logit - chips.attributor.score(mixed).logit}
            columns |= {name: values[square].sum(dim=(1, 2, 3)) for name, values in maps.items()}
            columns |= {f"{name}, absolute": values[square].abs().sum(dim=(1, 2, 3)) for name, values in maps.items()}
            arrays = {name: values.double().cpu().numpy() for name, values in columns.items()}
            rows.append(pd.DataFrame({"chip": np.arange(len(chips.x)), "side": side, **arrays}))
    return pd.concat(rows, ignore_index=True)


def unit_calibration(
    frames: Sequence[pd.DataFrame], repetitions: int, seed: int
) -> dict[tuple[str, int], tuple[Interval, Interval]]:
    """How well predictions hold, by map and side: correlation, and slope of what happened over what was predicted.

    `frames` are those of `square_sums` with the column `place`, the unit of the bootstrap.
    """
    table = pd.concat(frames, ignore_index=True)
    maps = table.columns.difference(["chip", "side", "change", "place"], sort=False)
    out = {}
    for side, part in table.groupby("side"):
        draws = draw(part["place"].tolist(), repetitions, seed)
        for name in maps:
            out[name, int(str(side))] = association(part[name].to_numpy(), part["change"].to_numpy(), draws)
    return out
