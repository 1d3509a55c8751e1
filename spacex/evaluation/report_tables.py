"""The tables of the report: every number of a run as text cells. Titles and explanations are in `report.html.j2`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd

from spacex.bootstrap import Interval
from spacex.evaluation.calibration import unit_calibration
from spacex.evaluation.doubts import FEW_PLACES
from spacex.evaluation.figures import LABELS
from spacex.evaluation.masks import NO_REGION
from spacex.evaluation.run import Outcome
from spacex.evaluation.table import APPLICABILITY, REPETITIONS, Table, summarise

MainTable = tuple[str, list[str], list[tuple[str, list[str]]]]
"""Caption, head, and rows with their CSS class."""
PlainTable = tuple[list[str], list[list[str]]]
"""Head and rows."""
THRESHOLDS = {
    "share": "share, area-matched",
    "iou_otsu": "IoU, Otsu",
    "share_otsu": "share, Otsu",
    "iou_top10": "IoU, top 10 %",
    "share_top10": "share, top 10 %",
    "iou_minmax": "IoU, min-max 0.5",
    "share_minmax": "share, min-max 0.5",
}
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


def short_table(table: Table) -> MainTable:
    """The methods that figure 4 shows, and chance, by the two numbers that need no explanation."""
    head = ["Method", "IoU", "AUROC", f"{table.reference} − this, IoU"]
    body = []
    for name, family in table.methods:
        if name in (*LABELS, "chance"):
            gap = table.against[name, "iou", "all"].difference
            cells = [_interval(table.cells[name, metric, "all"]) for metric in ("iou", "auroc")]
            body.append((family, [name, *cells, "" if name == table.reference else _interval(gap, sign=True)]))
    return f"All chips ({table.chips['all']})", head, [("ours" if f == "ours" else "", cells) for f, cells in body]


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
    places = table.cells[table.reference, "iou", chips].places
    few = ": too few for an interval to mean much" if places < FEW_PLACES else ""
    return f"{'All' if chips == 'all' else 'Hard'} chips ({table.chips[chips]}, of {places} places{few})", head, body


def further_tables(table: Table, outcome: Outcome) -> Iterator[tuple[str, PlainTable]]:
    """Every further table for which this run has numbers, by the name that the template knows it by."""
    if "outside" in table.chips:
        columns = [(metric, chips) for chips in APPLICABILITY for metric in ("IoU", "AUROC")]
        cells = [(metric.lower(), chips) for metric, chips in columns]
        yield "applicability", _by_method(table, [f"{m}, {chips}" for m, chips in columns], cells, _interval)
    if outcome.definitions[0] != NO_REGION.name:
        yield "thresholds", _by_method(table, THRESHOLDS.values(), [(m, "all") for m in THRESHOLDS], _mean)
    if variants := [name for name in outcome.definitions[1:] if f"iou@{name}" in table.metrics]:
        yield "variants", _by_method(table, variants, [(f"iou@{name}", "all") for name in variants], _mean)
    fills = [fill for fill in outcome.settings.fills if f"deletion_{fill}" in table.metrics]
    if outcome.settings.perturbed and fills:
        names = [f"{kind}_{fill}" for fill in fills for kind in ("deletion", "insertion")]
        yield "perturbation", _by_method(table, names, [(name, "all") for name in names], _interval)
    if outcome.counterfactuals:
        means = summarise(outcome.counterfactuals, REPETITIONS, outcome.settings.seed)
        body = [[QUALITIES.get(name, name), _interval(value, digits=4)] for name, value in means.items()]
        yield "counterfactuals", (["What", "Mean [95 %]"], body)
    if outcome.squares:
        yield "calibration", _calibration(outcome)
    if outcome.randomised:
        yield "randomised", _randomised(outcome)
    if outcome.agreement:
        means = summarise(outcome.agreement, REPETITIONS, outcome.settings.seed)
        yield "agreement", (["Map", "Mean [95 %]"], [[name, _interval(value)] for name, value in means.items()])
    methods = [[name, family, outcome.about.get(name, "")] for name, family in table.methods]
    yield "methods", (["Method", "Kind", "What"], methods)


def _by_method(
    table: Table, head: Iterable[str], cells: Sequence[tuple[str, str]], text: Callable[[Interval], str]
) -> PlainTable:
    """A row per method with some of its cells, (metric, set), as text."""
    body = [[name, *(text(table.cells[name, metric, chips]) for metric, chips in cells)] for name, _ in table.methods]
    return ["Method", *head], body


def _calibration(outcome: Outcome) -> PlainTable:
    numbers = unit_calibration(outcome.squares, REPETITIONS, outcome.settings.seed)
    body = [
        [name, f"{side} x {side}", f"{correlation.chips}", _interval(correlation), _interval(slope)]
        for (name, side), (correlation, slope) in numbers.items()
    ]
    return ["Map", "Square", "Squares", "Correlation [95 %]", "Slope [95 %]"], body


def _randomised(outcome: Outcome) -> PlainTable:
    steps = pd.DataFrame(outcome.randomised)
    mean = steps.groupby(["layers", "layer", "method"], sort=False)[["spearman", "ssim"]].mean().reset_index()
    methods = list(dict.fromkeys(mean["method"]))
    body = []
    for (layers, layer), part in mean.groupby(["layers", "layer"], sort=True):
        at = part.set_index("method")
        cells = [f"{at.loc[m, 'spearman']:.2f} / {at.loc[m, 'ssim']:.2f}" for m in methods]
        body.append([f"{layers} (down to {layer})", *cells])
    return ["Layers randomised", *methods], body


def _mean(value: Interval) -> str:
    return _number(value.mean)


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(value: Interval, digits: int = 3, sign: bool = False) -> str:
    if math.isnan(value.mean):
        return "–"
    plus = "+" if sign else ""
    if math.isnan(value.low):
        return f"{value.mean:{plus}.{digits}f}"
    # no-break spaces: a narrow column breaks between mean and interval alone
    return f"{value.mean:{plus}.{digits}f} [{value.low:{plus}.{digits}f},\u00a0{value.high:{plus}.{digits}f}]"
