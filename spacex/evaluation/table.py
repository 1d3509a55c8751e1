"""The table: means over chips with intervals by place, and every method against ours on the same chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.evaluation.bootstrap import ClusterBootstrap, Comparison, Interval, compare, draw, interval

SETS = ("all", "hard")
"""Chips as they come, and those on which brightness says little (AUROC < 0.85)."""

TRUST = ("inside", "outside")
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
    """(method, metric, set) -> ours minus this method, for `COMPARED`."""
    ours: str
    """The method the others are compared with."""
    chips: dict[str, int]
    """Chips per set."""

    def frame(self) -> pd.DataFrame:
        """One row per method, its name first; `hard_` columns are the hard chips, `_low`/`_high` 95 %."""
        return pd.DataFrame([self._row(name, family) for name, family in self.methods])

    def _row(self, name: str, family: str) -> dict[str, object]:
        row: dict[str, object] = {"method": name, "family": family}
        for chips in SETS:
            prefix = "" if chips == "all" else "hard_"
            row[f"{prefix}chips"] = self.cells[name, "iou", chips].chips
            for metric in self.metrics:
                cell = self.cells[name, metric, chips]
                row[f"{prefix}{metric}"] = cell.mean
                row[f"{prefix}{metric}_low"], row[f"{prefix}{metric}_high"] = cell.low, cell.high
            for metric in COMPARED:
                row |= _gap(f"{prefix}{metric}", self.against[name, metric, chips])
        return row


def _gap(prefix: str, test: Comparison) -> dict[str, object]:
    gap = test.difference
    values = (gap.mean, gap.low, gap.high, test.p_value, test.wins)
    names = ("ours_minus_this", "ours_minus_this_low", "ours_minus_this_high", "p", "ours_wins")
    return {f"{prefix}_{name}": value for name, value in zip(names, values, strict=True)}


def make_table(rows: pd.DataFrame, ours: str = "lift", repetitions: int = REPETITIONS, seed: int = 0) -> Table:
    """Turn the rows of `chips.parquet` into the table.

    Args:
        rows: a row per chip and method.
        ours: the method the others are compared with; the first one if it did not run.
        repetitions: of the bootstrap.
        seed: of the bootstrap.
    """
    methods = list(rows[["method", "family"]].drop_duplicates().itertuples(index=False, name=None))
    names = [name for name, _ in methods]
    ours = ours if ours in names else names[0]
    metrics = [column for column in rows.columns if column not in _FACTS]
    wide = {name: part.set_index("file") for name, part in rows.groupby("method", sort=False)}
    cells: dict[tuple[str, str, str], Interval] = {}
    against: dict[tuple[str, str, str], Comparison] = {}
    counts = {}
    for chips in (*SETS, *(TRUST if _known(rows) else ())):
        files = _files(wide[ours], chips)
        # ordinary pictures have no region and no IoU: then all count
        counts[chips] = int(wide[ours].loc[files, "iou"].notna().sum()) or len(files)
        draws = draw(wide[ours].loc[files, "place"].tolist() or ["none"], repetitions, seed)
        for name in names:
            part = wide[name].loc[files]
            for metric in metrics:
                cells[name, metric, chips] = _interval(part[metric], draws)
            for metric in COMPARED:
                against[name, metric, chips] = _compare(wide[ours].loc[files, metric], part[metric], draws)
    return Table(methods, metrics, cells, against, ours, counts)


def _known(rows: pd.DataFrame) -> bool:
    return "dissimilarity" in rows and bool(rows["dissimilarity"].notna().any())


def _files(part: pd.DataFrame, chips: str) -> list[str]:
    if chips in TRUST:
        return list(part.index[(part["dissimilarity"] > 1) == (chips == "outside")])
    return list(part.index[part["hard"]] if chips == "hard" else part.index)


def _values(column: pd.Series) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(dtype=np.float64))


def _interval(column: pd.Series, draws: ClusterBootstrap) -> Interval:
    if column.empty:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    return interval(_values(column), draws)


def _compare(ours: pd.Series, other: pd.Series, draws: ClusterBootstrap) -> Comparison:
    if ours.empty:
        return Comparison(Interval(np.nan, np.nan, np.nan, 0, 0), np.nan, np.nan)
    return compare(_values(ours), _values(other), draws)


def summarise(frames: Sequence[pd.DataFrame], repetitions: int = REPETITIONS, seed: int = 0) -> dict[str, Interval]:
    """Means with intervals by place of per-chip numbers (column `place`), e.g. the counterfactuals'."""
    if not frames:
        return {}
    table = pd.concat(frames, ignore_index=True)
    draws = draw(table["place"].tolist(), repetitions, seed)
    numbers = [name for name in table.columns if name not in ("file", "place")]
    return {name: _interval(table[name], draws) for name in numbers}
