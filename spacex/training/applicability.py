"""Where a classifier applies: what is learned about that from its training chips when its training ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spacex.model_card import Scaling
from spacex.models.applicability import Applicability, learn_applicability, reader, spatial_folds
from spacex.models.classes import own_network
from spacex.training.batches import portions
from spacex.training.data import Split, spaced
from spacex.training.distributed import SINGLE, Distributed

CHIPS = 1000
"""Training chips, evenly spaced over the split, that stand for all."""


@torch.no_grad()
def learn_where(
    classifier: nn.Module,
    scaling: Scaling,
    train: Split,
    batch: int = 16,
    team: Distributed = SINGLE,
    features: Sequence[str] = (),
) -> Applicability | None:
    """The area of applicability of a classifier, from its training chips.

    Args:
        classifier: trained, in eval mode.
        scaling: reflectance to its units.
        train: the training split.
        batch: chips looked at at once.
        team: shares the looking.
        features: modules whose channels are looked at, of a network that is not ours.

    Returns:
        What `spacex.models.applicability` needs; None if the training chips are of one place only, so that nothing
        can be said about another, or if the network is not ours and has no such modules.
    """
    if own_network(classifier) is None and not features:
        return None
    chosen = spaced(train.all, CHIPS)
    places = [train.places[i] for rank in range(team.size) for i in chosen[rank :: team.size]]
    folds = spatial_folds(places)
    if len(set(folds.tolist())) < 2:
        return None
    read, chips = reader(classifier, features), portions(train.dataset, chosen, batch, team)
    found = [read(scaling.standardise(x)).cpu() for x, _ in chips]
    return learn_applicability(team.gather(torch.cat(found)), folds)
