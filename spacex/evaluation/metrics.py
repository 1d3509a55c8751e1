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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]
Values = NDArray[np.float64]
Groups = NDArray[np.int64]


def sort(maps: Maps) -> Groups:
    """Number the groups of equal values of every chip, 0 for the highest: ``(n, p)``.

    The one expensive step, shared by all regions.
    """
    return np.asarray(rankdata(-maps, method="dense", axis=1), dtype=np.int64) - 1


@dataclass(frozen=True)
class Ranking:
    """Valid pixels of every chip counted from the highest map value down, group by group of equal values."""

    pixels: Values
    """Valid pixels in the first 0, 1, 2, … groups, ``(n, groups + 1)``."""
    hits: Values
    """Those among them that lie inside the region."""

    @property
    def total(self) -> Values:
        """Valid pixels, ``(n,)``."""
        return self.pixels[:, -1]

    @property
    def positives(self) -> Values:
        """Valid pixels inside the region, ``(n,)``."""
        return self.hits[:, -1]


def rank(groups: Groups, inside: Flags, valid: Flags) -> Ranking:
    """Count valid and inside pixels by the groups of :func:`sort`; pixels that do not count weigh nothing."""
    count = int(groups.max()) + 1
    # a leading 0: each curve starts before the first group, which makes its steps plain differences
    pixels, hits = (
        np.pad(_histograms(groups, counted, count).cumsum(axis=1), ((0, 0), (1, 0)))
        for counted in (valid, valid & inside)
    )
    return Ranking(pixels, hits)


def _histograms(bins: NDArray[np.int64], counted: Flags, count: int) -> Values:
    """How often each of `count` bins occurs among the counted pixels of every chip, ``(n, count)``."""
    # one histogram per chip from one call: a chip's bins are moved by its number times the number of bins
    moved = bins + np.arange(len(bins))[:, None] * count
    return np.bincount(moved[counted], minlength=len(bins) * count).reshape(len(bins), count).astype(np.float64)


def hits_at(ranking: Ranking, k: Values) -> Values:
    """Expected number of inside pixels among the `k (n,)` highest valid ones, ties shared out evenly.

    k may be fractional, and is at most the number of valid pixels.
    """
    # a group that k cuts gives the same share of its hits as of its pixels: a straight line between its ends
    return np.array([np.interp(*chip) for chip in zip(k, ranking.pixels, ranking.hits, strict=True)])


def area_matched_iou(ranking: Ranking) -> Values:
    """IoU of the region with as many of the highest pixels as the region has; no free parameter.

    With |H| = |M| = k and P the share of H inside M, IoU = P / (2 - P).
    """
    # as many pixels as the region has: a pixel missed inside is one too many outside, so precision equals recall
    share = _ratio(ranking, hits_at(ranking, ranking.positives), ranking.positives)
    return share / (2.0 - share)


def top_share(ranking: Ranking, share: float = 0.1) -> tuple[Values, Values]:
    """IoU and share inside of the highest `share` of the valid pixels."""
    k = share * ranking.total
    hits = hits_at(ranking, k)
    return _ratio(ranking, hits, k + ranking.positives - hits), _ratio(ranking, hits, k)


def auroc(ranking: Ranking) -> Values:
    """Area under the ROC curve: the chance that a pixel inside outranks one outside, ties counting half."""
    # hits over misses; a group of equals is a slanted piece of the curve, so the trapezoid counts its pairs half
    area = np.asarray(np.trapezoid(ranking.hits, ranking.pixels - ranking.hits, axis=1))
    return _ratio(ranking, area, ranking.positives * (ranking.total - ranking.positives))


def auprc(ranking: Ranking) -> Values:
    """Average precision (the step-wise area under precision over recall, as scikit-learn defines it)."""
    # every group counts by the hits that it adds, with the precision at its end; that at 0 pixels weighs nothing
    precision = ranking.hits / np.maximum(ranking.pixels, 1.0)
    area = (np.diff(ranking.hits, axis=1) * precision[:, 1:]).sum(axis=1)
    return _ratio(ranking, area, ranking.positives)


def pointing_game(ranking: Ranking) -> Values:
    """1 where the highest pixel lies inside, 0 where not; several highest share the answer; no tolerance."""
    one = np.minimum(ranking.total, 1.0)  # 0 where no pixel counts: then there is no answer
    return _divide(hits_at(ranking, one), one)


