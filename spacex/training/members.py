"""Several classifiers of one training, in one checkpoint: each an ordinary run with a seed of its own.

The first member is the run itself, so that training it alone gives the same bits. The others live below it, in
``members/2``, ``members/3``, …, each with its own state, and are resumed like any run. When all are finished their
networks are put beside the first one's, and how far they lie apart is fitted to the validation split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spacex.checkpoint import Checkpoint, load_checkpoint, read_card, save_checkpoint
from spacex.datasets.tiles import Chips
from spacex.errors import RequestError
from spacex.model_card import Scaling
from spacex.models.members import Members, SpreadFit, fit_spread
from spacex.training.batches import shard
from spacex.training.classifier_run import ClassifierRun
from spacex.training.data import evenly_spaced, open_split
from spacex.training.loop import finished

CHIPS = 3000
"""Validation chips at most, evenly spaced over the split, to which the spread is fitted."""
FIGURES = ("accuracy", "auroc", "ece")
"""Of each member on the test split, kept in the card."""
BATCH = 16


def member_runs(run: ClassifierRun, count: int) -> list[ClassifierRun]:
    """The runs of so many members, the first of which is `run`.

    Raises:
        RequestError: if the run's folder holds a checkpoint of more members.
    """
    if finished(run.output) and (known := read_card(run.output).members) and known.count > count:
        do = f"Give --members {known.count}, or another --output."
        raise RequestError(f"{run.output} holds more classifiers", got=count, expected=known.count, do=do)
    further = range(2, count + 1)
    folder = f"{run.output.rstrip('/')}/members"
    return [
        run,
        *(run.model_copy(update={"output": f"{folder}/{n}", "seed": run.seed + n - 1}) for n in further),
    ]


def join_members(runs: Sequence[ClassifierRun], device: str = "cpu") -> Checkpoint:
    """Put the networks of finished runs into the first one's checkpoint; does nothing where that was done before."""
    first, *others = (load_checkpoint(run.output, trust=run.trust, device=device) for run in runs)
    if first.card.members is not None and first.card.members.count == len(runs):
        return first
    tests = [_figures(one.card.metrics["test"]) for one in (first, *others)]
    networks = [one.classifier for one in (first, *others)]
    members = Members(
        count=len(runs),
        seeds=tuple(run.seed for run in runs),
        test=tuple(tests),
        mean={name: float(np.mean([one[name] for one in tests])) for name in tests[0] if all(name in t for t in tests)},
        spread=measure_spread(networks, first.card.scaling, open_split(runs[0].source, "val")),
    )
    card = first.card.model_copy(update={"members": members})
    joined = replace(first, card=card, further=tuple(networks[1:]))
    return save_checkpoint(runs[0].output, card, joined.modules, first.applicability, first.sensitivity)


def _figures(measured: dict[str, Any]) -> dict[str, float]:
    return {name: float(measured[name]) for name in FIGURES if np.isfinite(measured[name])}


def measure_spread(networks: Sequence[nn.Module], scaling: Scaling, val: Chips) -> SpreadFit:
    """How far the logits of some classifiers lie apart on chips of the validation split."""
    chips = evenly_spaced(val.all, CHIPS)
    return fit_spread(np.stack([chip_logits(one, scaling, val, chips) for one in networks]))


@torch.no_grad()
def chip_logits(network: nn.Module, scaling: Scaling, chips: Chips, indices: Sequence[int]) -> NDArray[np.float64]:
    """Logits of some chips by a classifier in eval mode, (n,)."""
    weight = next(network.parameters(), torch.zeros(0))
    parts = [network(scaling.standardise(x.to(weight.device))).float().cpu() for x, _ in shard(chips, indices, BATCH)]
    return np.asarray(torch.cat(parts).double().numpy())
