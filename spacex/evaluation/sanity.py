"""Does a map depend on what the classifier has learned? After Adebayo et al., "Sanity Checks" (2018).

The classifier's layers are randomised from the output backwards; after each, every map is compared with that of the
trained classifier. A map that stays shows the picture, not the classifier. The generators stay as they are: they were
trained on the true classifier, so lift and path map keep the outline of |x − x−| even when every gradient is random.
What a generator trained *against* a random classifier draws is a separate run (a control checkpoint).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from spacex.evaluation.methods.chip_batch import ChipBatch, Method

EVERY = 7
"""Ranks are taken on every seventh pixel: neighbours carry the same answer, and ranking is what costs."""


def spearman(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Rank correlation of two maps per chip, ``(n, h, w)`` each to ``(n,)``; NaN where a map is constant."""
    a, b = (rankdata(maps.flatten(1)[:, ::EVERY].cpu().numpy(), axis=1) for maps in (first, second))
    # Spearman's is Pearson's correlation of the ranks; scipy's own takes one pair of maps at a time
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), spread, out=np.full(len(a), np.nan), where=spread > 0))


def similarity(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Structural similarity of two maps per chip, each scaled to its chip's largest value, ``(n,)``."""
    a, b = (maps[:, None] / maps.amax(dim=(1, 2))[:, None, None, None].clamp(min=1e-12) for maps in (first, second))
    value = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return np.asarray(torch.as_tensor(value).reshape(-1).cpu().numpy(), dtype=np.float64)


def randomise_layers(classifier: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of the classifier with more and more layers randomised, from the output backwards.

    Yields:
        The name of the layer that was randomised last, and the classifier with it and all later layers random.
    """
    random = copy.deepcopy(classifier)
    # layers are registered in the order data flows through them, so the last ones are the output's
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, layer in reversed(list(random.named_modules())):
            if hasattr(layer, "reset_parameters") and any(True for _ in layer.parameters(recurse=False)):
                layer.reset_parameters()
                yield name, copy.deepcopy(random).eval().requires_grad_(False)


class Step(NamedTuple):
    """How similar a method's maps are to the original ones after some layers were randomised."""

    method: str
    layer: str
    layers: int
    """Layers randomised so far."""
    spearman: float
    """Mean over chips."""
    ssim: float


def randomise(chips: ChipBatch, methods: Sequence[Method], stages: int = 8, seed: int = 0) -> list[Step]:
    """Compare the maps of some methods on one batch while its classifier is randomised.

    `stages` of the steps are compared, evenly spread, the last always among them.
    """
    before = {method.name: method(chips) for method in methods}
    steps = list(randomise_layers(chips.checkpoint.classifier, seed))
    out = []
    for index in sorted({round(i) for i in np.linspace(0, len(steps) - 1, min(stages, len(steps)))}):
        layer, network = steps[index]
        random = dataclasses.replace(chips.checkpoint, classifier=network)
        networks = {"steps": chips.attributor.steps, "precision": chips.attributor.precision}
        randomised = ChipBatch.of(random, chips.x, chips.names, **networks)
        for method in methods:
            maps = method(randomised)
            # a map without any variation agrees with nothing: 0
            order = np.nan_to_num(spearman(before[method.name], maps)).mean()
            ssim = similarity(before[method.name], maps).mean()
            out.append(Step(method.name, layer, index + 1, float(order), float(ssim)))
    return out
