"""How well a map points at a region: area-matched IoU and its companions, for many chips at once.

Everything is a function of *ranks* (which pixels come first) except energy, Otsu's and the min-max threshold.
One sort per chip therefore serves every region and most numbers; see :class:`Ranking`. Ties are never broken
by position: a threshold that falls among equal values takes the expected share of them, so a constant map
scores exactly what chance does, and a Grad-CAM full of zeros gains nothing from the order of its pixels.

All functions take flat chips: ``maps (n, p)`` float32, not negative; ``inside (n, p)`` bool, the region
asked for; ``valid (n, p)`` bool, the pixels that count. They return float64 ``(n,)``, NaN where a chip has no
answer (no valid pixel inside, or none outside).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """The pixels of every chip by falling map value: the one expensive step, shared by all regions."""

    pixels: NDArray[np.int64]
    """Pixel numbers in that order, ``(n, p)``."""
    last: Flags
    """True at the last position of every group of equal values, ``(n, p)``."""


def sort(maps: Maps) -> Order:
    """Sort every chip once."""
    pixels = np.argsort(-maps, axis=1)
    ordered = np.take_along_axis(maps, pixels, axis=1)
    last = np.ones(ordered.shape, dtype=bool)
    last[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    return Order(pixels, last)


@dataclass(frozen=True)
class Ranking:
    """Chips with their valid pixels counted from the highest map value down, by groups of equals.

    `end` and `begin` are the number of valid pixels up to the last, and before the first, pixel that ties
    with the one at a position; `hits_end` and `hits_begin` count those among them that lie inside the region.
    """

    begin: Values
    end: Values
    hits_begin: Values
    hits_end: Values
    last: Flags
    positives: Values
    """Valid pixels inside the region, ``(n,)``."""
    negatives: Values
    """Valid pixels outside the region, ``(n,)``."""


def rank(order: Order, inside: Flags, valid: Flags) -> Ranking:
    """Count valid and inside pixels along an order; pixels that do not count weigh nothing."""

    def count(flags: Flags) -> tuple[Values, Values, Values]:
        """Cumulative counts at the end of the group before, and at the end of the own group; and the total."""
        total = np.take_along_axis(flags, order.pixels, axis=1).cumsum(axis=1, dtype=np.float64)
        # Counts never fall. So the running maximum of the counts at group ends, moved by one position, is the count
        # before the group; and the running minimum from the right is the count at the group's own end.
        ends = np.where(order.last, total, 0.0)
        before = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        begin = np.maximum.accumulate(before, axis=1)
        end = np.minimum.accumulate(np.where(order.last, total, np.inf)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(begin), np.asarray(end), total[:, -1]

    (begin, end, pixels), (hits_begin, hits_end, positives) = count(valid), count(valid & inside)
    return Ranking(begin, end, hits_begin, hits_end, order.last, positives, pixels - positives)


def hits_at(ranking: Ranking, k: Values) -> Values:
    """Expected number of inside pixels among the `k` highest valid ones, ties shared out evenly.

    Args:
        ranking: the counted chips.
        k: how many pixels to take, ``(n,)``, may be fractional, at most the valid pixels of the chip.
    """
    # `end` never falls, so the group in which the k-th pixel lies is the first whose end reaches k
    index = np.array([np.searchsorted(end, most) for end, most in zip(ranking.end, k, strict=True)])
    index = np.clip(index, 0, ranking.end.shape[1] - 1)[:, None]
    begin, end, hits_begin, hits_end = (
        np.take_along_axis(part, index, axis=1)[:, 0]
        for part in (ranking.begin, ranking.end, ranking.hits_begin, ranking.hits_end)
    )
    # of the group's pixels the first k - begin are taken, whichever they are: so the same share of its hits
    share = np.divide(k - begin, end - begin, out=np.zeros_like(begin), where=end > begin)
    return np.asarray(hits_begin + share * (hits_end - hits_begin))


def area_matched_iou(ranking: Ranking) -> Values:
    """IoU of the region with as many of the highest pixels as the region has; no free parameter.

    With |H| = |M| = k and P the share of H inside M, IoU = P / (2 - P).
    """
    share = _divide(hits_at(ranking, ranking.positives), ranking.positives)
    return _defined(ranking, share / (2.0 - share))


def top_share(ranking: Ranking, share: float = 0.1) -> tuple[Values, Values]:
    """IoU and share inside of the highest `share` of the valid pixels."""
    k = share * (ranking.positives + ranking.negatives)
    hits = hits_at(ranking, k)
    return _defined(ranking, _divide(hits, k + ranking.positives - hits)), _defined(ranking, _divide(hits, k))


def auroc(ranking: Ranking) -> Values:
    """Area under the ROC curve: the chance that a pixel inside outranks one outside, ties counting half."""
    # one term per group of equals, at its last position
    hits = (ranking.hits_end - ranking.hits_begin) * ranking.last
    misses = (ranking.end - ranking.begin) * ranking.last - hits
    # a miss is outranked by every hit before its group and by half of its own group
    area = (misses * (ranking.hits_begin + hits / 2.0)).sum(axis=1)
    return _defined(ranking, _divide(area, ranking.positives * ranking.negatives))


def auprc(ranking: Ranking) -> Values:
    """Average precision (the step-wise area under precision over recall, as scikit-learn defines it)."""
    gained = (ranking.hits_end - ranking.hits_begin) * ranking.last
    precision = ranking.hits_end / np.maximum(ranking.end, 1.0)
    return _defined(ranking, _divide((gained * precision).sum(axis=1), ranking.positives))


def prevalence(ranking: Ranking) -> Values:
    """Share of the valid pixels that lie inside: what AUPRC, energy and share inside are by chance."""
    return _divide(ranking.positives, ranking.positives + ranking.negatives)


def energy(maps: Maps, inside: Flags, valid: Flags) -> Values:
    """Share of the map's total value that lies inside (relevance mass); by chance the prevalence."""
    total = np.where(valid, maps, 0.0).sum(axis=1, dtype=np.float64)
    within = np.where(valid & inside, maps, 0.0).sum(axis=1, dtype=np.float64)
    return _divide(within, total)


