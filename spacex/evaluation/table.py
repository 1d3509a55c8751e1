"""The table of an evaluation: means over chips with intervals by place, and every method against a reference method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spacex.bootstrap import Comparison, Interval, compare, draw, interval

SETS = ("all", "hard")
"""Chips as they come, and those on which brightness says little (AUROC < 0.85)."""

APPLICABILITY = ("inside", "outside")
"""Chips inside the classifier's area of applicability and outside of it, where the checkpoint knows."""

COMPARED = ("iou", "auroc")
"""Metrics in which methods are compared chip by chip."""

REPETITIONS = 2000
"""Of the bootstrap."""

_FACTS = {"method", "family", "file", "place", "score", "hard", "brightness_auroc", "dissimilarity"}


@dataclass(frozen=True)
class Table:
    """Everything the report prints."""

    methods: list[tuple[str, str]]
    """Name and family, in the order they ran."""
    metrics: list[str]
    cells: dict[tuple[str, str, str], Interval]
    """(method, metric, set) -> mean and interval."""
    against: dict[tuple[str, str, str], Comparison]
    """(method, metric, set) -> the reference minus this method, for `COMPARED`."""
    reference: str
    """The method the others are compared with."""
    chips: dict[str, int]
    """Chips per set."""

    def frame(self) -> pd.DataFrame:
        """One row per method, its name first; `hard_` columns are the hard chips, `_low`/`_high` 95 %."""
        rows = []
        for name, family in self.methods:
            row: dict[str, object] = {"method": name, "family": family}
            for chips, prefix in zip(SETS, ("", "hard_"), strict=True):
                row[f"{prefix}chips"] = self.cells[name, "iou", chips].chips
                for metric in self.metrics:
                    cell, column = self.cells[name, metric, chips], f"{prefix}{metric}"
                    row |= {column: cell.mean, f"{column}_low": cell.low, f"{column}_high": cell.high}
                for metric in COMPARED:
                    test, column = self.against[name, metric, chips], f"{prefix}{metric}"
                    gap, versus = test.difference, f"{column}_ours_minus_this"
                    row |= {versus: gap.mean, f"{versus}_low": gap.low, f"{versus}_high": gap.high}
                    row |= {f"{column}_p": test.p_value, f"{column}_ours_wins": test.wins}
            rows.append(row)
        return pd.DataFrame(rows)


def make_table(rows: pd.DataFrame, reference: str = "lift", repetitions: int = REPETITIONS, seed: int = 0) -> Table:
    """Turn the rows of `chips.parquet`, one per chip and method, into the table.

    The others are compared with the method `reference`, or with the first one if it did not run.
    """
    methods = list(rows[["method", "family"]].drop_duplicates().itertuples(index=False, name=None))
    names = [name for name, _ in methods]
    reference = reference if reference in names else names[0]
    metrics = [column for column in rows.columns if column not in _FACTS]
    wide = {name: part.set_index("file") for name, part in rows.groupby("method", sort=False)}
    cells: dict[tuple[str, str, str], Interval] = {}
    against: dict[tuple[str, str, str], Comparison] = {}
    counts = {}
    known = "dissimilarity" in rows and bool(rows["dissimilarity"].notna().any())
    for chips in (*SETS, *(APPLICABILITY if known else ())):
        files = _files(wide[reference], chips)
        # ordinary pictures have no region and no IoU: then all count
        counts[chips] = int(wide[reference].loc[files, "iou"].notna().sum()) or len(files)
        draws = draw(wide[reference].loc[files, "place"].tolist() or ["none"], repetitions, seed)
        for name in names:
            part = wide[name].loc[files]
            for metric in metrics:
                cells[name, metric, chips] = interval(part[metric].to_numpy(np.float64), draws)
            for metric in COMPARED:
                values = wide[reference].loc[files, metric].to_numpy(np.float64)
                against[name, metric, chips] = compare(values, part[metric].to_numpy(np.float64), draws)
    return Table(methods, metrics, cells, against, reference, counts)


def _files(part: pd.DataFrame, chips: str) -> list[str]:
    if chips in APPLICABILITY:
        return list(part.index[(part["dissimilarity"] > 1) == (chips == "outside")])
    return list(part.index[part["hard"]] if chips == "hard" else part.index)


def summarise(frames: Sequence[pd.DataFrame], repetitions: int = REPETITIONS, seed: int = 0) -> dict[str, Interval]:
    """Means with intervals by place of per-chip numbers (column `place`), e.g. the counterfactuals'."""
    if not frames:
        return {}
    table = pd.concat(frames, ignore_index=True)
    draws = draw(table["place"].tolist(), repetitions, seed)
    return {
        name: interval(table[name].to_numpy(np.float64), draws)
        for name in table.columns
        if name not in ("file", "place")
    }
