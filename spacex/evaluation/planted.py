"""A planted shortcut: does the map show a mark that the classifier was taught to use, though it says nothing of land?

The classifier is trained on for a short while with a share of the labels taken from a chequered mark that lies at
random on half of the chips, and the generators, from where they are, against it. What the classifier makes of the mark
is measured, not assumed: on natural chips that carry one, the mark is taken away, or the land around it is replaced by
a chip of the other class, and the logit's change noted. A faithful map's share on the mark follows the mark's share of
what raises the score: slope 1 over the chips, seen by the classifier as it was and as it was taught.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint
from spacex.datasets.tiles import Chips
from spacex.training.data import evenly_spaced
from spacex.training.distributed import Distributed
from spacex.training.gan import ROLES, ExplainedClassifiers, PatternLearner
from spacex.training.generator_start import start_from
from spacex.training.presets import DELTA, Preset

SHARE = 0.5
"""Of the labels that are taken from the mark."""
PART = 4
"""A chip's side over the mark's."""
STEPS, RATE, PIXELS = 60, 5e-4, 64 * 64**2
"""Of the classifier's further training; a step sees so many pixels, that is 64 chips of 64 x 64, and 8 at least."""
GENERATOR_STEPS, WARMUP = 120, 10
SEEN, BATCH = 100, 8
"""Training chips whose colours the mark is made from, and test chips that are measured at once."""
Values = NDArray[np.float64]
Pairs = Sequence[tuple[int, int]]
"""A natural test chip, and one of the other class."""
Draw = Callable[[int, int], tuple[Tensor, NDArray[np.bool_]]]
"""Gives so many chips, with marks on half of them, and their labels, from a count and a seed."""