def pointing_game(maps: Maps, inside: Flags, valid: Flags) -> Values:
    """1 where the highest pixel lies inside, 0 where not; several highest share the answer; no tolerance."""
    scores = np.where(valid, maps, -np.inf)
    highest = (scores == scores.max(axis=1, keepdims=True)) & valid
    hits = (highest & inside).sum(axis=1).astype(np.float64)
    return _divide(hits, highest.sum(axis=1).astype(np.float64))


def overlap(high: Flags, inside: Flags, valid: Flags) -> tuple[Values, Values]:
    """IoU of two regions, and the share of the first that lies inside the second (0 for an empty first)."""
    high, region = high & valid, inside & valid
    common = (high & region).sum(axis=1).astype(float)
    share = np.where(high.any(axis=1), _divide(common, high.sum(axis=1).astype(float)), 0.0)
    return _divide(common, (high | region).sum(axis=1).astype(float)), share


def otsu(maps: Maps, valid: Flags, bins: int = 256) -> Flags:
    """Pixels above Otsu's threshold of each chip (Otsu 1979, `bins` equal steps from minimum to maximum)."""
    some = valid.any(axis=1, keepdims=True)
    low = np.where(some, np.where(valid, maps, np.inf).min(axis=1, keepdims=True), 0.0)
    high = np.where(some, np.where(valid, maps, -np.inf).max(axis=1, keepdims=True), 0.0)
    width = np.where(high > low, high - low, 1.0)
    steps = np.clip(((maps - low) / width * bins).astype(np.int64), 0, bins - 1)
    # one histogram per chip from one call: a chip's steps are moved by its number times the number of steps
    chip = np.arange(len(maps))[:, None] * bins
    histogram = np.bincount((chip + steps)[valid], minlength=len(maps) * bins).reshape(len(maps), bins)
    cut = _otsu_cut(histogram.astype(np.float64))
    return np.asarray((steps > cut[:, None]) & (high > low) & valid)


def _otsu_cut(histogram: Values) -> NDArray[np.int64]:
    """The step after which the variance between the two classes is largest.

    It is w0 w1 (m0 - m1)², with weights and means of the classes; in counts and sums (s0 n - s n0)² / (n0 n1) but for
    a constant factor.
    """
    levels = np.arange(histogram.shape[1]) + 0.5
    below, mass = histogram.cumsum(axis=1), (histogram * levels).cumsum(axis=1)
    total, all_mass = below[:, -1:], mass[:, -1:]
    product = below * (total - below)
    distance = (all_mass * below - mass * total) ** 2
    between = np.divide(distance, product, out=np.zeros_like(below), where=product > 0)
    return np.asarray(between.argmax(axis=1))


def min_max_half(maps: Maps, valid: Flags) -> Flags:
    """Pixels at or above half the range of each chip, after clipping to its 1st and 99th percentile."""
    scores = np.where(valid, maps, np.nan)
    some = valid.any(axis=1)
    limits = np.zeros((2, len(maps), 1))
    limits[:, some] = np.nanpercentile(scores[some], [1, 99], axis=1)[..., None]
    low, high = limits
    return np.asarray((maps >= low + (high - low) / 2) & (high > low) & valid)


def _divide(top: Values, bottom: Values) -> Values:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0))


def _defined(ranking: Ranking, values: Values) -> Values:
    return np.asarray(np.where((ranking.positives > 0) & (ranking.negatives > 0), values, np.nan))


def essential(ranking: Ranking) -> dict[str, Values]:
    """The two numbers every variant of a definition is compared by, and the region's prevalence."""
    return {"prevalence": prevalence(ranking), "iou": area_matched_iou(ranking), "auroc": auroc(ranking)}


def complete(maps: Maps, order: Order, inside: Flags, valid: Flags) -> dict[str, Values]:
    """Every number of the table for one method: name -> ``(n,)``.

    `iou` and `share` are area-matched (there the share inside, precision and recall are one number); the
    suffixes `_otsu`, `_top10` and `_minmax` name the other thresholds; `auprc_over_chance` and
    `energy_over_chance` are divided by the prevalence, so 1 is chance.
    """
    ranking = rank(order, inside, valid)
    out = essential(ranking)
    out["share"] = 2.0 * out["iou"] / (1.0 + out["iou"])
    out["auprc"], out["energy"] = auprc(ranking), energy(maps, inside, valid)
    for name in ("auprc", "energy"):
        out[f"{name}_over_chance"] = _divide(out[name], out["prevalence"])
    out["pointing"] = pointing_game(maps, inside, valid)
    out["iou_otsu"], out["share_otsu"] = overlap(otsu(maps, valid), inside, valid)
    out["iou_top10"], out["share_top10"] = top_share(ranking, 0.1)
    out["iou_minmax"], out["share_minmax"] = overlap(min_max_half(maps, valid), inside, valid)
    return out
