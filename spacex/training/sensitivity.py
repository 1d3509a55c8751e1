"""Measure where in a chip a classifier is sensitive, when the training of its generators ends.

A classifier of whole chips does not weigh all places of a chip alike. Blended chips then show their own lattice, unless
the blend is divided by what the classifier gives each place on average (`spacex.mapping.chips.Blend`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spacex.attribution.attributor import Attributor
from spacex.attribution.inference import choose_precision
from spacex.attribution.lift import try_lift
from spacex.checkpoint import Checkpoint
from spacex.datasets.tiles import Chips
from spacex.training.batches import shard
from spacex.training.data import evenly_spaced
from spacex.training.distributed import SINGLE, Distributed

CHIPS = 400
"""Training chips, evenly spaced over the split, whose maps are averaged: less than a minute of one core."""
CELL = 4
"""Pixels a side over which the mean is smoothed."""
LEAST = 0.25
"""Smallest sensitivity, as a share of the mean: a place that hardly counts must not be blown up."""


@torch.no_grad()
def measure_sensitivity(checkpoint: Checkpoint, train: Chips, distributed: Distributed = SINGLE) -> Tensor | None:
    """Mean lift by place in a chip, over chips that the processes share.

    Where `Lift` cannot follow the classifier it is that of the path attribution.

    Returns:
        (side / `CELL`, side / `CELL`) float32 on the CPU with the mean 1; None if the maps are empty.
    """
    card = checkpoint.card
    followed = try_lift(checkpoint.classifier, len(card.bands), card.chip_size) is not None
    name = "lift" if followed else "path_attribution"
    device = distributed.device
    attributor = Attributor(checkpoint, (name,), device=device, precision=choose_precision("auto", device))
    total = torch.zeros(1, card.chip_size, card.chip_size)
    for x, _ in shard(train, evenly_spaced(train.all, CHIPS), 4, distributed):
        total += torch.from_numpy(attributor.attribute(x.cpu().numpy())().maps[name]).sum(dim=0)
    cells = F.avg_pool2d(distributed.gather_rows(total).sum(dim=0, keepdim=True), CELL)[0]
    if not float(cells.mean()) > 0:
        return None
    cells = (cells / cells.mean()).clamp_min(LEAST)
    return cells / cells.mean()
