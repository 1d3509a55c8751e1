"""The tables of the report: every number of a run, as text cells with a title and a sentence on how to read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from spacex.evaluation.bootstrap import Interval
from spacex.evaluation.calibration import unit_calibration
from spacex.evaluation.masks import NO_REGION
from spacex.evaluation.run import Outcome
from spacex.evaluation.table import APPLICABILITY, REPETITIONS, Table, summarise

MainTable = tuple[str, str, list[str], list[tuple[str, list[str]]]]
"""Name, caption, head, and rows with their CSS class."""


class Section(NamedTuple):
    """A further table with its title and the text above it."""

    title: str
    text: str
    head: list[str]
    rows: list[list[str]]


def main_table(table: Table, outcome: Outcome, chips: str) -> MainTable:
    """The main table on `all` or `hard` chips."""
    head = ["Method", "IoU", "AUROC", "AUPRC / prevalence", "Energy / prevalence", "Pointing", "Gap in IoU", "p",
            "Gap in AUROC", "chips/s"]  # fmt: skip
    body = []
    for name, family in table.methods:
        metrics = ("iou", "auroc", "auprc_over_chance", "energy_over_chance", "pointing")
        iou, auroc, auprc, energy, pointing = (table.cells[name, metric, chips] for metric in metrics)
        gap, other = (table.against[name, metric, chips] for metric in ("iou", "auroc"))
        p = "–" if math.isnan(gap.p_value) else "< 0.001" if gap.p_value < 0.001 else f"{gap.p_value:.3f}"
        cells = [name, _interval(iou), _interval(auroc), *(_number(v.mean, 2) for v in (auprc, energy, pointing))]
        cells += [_interval(gap.difference, sign=True), p, _interval(other.difference, sign=True)]
        cells.append(_number(outcome.chips / max(outcome.seconds[name], 1e-9), 2))
        body.append(({"ours": "ours", "upper bound": "bound"}.get(family, ""), cells))
    return chips, f"{'All' if chips == 'all' else 'Hard'} chips ({table.chips[chips]})", head, body


def all_sections(table: Table, outcome: Outcome) -> Iterator[Section]:
    """Every further table for which this run has numbers."""
    if "outside" in table.chips:
        yield _applicability(table)
    if outcome.definitions[0] != NO_REGION.name:
        yield _thresholds(table)
    if variants := [name for name in outcome.definitions[1:] if f"iou@{name}" in table.metrics]:
        yield _variants(table, variants)
    fills = [fill for fill in outcome.settings.fills if f"deletion_{fill}" in table.metrics]
    if outcome.settings.perturbed and fills:
        yield _perturbation(table, fills, outcome.settings.perturbed)
    if outcome.counterfactuals:
        yield _counterfactuals(outcome)
    if outcome.squares:
        yield _unit_calibration(outcome)
    if outcome.randomised:
        yield _randomised(outcome)
    if outcome.agreement:
        yield _agreement(outcome)
    methods = [[name, family, outcome.about.get(name, "")] for name, family in table.methods]
    yield Section(
        "The methods", "Attributions explain the logit, not its sigmoid.", ["Method", "Kind", "What"], methods
    )


def _applicability(table: Table) -> Section:
    metrics = ("iou", "auroc")
    body = [
        [name, *(_interval(table.cells[name, metric, chips]) for chips in APPLICABILITY for metric in metrics)]
        for name, _ in table.methods
    ]
    text = (
        f"{table.chips['inside']} chips lie inside the classifier's area of applicability, {table.chips['outside']} "
        "outside: their dissimilarity index (Meyer & Pebesma 2021, from the encoder's level statistics) is above the "
        "threshold that its training chips set."
    )
    head = ["Method", *(f"{metric}, {chips}" for chips in APPLICABILITY for metric in ("IoU", "AUROC"))]
    return Section("Inside and outside the area of applicability", text, head, body)


def _thresholds(table: Table) -> Section:
    names = ["share", "iou_otsu", "share_otsu", "iou_top10", "share_top10", "iou_minmax", "share_minmax"]
    head = ["Method", "share, area-matched", "IoU, Otsu", "share, Otsu", "IoU, top 10 %", "share, top 10 %",
            "IoU, min-max 0.5", "share, min-max 0.5"]  # fmt: skip
    body = [[name, *(_number(table.cells[name, m, "all"].mean) for m in names)] for name, _ in table.methods]
    text = (
        "The same maps under other thresholds. “Share” is the share of the high pixels that lie inside the region, "
        "the more likely reading of the paper's number. Min-max is after clipping to the 1st and 99th percentile."
    )
    return Section("Other thresholds", text, head, body)


def _variants(table: Table, variants: list[str]) -> Section:
    body = [
        [name, *(_number(table.cells[name, f"iou@{variant}", "all"].mean) for variant in variants)]
        for name, _ in table.methods
    ]
    text = (
        "Area-matched IoU under variants of the definition: with glaciers (335), wetlands only, without the ignore "
        "band, without the frame, and at CORINE's own 100 m."
    )
    return Section("Other definitions", text, ["Method", *variants], body)


def _perturbation(table: Table, fills: Sequence[str], chips: int) -> Section:
    names = [f"{kind}_{fill}" for fill in fills for kind in ("deletion", "insertion")]
    body = [[name, *(_interval(table.cells[name, m, "all"]) for m in names)] for name, _ in table.methods]
    text = (
        "Area under the score while the highest pixels are taken away (deletion, low is good) or put back "
        f"(insertion, high is good), on the first {chips} chips. Secondary: on the embedded world "
        "deletion ranked poor maps above the exact truth. Compare with the upper bounds before drawing conclusions."
    )
    return Section("Insertion and deletion", text, ["Method", *names], body)


def _counterfactuals(outcome: Outcome) -> Section:
    means = summarise(outcome.counterfactuals, REPETITIONS, outcome.settings.seed)
    body = [[QUALITIES.get(name, name), _interval(value, digits=4)] for name, value in means.items()]
    text = (
        "x+ and x− are closer to an adversarial change than to real land: x− is not “the land without its wetlands”. "
        "Monotone is the share of chips with score(x−) < score(x) < score(x+)."
    )
    return Section("Counterfactual quality", text, ["What", "Mean [95 %]"], body)


QUALITIES = {
    "logit": "logit of x",
    "logit_plus": "logit of x+",
    "logit_minus": "logit of x−",
    "monotone": "share monotone",
    "flipped": "share of x− no longer natural",
    "second_flipped": "share of x− no longer natural to a second classifier",
    "second_logit": "second classifier's logit of x",
    "second_plus": "second classifier's logit of x+",
    "second_minus": "second classifier's logit of x−",
} | {
    f"{key}_{sign}": f"{what} ({'x+' if sign == 'plus' else 'x−'})"
    for sign in ("plus", "minus")
    for key, what in {
        "l1": "mean change, reflectance",
        "linf": "largest change, reflectance",
        "changed": "share of pixels changed by more than 0.005",
        "outside": "share of values outside 0..1",
        "checkerboard": "checkerboard (1 is none)",
        "border": "change at the border over inside (1 is none)",
        "cycle": "cycle error, reflectance",
    }.items()
}


def _unit_calibration(outcome: Outcome) -> Section:
    body = [
        [name, f"{side} x {side}", f"{correlation.chips}", _interval(correlation), _interval(slope)]
        for (name, side), (correlation, slope) in unit_calibration(
            outcome.squares, REPETITIONS, outcome.settings.seed
        ).items()
    ]
    text = (
        "The sum of a map over a square against the fall of the logit when x− is put into that square alone. With "
        "correlation and slope 1 a pixel's number means what its unit, logits per pixel, says. “Absolute” is the map "
        "as it is published (times the number of bands), which counts evidence against naturalness as well."
    )
    return Section(
        "What a number means", text, ["Map", "Square", "Squares", "Correlation [95 %]", "Slope [95 %]"], body
    )


def _randomised(outcome: Outcome) -> Section:
    steps = pd.DataFrame([step.__dict__ for step in outcome.randomised])
    mean = steps.groupby(["layers", "layer", "method"], sort=False)[["spearman", "ssim"]].mean().reset_index()
    methods = list(dict.fromkeys(mean["method"]))
    body = []
    for (layers, layer), part in mean.groupby(["layers", "layer"], sort=True):
        at = part.set_index("method")
        cells = [f"{at.loc[m, 'spearman']:.2f} / {at.loc[m, 'ssim']:.2f}" for m in methods]
        body.append([f"{layers} (down to {layer})", *cells])
    text = (
        "Rank correlation / structural similarity with the trained classifier's map after the classifier's last layers "
        "were randomised. Near 0 is right; brightness stays at 1 by nature, and so does |x+ − x−|, whose generators "
        "do not change. The lift and path maps keep the outline of |x − x−|. What generators trained against a random "
        "classifier draw is a control run of its own."
    )
    return Section("Sanity: random layers", text, ["Layers randomised", *methods], body)


def _agreement(outcome: Outcome) -> Section:
    means = summarise(outcome.agreement, REPETITIONS, outcome.settings.seed)
    text = "Rank correlation of the maps of two generator pairs trained from different seeds; 0.8 is wanted."
    body = [[name, _interval(value)] for name, value in means.items()]
    return Section("Sanity: two seeds", text, ["Map", "Mean [95 %]"], body)


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(value: Interval, digits: int = 3, sign: bool = False) -> str:
    if math.isnan(value.mean):
        return "–"
    plus = "+" if sign else ""
    if math.isnan(value.low):
        return f"{value.mean:{plus}.{digits}f}"
    return f"{value.mean:{plus}.{digits}f} [{value.low:{plus}.{digits}f}, {value.high:{plus}.{digits}f}]"
