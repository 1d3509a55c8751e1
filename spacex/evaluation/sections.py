"""The report's tables: every number of a run, as text cells with a title and a sentence on how to read it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from spacex.evaluation.bootstrap import Interval
from spacex.evaluation.calibration import kept
from spacex.evaluation.masks import NO_REGION
from spacex.evaluation.run import Outcome
from spacex.evaluation.table import REPETITIONS, TRUST, Table, summarise

Section = tuple[str, str, list[str], list[list[str]]]
"""Title, text, head of a table, and its rows."""


def main(table: Table, outcome: Outcome, chips: str) -> tuple[str, str, list[str], list[tuple[str, list[str]]]]:
    """The main table on `all` or `hard` chips: name, caption, head, and rows with their CSS class."""
    head = ["Method", "IoU", "AUROC", "AUPRC / prevalence", "Energy / prevalence", "Pointing", "Gap in IoU", "p",
            "Gap in AUROC", "chips/s"]  # fmt: skip
    body = []
    for name, family in table.methods:
        numbers = [table.cells[name, metric, chips] for metric in ("iou", "auroc", "auprc_lift", "energy_lift")]
        gap = table.against[name, "iou", chips]
        other = table.against[name, "auroc", chips]
        cells = [name, *map(_interval, numbers[:2]), *(_number(n.mean, 2) for n in numbers[2:])]
        cells += [_number(table.cells[name, "pointing", chips].mean, 2), _interval(gap.difference, sign=True)]
        cells += [_p(gap.p_value), _interval(other.difference, sign=True)]
        cells.append(_number(outcome.chips / max(outcome.seconds[name], 1e-9), 2))
        body.append((_css(family), cells))
    what = "All chips" if chips == "all" else "Hard chips"
    return chips, f"{what} ({table.chips[chips]})", head, body


def all_sections(table: Table, outcome: Outcome) -> list[Section]:
    """Every further section that this run has something to say in."""
    makers: list[Callable[[Table, Outcome], Section | None]] = [
        _applicability,
        _thresholds,
        _variants,
        _perturbation,
        _counterfactuals,
        _promises,
        _cascade,
        _agreement,
        _methods,
    ]
    made = (make(table, outcome) for make in makers)
    return [section for section in made if section is not None]


def _applicability(table: Table, outcome: Outcome) -> Section | None:
    if "outside" not in table.chips:
        return None
    metrics = ("iou", "auroc")
    body = [
        [name, *(_interval(table.cells[name, metric, chips]) for chips in TRUST for metric in metrics)]
        for name, _ in table.methods
    ]
    text = (
        f"{table.chips['inside']} chips lie inside the classifier's area of applicability, {table.chips['outside']} "
        "outside: their dissimilarity index (Meyer & Pebesma 2021, from the encoder's level statistics) is above the "
        "threshold that its training chips set."
    )
    head = ["Method", *(f"{metric}, {chips}" for chips in TRUST for metric in ("IoU", "AUROC"))]
    return "Inside and outside the area of applicability", text, head, body


def _thresholds(table: Table, outcome: Outcome) -> Section | None:
    if outcome.definitions[0] == NO_REGION.name:
        return None
    names = ["share", "iou_otsu", "share_otsu", "iou_top10", "share_top10", "iou_minmax", "share_minmax"]
    head = ["Method", "share, area-matched", "IoU, Otsu", "share, Otsu", "IoU, top 10 %", "share, top 10 %",
            "IoU, min-max 0.5", "share, min-max 0.5"]  # fmt: skip
    body = [[name, *(_number(table.cells[name, m, "all"].mean) for m in names)] for name, _ in table.methods]
    text = (
        "The same maps under other thresholds. “Share” is the share of the high pixels that lie inside the region, "
        "the more likely reading of the paper's number. Min-max is after clipping to the 1st and 99th percentile."
    )
    return "Other thresholds", text, head, body


def _variants(table: Table, outcome: Outcome) -> Section | None:
    shown = [name for name in outcome.definitions[1:] if f"iou@{name}" in table.metrics]
    if not shown:
        return None
    body = [
        [name, *(_number(table.cells[name, f"iou@{variant}", "all"].mean) for variant in shown)]
        for name, _ in table.methods
    ]
    text = (
        "Area-matched IoU under variants of the definition: with glaciers (335), wetlands only, without the ignore "
        "band, without the frame, and at CORINE's own 100 m."
    )
    return "Other definitions", text, ["Method", *shown], body


def _perturbation(table: Table, outcome: Outcome) -> Section | None:
    fills = [fill for fill in outcome.settings.fills if f"deletion_{fill}" in table.metrics]
    if not outcome.settings.perturbed or not fills:
        return None
    names = [f"{kind}_{fill}" for fill in fills for kind in ("deletion", "insertion")]
    body = [[name, *(_interval(table.cells[name, m, "all"]) for m in names)] for name, _ in table.methods]
    text = (
        "Area under the score while the highest pixels are taken away (deletion, low is good) or put back "
        f"(insertion, high is good), on the first {outcome.settings.perturbed} chips. Secondary: in our trials "
        "deletion ranked poor maps above the exact truth. Compare with the ceilings before drawing conclusions."
    )
    return "Insertion and deletion", text, ["Method", *names], body


def _counterfactuals(table: Table, outcome: Outcome) -> Section | None:
    if not outcome.counterfactuals:
        return None
    found = summarise(outcome.counterfactuals, REPETITIONS, outcome.settings.seed)
    body = [[QUALITIES.get(name, name), _interval(value, digits=4)] for name, value in found.items()]
    text = (
        "x+ and x− are closer to an adversarial change than to real land: x− is not “the land without its wetlands”. "
        "Monotone is the share of chips with score(x−) < score(x) < score(x+)."
    )
    return "Counterfactual quality", text, ["What", "Mean [95 %]"], body


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


def _promises(table: Table, outcome: Outcome) -> Section | None:
    if not outcome.promises:
        return None
    found = kept(outcome.promises, REPETITIONS, outcome.settings.seed)
    body = [
        [name, f"{side} x {side}", f"{correlation.chips}", _interval(correlation), _interval(slope)]
        for (name, side), (correlation, slope) in found.items()
    ]
    text = (
        "The sum of a map over a square against the fall of the logit when x− is put into that square alone. With "
        "correlation and slope 1 a pixel's number means what its unit, logits per pixel, says. “Absolute” is the map "
        "as it is published (times the number of bands), which counts what speaks against naturalness as well."
    )
    return "What a number means", text, ["Map", "Square", "Squares", "Correlation [95 %]", "Slope [95 %]"], body


def _cascade(table: Table, outcome: Outcome) -> Section | None:
    if not outcome.cascade:
        return None
    steps = pd.DataFrame([step.__dict__ for step in outcome.cascade])
    mean = steps.groupby(["layers", "layer", "method"], sort=False)[["spearman", "ssim"]].mean().reset_index()
    methods = list(dict.fromkeys(mean["method"]))
    body = []
    for (layers, layer), part in mean.groupby(["layers", "layer"], sort=True):
        at = part.set_index("method")
        cells = [f"{at.loc[m, 'spearman']:.2f} / {at.loc[m, 'ssim']:.2f}" for m in methods]
        body.append([f"{layers} (down to {layer})", *cells])
    text = (
        "Rank correlation / structural similarity with the trained classifier's map after the classifier's last layers "
        "were drawn anew. Near 0 is right; brightness stays at 1 by nature, and so does |x+ − x−|, whose generators "
        "do not change. The lift and path maps keep the outline of |x − x−|. What generators trained against a random "
        "classifier draw is a control run of its own."
    )
    return "Sanity: random layers", text, ["Layers drawn anew", *methods], body


def _agreement(table: Table, outcome: Outcome) -> Section | None:
    if not outcome.agreement:
        return None
    found = summarise(outcome.agreement, REPETITIONS, outcome.settings.seed)
    body = [[name, _interval(value)] for name, value in found.items()]
    text = "Rank correlation of the maps of two generator pairs trained from different seeds; 0.8 is wanted."
    return "Sanity: two seeds", text, ["Map", "Mean [95 %]"], body


def _methods(table: Table, outcome: Outcome) -> Section:
    body = [[name, family, outcome.about.get(name, "")] for name, family in table.methods]
    return "The methods", "Attributions explain the logit, not its sigmoid.", ["Method", "Kind", "What"], body


def _css(family: str) -> str:
    return {"ours": "ours", "ceiling": "ceiling"}.get(family, "")


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(value: Interval, digits: int = 3, sign: bool = False) -> str:
    if math.isnan(value.mean):
        return "–"
    plus = "+" if sign else ""
    if math.isnan(value.low):
        return f"{value.mean:{plus}.{digits}f}"
    return f"{value.mean:{plus}.{digits}f} [{value.low:{plus}.{digits}f}, {value.high:{plus}.{digits}f}]"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
