"""What a finished checkpoint is measured by before anyone trusts its maps: a few checks on chips of the test split.

Each is a mean over chips with an interval by place, beside a trivial control where there is one: whether the score
tells classes apart better than colour alone (boosted trees on mean and deviation of each band), whether the map points
at natural land (the grid pointing game of Boehle, Fritz & Schiele, CVPR 2021, with cells cut from two chips), whether
it depends on what the classifier learned (Adebayo et al. 2018), what x− and x+ do to scores, and whether the area of
applicability sees haze and other gains. The card keeps the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from spacex.attribution.attributor import Attributor
from spacex.bootstrap import ClusterBootstrap, Interval, association, auroc, compare, draw, interval, of_draws
from spacex.certificate import Certificate, Check
from spacex.checkpoint import Checkpoint
from spacex.datasets.splits import on_sphere
from spacex.datasets.tiles import Chips
from spacex.errors import DataError
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps, supporting
from spacex.evaluation.planted import Pairs, before_and_after
from spacex.evaluation.sanity import randomise_layers, spearman
from spacex.training.batches import shard
from spacex.training.data import DatasetSettings, evenly_spaced, open_split
from spacex.training.loop import Progress
from spacex.training.metrics import collapse_reason

SCORED = 400
"""Test chips of each class whose scores are compared, and training chips of each class behind the colour control."""
EXPLAINED = 60
"""Chips of each class that are changed by the generators, and mosaics of the pointing game."""
RANDOMISED = 12
"""Chips whose maps are compared with those of a classifier without training."""
CELLS = 4
"""Cells along a side of a chip in the pointing game."""
BATCH = 8
HAZE = 0.6, 0.15
"""Factor and offset of heavy haze: what the sky adds, and takes away of the land's contrast."""
GAIN = 0.5
"""Deviation of the logarithm of other gains, drawn for each chip and band."""
Flags = NDArray[np.bool_]
Values = NDArray[np.float64]


def certify(
    checkpoint: Checkpoint,
    source: DatasetSettings,
    progress: Progress = lambda line: None,
    device: str = "cpu",
    planted: bool = False,
) -> Certificate:
    """Measure a checkpoint on the test split of a data set with two classes, or a target and the rest.

    Args:
        checkpoint: of a classifier, or with generators.
        source: the data set it was trained on; the colour control learns from its training split.
        progress: called with a line before each part.
        device: where the networks run.
        planted: whether copies of the networks are trained on with a planted shortcut, which takes minutes.

    Raises:
        DataError: if the data set or its test split cannot be used.
    """
    train, test = (open_split(source, name) for name in ("train", "test"))
    natural, other = (evenly_spaced(chips, SCORED) for chips in (test.natural, test.unnatural))
    checks: list[Check] = []
    missing = {"planted shortcut": "takes minutes: spacex certify --planted trains copies of the networks on for it"}
    if not natural or not other:
        got = f"{len(natural)} natural and {len(other)} other chips"
        raise DataError(f"nothing can be measured on the test split of {source.root}", got=got, expected="both kinds")
    progress(f"certificate: scores of {len(natural) + len(other)} test chips")
    attributor = Attributor(checkpoint, (), device=device)
    places = _places(test, [*natural, *other])
    draws = draw(places)
    truth = np.repeat([True, False], [len(natural), len(other)])
    seen = _observe(attributor, test, [*natural, *other])
    control = _colour_control(train)(seen.colours)
    checks += _scores(truth, seen.scores, control, draws)
    if seen.dissimilarity is None:
        missing["applicability"] = "not fitted"
    else:
        checks += _applicability(attributor, test, [*natural, *other], seen.dissimilarity, draws)
    maps = [name for name in ("lift", "path_attribution") if name in supported_maps(checkpoint)]
    if not maps:
        missing |= dict.fromkeys(("maps", "planted shortcut"), "the checkpoint has no generators")
    else:
        progress("certificate: what the generators change, and where the map points")
        explainer = Attributor(checkpoint, maps[:1], device=device)
        checks += _changes(explainer, test, evenly_spaced(natural, EXPLAINED), evenly_spaced(other, EXPLAINED))
        checks += _pointing(explainer, test, evenly_spaced(natural, EXPLAINED), other)
        checks += _randomised(explainer, test, evenly_spaced(natural, RANDOMISED))
        if planted:
            progress("certificate: training copies of the networks on with a planted shortcut")
            few = evenly_spaced(natural, EXPLAINED)
            checks += _planted(explainer, train, test, list(zip(few, _nearest(test, few, other), strict=True)))
            del missing["planted shortcut"]
    if others := len(checkpoint.further):
        missing["further classifiers"] = f"all checks are of the first of {1 + others}, of which maps are drawn"
    trained = checkpoint.card.metrics.get("patterns", {}).get("test")
    collapsed = (collapse_reason(trained) if trained and checkpoint.minimiser is not None else None) or ""
    held = f"{source.root.rpartition(':')[0] or source.root}, test split {test.split_origin}"
    return Certificate(
        data=held, chips=len(truth), places=len(set(places)), checks=tuple(checks), missing=missing, collapsed=collapsed
    )