def energy(maps: Maps, inside: Flags, valid: Flags) -> Values:
    """Share of the map's total value that lies inside (relevance mass); by chance the prevalence."""
    total = np.where(valid, maps, 0.0).sum(axis=1, dtype=np.float64)
    within = np.where(valid & inside, maps, 0.0).sum(axis=1, dtype=np.float64)
    return _divide(within, total)


def overlap(high: Flags, inside: Flags, valid: Flags) -> tuple[Values, Values]:
    """IoU of two regions, and the share of the first that lies inside the second (0 for an empty first)."""
    high, region = high & valid, inside & valid
    common = (high & region).sum(axis=1)
    return _divide(common, (high | region).sum(axis=1)), common / np.maximum(high.sum(axis=1), 1)


def otsu(maps: Maps, valid: Flags, bins: int = 256) -> Flags:
    """Pixels above Otsu's threshold of each chip (Otsu 1979, `bins` equal steps from minimum to maximum)."""
    # a chip without valid pixels gets limits the wrong way round, and so no pixel above its threshold
    low = maps.min(axis=1, keepdims=True, where=valid, initial=maps.max())
    high = maps.max(axis=1, keepdims=True, where=valid, initial=maps.min())
    width = np.where(high > low, high - low, 1.0)
    steps = np.clip(((maps - low) / width * bins).astype(np.int64), 0, bins - 1)
    histogram = _histograms(steps, valid, bins)
    # The threshold lies after the step at which the variance between the two classes, w0 w1 (m0 - m1)² with their
    # weights and means, is largest. In counts n and sums s that is (s0 n - s n0)² / (n0 n1) but for a constant factor.
    below, mass = histogram.cumsum(axis=1), (histogram * (np.arange(bins) + 0.5)).cumsum(axis=1)
    total, all_mass = below[:, -1:], mass[:, -1:]
    between = np.nan_to_num(_divide((all_mass * below - mass * total) ** 2, below * (total - below)))
    return np.asarray((steps > between.argmax(axis=1, keepdims=True)) & (high > low) & valid)


def min_max_half(maps: Maps, valid: Flags) -> Flags:
    """Pixels at or above half the range of each chip, after clipping to its 1st and 99th percentile."""
    # percentiles only of chips with valid pixels; the others keep limits of 0, and nothing is above those
    scores = np.where(valid, maps, np.nan)
    some = valid.any(axis=1)
    limits = np.zeros((2, len(maps), 1))
    limits[:, some] = np.nanpercentile(scores[some], [1, 99], axis=1)[..., None]
    low, high = limits
    return np.asarray((maps >= low + (high - low) / 2) & (high > low) & valid)


def _divide(top: NDArray[Any], bottom: NDArray[Any]) -> Values:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0))


def _ratio(ranking: Ranking, top: Values, bottom: Values) -> Values:
    """The quotient, for chips with pixels inside and outside the region."""
    defined = (ranking.positives > 0) & (ranking.positives < ranking.total)
    return np.asarray(np.where(defined, _divide(top, bottom), np.nan))


def essential(ranking: Ranking) -> dict[str, Values]:
    """The two numbers every variant of a definition is compared by, and the region's prevalence."""
    prevalence = _divide(ranking.positives, ranking.total)
    return {"prevalence": prevalence, "iou": area_matched_iou(ranking), "auroc": auroc(ranking)}


def complete(maps: Maps, groups: Groups, inside: Flags, valid: Flags) -> dict[str, Values]:
    """Every number of the table for one method: name -> ``(n,)``; `groups` are those of :func:`sort`.

    `iou` and `share` are area-matched (there the share inside, precision and recall are one number); the
    suffixes `_otsu`, `_top10` and `_minmax` name the other thresholds; `auprc_over_chance` and
    `energy_over_chance` are divided by the prevalence, so 1 is chance.
    """
    ranking = rank(groups, inside, valid)
    out = essential(ranking)
    out["share"] = 2.0 * out["iou"] / (1.0 + out["iou"])
    out["auprc"], out["energy"] = auprc(ranking), energy(maps, inside, valid)
    for name in ("auprc", "energy"):
        out[f"{name}_over_chance"] = _divide(out[name], out["prevalence"])
    out["pointing"] = pointing_game(ranking)
    out["iou_otsu"], out["share_otsu"] = overlap(otsu(maps, valid), inside, valid)
    out["iou_top10"], out["share_top10"] = top_share(ranking, 0.1)
    out["iou_minmax"], out["share_minmax"] = overlap(min_max_half(maps, valid), inside, valid)
    return out
