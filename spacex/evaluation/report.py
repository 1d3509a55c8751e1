"""Writes `report/`: the table as CSV, the figures as PNG, and one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from spacex.checkpoint import Checkpoint
from spacex.evaluation import figures, report_tables
from spacex.evaluation.doubts import doubts
from spacex.evaluation.gallery import Picture
from spacex.evaluation.pages import render
from spacex.evaluation.rows import HARD_BELOW
from spacex.evaluation.run import Outcome
from spacex.evaluation.table import REPETITIONS, Table, make_table

Drawn = tuple[str, str, bytes]
"""Name, caption and PNG of a figure."""


def write_report(
    output: Path, data: str, checkpoint: Checkpoint, outcome: Outcome, pictures: Sequence[Picture]
) -> Table:
    """Write `table.csv`, figures of some chips, and `index.html` into the folder that has `chips.parquet` already.

    `data` names the data set on which the checkpoint was evaluated.
    """
    rows = pd.read_parquet(output / "chips.parquet")
    table = make_table(rows, repetitions=REPETITIONS, seed=outcome.settings.seed)
    frame = table.frame()
    frame["chips_per_second"] = [outcome.chips / max(outcome.seconds[m], 1e-9) for m in frame["method"]]
    frame.to_csv(output / "table.csv", index=False, float_format="%.6g")
    drawn = list(draw_figures(pictures)) if pictures else []
    for name, _, png in drawn:
        (output / f"{name.lower().replace(' ', '-')}.png").write_bytes(png)
    render(
        output / "index.html",
        "report.html.j2",
        data=data,
        checkpoint=checkpoint,
        outcome=outcome,
        table=table,
        hard_below=HARD_BELOW,
        repetitions=REPETITIONS,
        places=rows["place"].nunique(),
        doubts=list(doubts(table, outcome, rows, 1 + len(checkpoint.further))),
        short=report_tables.short_table(table),
        main=[report_tables.main_table(table, outcome, chips) for chips in ("all", "hard")],
        tables=dict(report_tables.further_tables(table, outcome)),
        figures=drawn,
    )
    return table


def draw_figures(pictures: Sequence[Picture]) -> Iterator[Drawn]:
    """Every figure that these pictures allow, numbered as in the paper: x− first, since no map is better than it."""
    pictures = sorted(pictures, key=lambda picture: picture.hard)
    note = "Chips as the seeded draw gave them, and the first hard ones. One colour scale per method for all chips."
    score = "Numbers in the pictures are the classifier's scores."
    if pictures[0].x_minus is not None:
        look = "Does x− remove a pattern, or add something new? If it adds, trust no map that is made from it."
        changes = "On the right what changes, enlarged, in the colours shown; grey is no change."
        triples = f"Chips, maximised and minimised. {look} {changes} {score}"
        yield "Figure 3", triples, figures.png(figures.triples(pictures))
        flow = f"One chip, its counterfactuals, and its maps laid over it. {note}"
        yield "Figure 1", flow, figures.png(figures.flow(pictures[0], pictures))
    methods = figures.png(figures.side_by_side(pictures))
    yield "Figure 4", f"Methods side by side, the region outlined. {note}", methods
    for name, method in (("Figure 5", "lift"), ("Figure 5b", "attribution")):
        if method in pictures[0].maps:
            caption = f"Chips, and below them their maps laid over them ({figures.LABELS[method]}). {score} {note}"
            yield name, caption, figures.png(figures.inputs_over_maps(pictures, method))