class _Observed(NamedTuple):
    """What one pass over some chips gives."""

    scores: Values
    colours: NDArray[np.float32]
    """Mean and deviation of each band, (n, 2 * bands)."""
    dissimilarity: Values | None


def _observe(
    attributor: Attributor, chips: Chips, indices: Sequence[int], spoil: Callable[[Tensor], Tensor] = lambda x: x
) -> _Observed:
    """Scores, colours and dissimilarity of chips, after something was done to them."""
    scores, colours, unlike = [], [], []
    for x in _batches(chips, indices):
        x = spoil(x)
        logit, dissimilarity = attributor.score(attributor.standardise(x.numpy()))
        scores.append(torch.sigmoid(logit).cpu())
        colours.append(_colours(x))
        unlike += [] if dissimilarity is None else [dissimilarity.cpu()]
    strange = torch.cat(unlike).double().numpy() if unlike else None
    return _Observed(torch.cat(scores).double().numpy(), np.concatenate(colours), strange)


def _batches(chips: Chips, indices: Sequence[int]) -> Iterator[Tensor]:
    return (x for x, _ in shard(chips, indices, BATCH))


def _places(chips: Chips, indices: Sequence[int]) -> list[str]:
    return [str(group) for group in chips.infos["group"].iloc[list(indices)]]


def _colours(x: Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.cat([x.mean((2, 3)), x.std((2, 3))], dim=1).numpy())


def _colour_control(train: Chips) -> Callable[[NDArray[np.float32]], Values]:
    """Scores by colour alone: boosted trees that saw mean and deviation of each band of training chips."""
    kinds = [evenly_spaced(chips, SCORED) for chips in (train.natural, train.unnatural)]
    colours = np.concatenate([_colours(x) for kind in kinds for x in _batches(train, kind)])
    trees = HistGradientBoostingClassifier(random_state=0).fit(colours, np.repeat([1, 0], [len(k) for k in kinds]))
    return lambda seen: np.asarray(trees.predict_proba(seen)[:, 1])


def _scores(truth: Flags, scores: Values, control: Values, draws: ClusterBootstrap) -> list[Check]:
    """AUROC and accuracy beside colour alone."""
    right, beside = (((values > 0.5) == truth).astype(float) for values in (scores, control))
    area, rival = (auroc(truth, values, draws) for values in (scores, control))
    gap = of_draws(area - rival, draws)
    return [
        _check("AUROC", of_draws(area, draws), "colour alone", float(rival[0]), gap),
        _against("accuracy", "colour alone", right, beside, draws),
    ]


def _applicability(
    attributor: Attributor, test: Chips, indices: Sequence[int], known: Values, draws: ClusterBootstrap
) -> list[Check]:
    """Share of the test chips outside, and how well chips in haze and with other gains are told from them."""
    drawn = torch.Generator().manual_seed(0)
    strange = {
        "heavy haze": lambda x: HAZE[0] * x + HAZE[1],
        "other gains": lambda x: x * torch.exp(GAIN * torch.randn(*x.shape[:2], 1, 1, generator=drawn)),
    }
    checks = [_mean("test chips outside the area of applicability", (known > 1).astype(float), draws)]
    for name, spoil in strange.items():
        spoiled = _observe(attributor, test, indices, spoil).dissimilarity
        assert spoiled is not None
        # a chip's share of the known ones that it exceeds; the mean of these shares is the AUROC
        exceeded = np.searchsorted(np.sort(known), spoiled) / len(known)
        checks.append(_mean(f"AUROC of {name} by dissimilarity", exceeded, draws))
    return checks


def _changes(attributor: Attributor, test: Chips, natural: Sequence[int], other: Sequence[int]) -> list[Check]:
    """How many natural chips x− turns, of those scored natural; and how many others x+ turns."""
    checks = []
    for kind, name, turned in ((natural, "x- turns natural chips", True), (other, "x+ turns other chips", False)):
        logits = []
        for x in _batches(test, kind):
            batch = ChipBatch(attributor, x, [""] * len(x))
            after = batch.logit_minus if turned else batch.logit_plus
            logits.append(torch.stack([batch.logit, after]).cpu())
        before, after = torch.cat(logits, dim=1).double().numpy()
        # only of chips that are scored as they are labelled; the rest have no value
        flips = np.where((before > 0) == turned, (after > 0) != turned, np.nan)
        checks += [_mean(name, flips, draw(_places(test, kind)))] if np.isfinite(flips).any() else []
    return checks


