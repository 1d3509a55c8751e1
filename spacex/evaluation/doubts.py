"""Sentences for the top of the report: where its numbers mean little, and generators that do not do their work."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from spacex.evaluation.run import Outcome
from spacex.evaluation.table import Table

FEW_PLACES = 10
"""Places below which a bootstrap interval is itself uncertain."""
LEAST_EFFECT = 0.5
"""Logits by which a generator must move the score on average to count as doing anything."""


def doubts(table: Table, outcome: Outcome, rows: pd.DataFrame, classifiers: int = 1) -> Iterator[str]:
    """What a reader must know before any figure; `rows` are those of `chips.parquet`."""
    if classifiers > 1:
        yield f"All figures are of the first of the checkpoint's {classifiers} classifiers, of which maps are drawn."
    if outcome.counterfactuals:
        yield from generator_doubts(pd.concat(outcome.counterfactuals))
    if "prevalence" in rows:
        prevalence = rows.drop_duplicates("file")["prevalence"]
        chance = float((prevalence / (2 - prevalence)).mean())
        for name, family in table.methods:
            if family == "ours" and (iou := table.cells[name, "iou", "all"].mean) < chance:
                yield f"The map “{name}” points worse than chance: IoU {iou:.3f}, by chance {chance:.3f}."
    if left_out := {reason: count for reason, count in outcome.left_out.items() if count}:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in left_out.items())
        drawn = outcome.chips + sum(left_out.values())
        yield f"{outcome.chips} of the {drawn} chips drawn are evaluated. Left out: {reasons}."
    if (places := rows["place"].nunique()) < FEW_PLACES:
        yield (
            f"The chips come from {places} place{'s' * (places != 1)}: intervals and p mean little with fewer than "
            f"{FEW_PLACES}. Evaluate more chips (--limit)."
        )


def generator_doubts(chips: pd.DataFrame) -> Iterator[str]:
    """What x+ and x− do not do, from the numbers of `counterfactual.quality` per chip."""
    fall, rise = (chips["logit"] - chips["logit_minus"]).mean(), (chips["logit_plus"] - chips["logit"]).mean()
    flipped = chips["flipped"].mean()
    if fall < LEAST_EFFECT:
        yield (
            f"The minimiser does next to nothing: x− lowers the logit by {fall:.2f} (mean change "
            f"{_mean(chips, 'minus')}). No map made from x− explains anything; train the generators again."
        )
    elif flipped < 0.5:
        yield f"x− turns the classifier's decision for only {100 * flipped:.0f} % of the chips."
    if rise < LEAST_EFFECT:
        yield (
            f"The maximiser does next to nothing on these chips: x+ raises the logit by {rise:.2f} (mean change "
            f"{_mean(chips, 'plus')}), so that |x+ − x−| is nearly |x − x−|."
        )


def _mean(chips: pd.DataFrame, sign: str) -> str:
    return f"{chips[f'l1_{sign}'].mean():.2g} of reflectance"
