"""The report of the planted-shortcut experiment: `shortcut.csv`, a figure, and one HTML page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from spacex.evaluation.figures import png
from spacex.evaluation.pages import write_page

_SHOWN = ["variant", "method", "share_used", "share_ignored", "density_used", "density_ignored", "iou_used",
          "iou_ignored", "auroc_used", "auroc_ignored"]  # fmt: skip


def write_shortcut(output: Path, table: pd.DataFrame, use: dict[str, float], chips: int, about: str) -> None:
    """Write the report.

    Args:
        output: folder; it must exist.
        table: a row per trained variant and method, from `shortcut.measure`.
        use: what the classifier uses, from `shortcut.usage`.
        chips: test chips that carry both patterns.
        about: a sentence on the settings.
    """
    table.to_csv(output / "shortcut.csv", index=False, float_format="%.6g")
    picture = png(bars(table))
    (output / "shortcut.png").write_bytes(picture)
    texts = (
        "Two patterns go with the label in the chips the generators learned on: mire and bare fell, and planted "
        "reddish knolls. Only the classifier says which of them matters.",
        f"On {chips} test chips with both, taking mire and fell away moves the classifier's logit by "
        f"{use['used']:.2f} on average ({use['used_flips']:.0%} of the natural ones flip); taking the knolls away "
        f"moves it by {use['ignored']:.2f} ({use['ignored_flips']:.0%} flip). Mean logit {use['logit']:.2f}; "
        f"{use['natural']:.0%} of these chips are taken for natural.",
        "Density is the map's mean on a pattern over its mean elsewhere: 1 is background. A map that is faithful "
        "to this classifier is dense on the used pattern and not on the ignored one. `class-difference` "
        "is the control that should fail; with λ_AM = 0 (class-difference-0) it does not even know the classifier.",
        about,
    )
    write_page(
        output / "index.html",
        "Planted shortcut: faithful to the classifier, or to the class?",
        texts,
        [("Where the maps lie", table[_SHOWN])],
        [("Density of each map on the pattern the classifier uses and on the one it ignores.", picture)],
    )


def bars(table: pd.DataFrame) -> Figure:
    """Density on both patterns per variant and method, with 95 % intervals, on a logarithmic scale."""
    figure = Figure(figsize=(8, 0.36 * len(table) + 1.1), layout="constrained")
    axes = figure.subplots()
    part = table.iloc[::-1]
    labels = [f"{method}  ({variant})" for variant, method in zip(part["variant"], part["method"], strict=True)]
    for name, colour, mark in (("used", "#21677e", "o"), ("ignored", "#d95f02", "s")):
        middle = part[f"density_{name}"].clip(lower=0.02)
        low, high = (part[f"density_{name}_{edge}"].clip(lower=0.02) for edge in ("low", "high"))
        axes.hlines(labels, low, high, color=colour, linewidth=2, alpha=0.6)
        axes.plot(middle, labels, mark, color=colour, label=f"on the pattern it {_VERBS[name]}")
    axes.axvline(1, color="0.6", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("density over background (values below 0.02 are drawn at 0.02)")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


_VERBS = {"used": "uses", "ignored": "ignores"}