def _pointing(attributor: Attributor, test: Chips, natural: Sequence[int], other: Sequence[int]) -> list[Check]:
    """Share of the map on natural cells of chips half of whose cells are another chip's, beside brightness alone."""
    partners = _nearest(test, natural, other)
    shares, plain = [], []
    order = np.random.default_rng(0)
    for x, beside in zip(_batches(test, natural), _batches(test, partners), strict=True):
        cell = x.shape[-1] // CELLS
        masks = [order.permutation(np.arange(CELLS**2) % 2 == 0).reshape(CELLS, CELLS) for _ in x]
        inside = torch.from_numpy(np.kron(np.stack(masks), np.ones((cell, cell), bool)))
        edge = x.shape[-1] - inside.shape[-1]
        inside = torch.nn.functional.pad(inside, (0, edge, 0, edge))
        mosaic = torch.where(inside[:, None], x, beside)
        shares.append(_share(_draw(attributor, mosaic), inside))
        plain.append(_share(mosaic.mean(dim=1), inside))
    name = f"share of {attributor.maps[0].removesuffix('_attribution')} on natural cells (chance .5)"
    draws = draw(_places(test, natural))
    return [_against(name, "brightness", np.concatenate(shares), np.concatenate(plain), draws)]


def _nearest(chips: Chips, natural: Sequence[int], other: Sequence[int]) -> list[int]:
    """The other chip nearest to each natural one; where places are unknown, one after the other."""
    if "lat" not in chips.infos:
        return [other[i % len(other)] for i in range(len(natural))]
    where = on_sphere(chips.infos["lon"].to_numpy(), chips.infos["lat"].to_numpy())
    nearest = cKDTree(where[list(other)]).query(where[list(natural)])[1]
    return [other[i] for i in nearest]


def _draw(attributor: Attributor, x: Tensor) -> Tensor:
    """The positive part of the attributor's map of chips, (n, h, w)."""
    batch = ChipBatch(attributor, x, [""] * len(x))
    return supporting(batch.lift if attributor.maps[0] == "lift" else batch.path).cpu()


def _share(maps: Tensor, inside: Tensor) -> Values:
    total = maps.double().sum((1, 2))
    return np.asarray(((maps * inside).double().sum((1, 2)) / total.clamp_min(1e-12)).numpy())


def _randomised(attributor: Attributor, test: Chips, natural: Sequence[int]) -> list[Check]:
    """Rank correlation of the map with that of the same classifier after all its layers were randomised."""
    layers = list(randomise_layers(attributor.checkpoint.classifier))
    if not layers:  # a network that cannot draw its weights anew
        return []
    _, random = layers[-1]
    bare = Attributor(replace(attributor.checkpoint, classifier=random), attributor.maps, device=attributor.device)
    pairs = [(_draw(attributor, x), _draw(bare, x)) for x in _batches(test, natural)]
    values = np.concatenate([np.nan_to_num(spearman(*pair)) for pair in pairs])
    name = "rank correlation with the map of an untrained classifier (0 is best)"
    return [_mean(name, values, draw(_places(test, natural)))]


def _planted(attributor: Attributor, train: Chips, test: Chips, pairs: Pairs) -> list[Check]:
    """How the map follows what the classifier makes of a planted mark, before and after it is taught to use it."""
    before, after = before_and_after(attributor, train, test, pairs, _draw)
    effect, drawn, bright = np.concatenate([before, after], axis=1)
    places, name = _places(test, [natural for natural, _ in pairs]), attributor.maps[0].removesuffix("_attribution")
    twice = draw(places * 2)
    slope, plain, gap = (association(effect, values, twice)[1] for values in (drawn, bright, drawn - bright))
    title, shown = f"slope of {name} over what a planted mark does (1 is faithful)", f"share of {name} on a taught mark"
    return [
        _check(title, slope, "brightness", plain.mean, gap),
        _against(shown, "its share of what raises the score", after.map, after.effect, draw(places)),
    ]


def _mean(name: str, values: Values, draws: ClusterBootstrap) -> Check:
    return _check(name, interval(values, draws))


def _against(name: str, control: str, values: Values, beside: Values, draws: ClusterBootstrap) -> Check:
    gap = compare(values, beside, draws).difference
    return _check(name, interval(values, draws), control, float(beside.mean()), gap)


def _check(
    name: str, measured: Interval, control: str = "", beside: float | None = None, gap: Interval | None = None
) -> Check:
    low, high = _ends(measured)
    gap_low, gap_high = (None, None) if gap is None else _ends(gap)
    return Check(
        name=name, value=measured.mean, low=low, high=high, control=control, beside=beside,
        gap=None if gap is None else gap.mean, gap_low=gap_low, gap_high=gap_high,
    )  # fmt: skip


def _ends(estimate: Interval) -> tuple[float | None, float | None]:
    """Of an interval; None where there is only one place."""
    return (estimate.low, estimate.high) if np.isfinite(estimate.low) else (None, None)
