"""The best a map could score: on the embedded world the exact counterfactual of every chip is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spacex.attribution.attributor import difference
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, magnitude
from spacex.evaluation.samples import ChipSource
from spacex.settings import SENTINEL2_BANDS


def upper_bounds(source: ChipSource, with_lift: bool = True) -> list[Method]:
    """|x − the same ground without its pattern|, and DeepLIFT from there where it works; nothing for real data."""
    if not (source.data.root / "truth" / "chips.csv").exists():
        return []

    from spacex.synthetic.chip import counterfactual

    def compute(chips: ChipBatch) -> Tensor:
        """The chips with mire and fell replaced by what lies beneath, same sky and noise, like `chips.x`."""
        bands = [SENTINEL2_BANDS.index(band) for band in chips.bands]
        ground = [counterfactual(source.data.root, name)[bands] for name in chips.names]
        return torch.from_numpy(np.stack(ground)).to(chips.x)

    def exact(chips: ChipBatch) -> Tensor:
        return chips.memoise("exact", lambda: compute(chips))

    def lift(chips: ChipBatch) -> Tensor:
        baseline = chips.attributor.standardise(exact(chips).numpy())
        return magnitude(chips.attributor.lift(chips.u, baseline - chips.u)[0])

    about = "Upper bound: uses the exact counterfactual, which no method can know."
    change = Method("exact change", "upper bound", lambda c: difference(c.x, exact(c)), f"|x − exact|. {about}")
    draw = f"|DeepLIFT| from the exact counterfactual. {about}"
    return [change, Method("exact lift", "upper bound", lift, draw, ("lift",))] if with_lift else [change]
