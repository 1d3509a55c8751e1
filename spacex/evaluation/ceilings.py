"""What a map could score at best: on the embedded world the exact counterfactual of every chip is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spacex.attribution.attributor import difference
from spacex.attribution.lift import Lift
from spacex.evaluation.methods.baselines import ChipBatch, Named, magnitude
from spacex.evaluation.samples import ChipSource
from spacex.settings import SENTINEL2_BANDS


def ceilings(source: ChipSource, with_lift: bool = True) -> list[Named]:
    """|x − the same ground without its pattern|, and DeepLIFT from there where it works; nothing for real data."""
    if not (source.data.root / "truth" / "chips.csv").exists():
        return []

    def without(chips: ChipBatch) -> Tensor:
        return chips.once("exact", lambda: exact_counterfactuals(source, chips))

    def lift(chips: ChipBatch) -> Tensor:
        baseline = chips.checkpoint.card.scaling.standardise(without(chips))
        return magnitude(Lift(chips.checkpoint.classifier, chips.u[:1])(chips.u, baseline)[0])

    about = "Ceiling: uses the exact counterfactual, which no method can know."
    found = [
        Named("exact change", "ceiling", lambda c: difference(c.x, without(c)), f"|x − exact|. {about}"),
        Named("exact lift", "ceiling", lift, f"|DeepLIFT| from the exact counterfactual. {about}"),
    ]
    return found if with_lift else found[:1]


def exact_counterfactuals(source: ChipSource, chips: ChipBatch) -> Tensor:
    """The chips with mire and fell replaced by what lies beneath, same sky and noise, like `chips.x`."""
    from spacex.synthetic.chip import counterfactual

    wanted = [SENTINEL2_BANDS.index(band) for band in chips.bands]
    ground = [counterfactual(source.data.root, name)[wanted] for name in chips.names]
    return torch.from_numpy(np.stack(ground)).to(chips.x)