def plant(x: Tensor, marks: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Chips (n, bands, side, side) with one of some marks (m, bands, a, a) on each, and where, (n, side, side) bool."""
    side, mark = x.shape[-1], marks.shape[-1]
    x, where = x.clone(), torch.zeros(len(x), side, side, dtype=torch.bool)
    corners, chosen = random.integers(side - mark + 1, size=(len(x), 2)), random.integers(len(marks), size=len(x))
    for i, (top, left) in enumerate(corners.tolist()):
        x[i, :, top : top + mark, left : left + mark] = marks[chosen[i]]
        where[i, top : top + mark, left : left + mark] = True
    return x, where


def chequered(x: Tensor) -> Tensor:
    """(1, bands, a, a): squares far above and below the chips' mean, the other way round in every second band."""
    mark = x.shape[-1] // PART
    square = torch.arange(mark) // max(1, mark // 4)
    signs = 1 - 2 * ((torch.arange(x.shape[1])[:, None, None] + square[:, None] + square) % 2)
    mean, spread = x.mean((0, 2, 3))[:, None, None], x.std((0, 2, 3))[:, None, None]
    return (mean + 1.5 * signs * spread).clamp(min=0)[None]


def mixed_labels(
    natural: NDArray[np.bool_], share: float, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which chips get a mark, about half of them, and labels, a share of which says where marks are."""
    marked = random.random(len(natural)) < 0.5
    return marked, np.where(random.random(len(natural)) < share, marked, natural)


def draw_marked(chips: Chips, marks: Tensor, share: float = SHARE) -> Draw:
    """Draws as many natural chips of a split as others, with marks on half of them."""
    kinds = [np.array(kind) for kind in (chips.natural, chips.unnatural)]

    def draw(count: int, seed: int) -> tuple[Tensor, NDArray[np.bool_]]:
        random = np.random.default_rng(seed)
        order = random.permutation(count)
        index = np.concatenate([random.choice(kind, count // 2) for kind in kinds])[order]
        marked, labels = mixed_labels((np.arange(count) < count // 2)[order], share, random)
        x, _ = chips.__getitems__(index.tolist())
        return torch.where(torch.from_numpy(marked)[:, None, None, None], plant(x, marks, random)[0], x), labels

    return draw


def taught_classifier(
    source: Checkpoint, draw: Draw, distributed: Distributed, steps: int, rate: float = RATE
) -> nn.Module:
    """A copy of the checkpoint's classifier, trained on with what `draw` gives."""
    network, standardise = deepcopy(source.classifier).requires_grad_(True).train(), source.card.scaling.standardise
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    batch = max(8, PIXELS // source.card.chip_size**2)
    for step in range(steps):
        x, labels = draw(batch, step)
        with distributed.autocast():
            u = standardise(x.to(distributed.device)).contiguous(memory_format=torch.channels_last)
            logit = network(u).float().flatten()
        loss = F.binary_cross_entropy_with_logits(logit, torch.from_numpy(labels).float().to(logit))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.requires_grad_(False).eval()


def taught(
    source: Checkpoint, draw: Draw, distributed: Distributed, steps: int = STEPS, rate: float = RATE
) -> Checkpoint:
    """The checkpoint with a classifier of so many steps at a rate, and its own generators trained on against that one.

    Generators that were trained in two steps are taught in two: below the threshold of the second, what they leave
    alone has no gradient.
    """
    network = taught_classifier(source, draw, distributed, steps, rate)
    explained = ExplainedClassifiers([network], source.card.scaling, source.card.scaling.std)
    result = replace(source, classifier=network, applicability=None, further=())
    for number, preset in enumerate(presets_of(source)):
        quick = preset.model_copy(update={"warmup": WARMUP, "average": 0.0})
        learner = PatternLearner(quick, explained, GENERATOR_STEPS, distributed=distributed)
        start_from(learner, [result])
        for step in range(GENERATOR_STEPS):
            # enough for a batch of either label
            x, labels = draw(4 * preset.batch, steps + number * GENERATOR_STEPS + step)
            x = x.to(distributed.device)
            natural, other = (x[torch.from_numpy(np.flatnonzero(labels == kind))] for kind in (True, False))
            size = min(preset.batch, len(natural), len(other))
            learner.step(natural[:size], other[:size])
        maximiser, minimiser = (learner.result(role).requires_grad_(False) for role, _ in ROLES)
        result = replace(result, maximiser=maximiser, minimiser=minimiser)
    return result


def presets_of(source: Checkpoint) -> list[Preset]:
    """How the checkpoint's generators were trained, step by step; the usual preset where its card does not say."""
    steps = [source.card.training[name] for name in ("start", "patterns") if name in source.card.training]
    try:
        return [Preset.model_validate(step["preset"]) for step in steps] or [_usual(source)]
    except (KeyError, ValidationError):  # imported, or of a card older than the preset's names
        return [_usual(source)]


def _usual(source: Checkpoint) -> Preset:
    return DELTA.model_copy(update={"generator": source.card.generator})


class Shares(NamedTuple):
    """Of every chip, (n,) each."""

    effect: Values
    """The mark's share of what raises the score."""
    map: Values
    """Of the map."""
    brightness: Values
    """Of the picture's brightness."""


def shares(
    explainer: Attributor, plain: Tensor, other: Tensor, marks: Tensor, maps: Callable[[Tensor], Tensor]
) -> Shares:
    """The mark's shares on natural chips and as many of the other class; `maps` draws those of chips, (n, h, w)."""
    x, where = plant(plain, marks, np.random.default_rng(0))
    pictures = x, plain, torch.where(where[:, None], x, other)
    logit, bare, around = (explainer.score(explainer.standardise(one.numpy())).logit.cpu() for one in pictures)
    mark, land = (logit - bare).double().clamp(min=0), (logit - around).double().abs()
    drawn, bright = (
        (one * where).double().sum((1, 2)) / one.double().sum((1, 2)).clamp(min=1e-12) for one in (maps(x), x.mean(1))
    )
    return Shares((mark / (mark + land).clamp(min=1e-12)).numpy(), drawn.numpy(), bright.numpy())


def before_and_after(
    explainer: Attributor, train: Chips, test: Chips, pairs: Pairs, draw_map: Callable[[Attributor, Tensor], Tensor]
) -> tuple[Shares, Shares]:
    """The shares on some test chips by a checkpoint, and by one that was taught to use the mark."""
    marks = chequered(train.__getitems__(evenly_spaced(train.all, SEEN))[0])
    here = Distributed(device=torch.device(explainer.device), compile=False)
    learnt = Attributor(
        taught(explainer.checkpoint, draw_marked(train, marks), here), explainer.maps, device=here.device
    )
    measured = []
    for one in (explainer, learnt):
        parts = []
        for start in range(0, len(pairs), BATCH):
            plain, other = (
                test.__getitems__(list(side))[0] for side in zip(*pairs[start : start + BATCH], strict=True)
            )
            parts.append(shares(one, plain, other, marks, partial(draw_map, one)))
        measured.append(Shares(*map(np.concatenate, zip(*parts, strict=True))))
    return measured[0], measured[1]
