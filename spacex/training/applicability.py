"""Where a classifier applies: what is learned about that from its training chips when its training ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spacex.model_card import Scaling
from spacex.models.applicability import Applicability, feature_extractor, learn_applicability, spatial_folds
from spacex.models.classes import native_network
from spacex.training.batches import shard
from spacex.training.data import DatasetSplit, evenly_spaced
from spacex.training.distributed import SINGLE, Distributed

CHIPS = 1000
"""Training chips, evenly evenly_spaced over the split, that stand for all."""


@torch.no_grad()
def fit_applicability(
    classifier: nn.Module,
    scaling: Scaling,
    train: DatasetSplit,
    batch: int = 16,
    distributed: Distributed = SINGLE,
    features: Sequence[str] = (),
) -> Applicability | None:
    """The area of applicability of a classifier, from its training chips.

    Args:
        classifier: trained, in eval mode.
        scaling: reflectance to its units.
        train: the training split.
        batch: chips looked at at once.
        distributed: shares the looking.
        features: modules whose channels are looked at, of a network that is not ours.

    Returns:
        What `spacex.models.applicability` needs; None if the training chips are of one place only, so that nothing
        can be said about another, or if the network is not ours and has no such modules.
    """
    if native_network(classifier) is None and not features:
        return None
    chosen = evenly_spaced(train.all, CHIPS)
    places = [train.places[i] for rank in range(distributed.size) for i in chosen[rank :: distributed.size]]
    folds = spatial_folds(places)
    if len(set(folds.tolist())) < 2:
        return None
    read, chips = feature_extractor(classifier, features), shard(train.dataset, chosen, batch, distributed)
    found = [read(scaling.standardise(x)).cpu() for x, _ in chips]
    return learn_applicability(distributed.gather_rows(torch.cat(found)), folds)
