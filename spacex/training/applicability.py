"""Fit a classifier's area of applicability to its training chips, when its training ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spacex.datasets.tiles import Chips
from spacex.model_card import Scaling
from spacex.models.applicability import Applicability, feature_extractor, learn_applicability, spatial_folds
from spacex.models.classes import native_network
from spacex.training.batches import shard
from spacex.training.data import evenly_spaced
from spacex.training.distributed import SINGLE, Distributed

CHIPS = 3000
"""Training chips at most, evenly spaced over the split, that stand for all."""


@torch.no_grad()
def fit_applicability(
    classifier: nn.Module,
    scaling: Scaling,
    train: Chips,
    batch: int = 16,
    distributed: Distributed = SINGLE,
    features: Sequence[str] = (),
) -> Applicability | None:
    """The area of applicability of a trained classifier in eval mode, fitted to chips that the processes share.

    `features` are the modules of a third-party network whose channels are read. None if it has no such modules, or if
    all training chips are of one place.
    """
    if native_network(classifier) is None and not features:
        return None
    chosen = evenly_spaced(train.all, CHIPS)
    # in the order in which `gather_rows` joins the processes' shards
    groups = train.infos["group"].tolist()
    places = [groups[i] for rank in range(distributed.size) for i in chosen[rank :: distributed.size]]
    folds = spatial_folds(places)
    if len(set(folds.tolist())) < 2:
        return None
    extract = feature_extractor(classifier, features)
    chips = shard(train, chosen, batch, distributed)
    statistics = torch.cat([extract(scaling.standardise(x)).cpu() for x, _ in chips])
    return learn_applicability(distributed.gather_rows(statistics), folds, len(scaling.mean))
