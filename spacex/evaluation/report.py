"""`report/`: the table as CSV, the figures as PNG, and one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from spacex.checkpoint import Checkpoint
from spacex.evaluation import figures, sections
from spacex.evaluation.gallery import Picture
from spacex.evaluation.pages import embedded, render
from spacex.evaluation.rows import HARD_BELOW
from spacex.evaluation.run import Outcome
from spacex.evaluation.table import REPETITIONS, Table, make_table


@dataclass(frozen=True)
class Subject:
    """What was evaluated, in words."""

    data: str
    checkpoint: Checkpoint


def write_report(output: Path, subject: Subject, outcome: Outcome, pictures: Sequence[Picture]) -> Table:
    """Write `table.csv`, the figures, and `index.html` beside the `chips.parquet` that is already there.

    Args:
        output: the folder of the report.
        subject: data and checkpoint.
        outcome: what the run left behind.
        pictures: chips to draw.
    """
    rows = pd.read_parquet(output / "chips.parquet")
    table = make_table(rows, repetitions=REPETITIONS, seed=outcome.settings.seed)
    frame = table.frame()
    frame["chips_per_second"] = [outcome.chips / max(outcome.seconds[m], 1e-9) for m in frame["method"]]
    frame.to_csv(output / "table.csv", index=False, float_format="%.6g")
    drawn = [(name, caption, png) for name, caption, png in draw_figures(pictures)]
    for name, _, png in drawn:
        (output / f"{name.lower().replace(' ', '-')}.png").write_bytes(png)
    (output / "index.html").write_text(_html(subject, outcome, table, rows, drawn), encoding="utf-8")
    return table


def draw_figures(pictures: Sequence[Picture]) -> list[tuple[str, str, bytes]]:
    """Name, caption and PNG of every figure that these pictures allow."""
    if not pictures:
        return []
    note = "Chips as the seeded draw gave them, and the first hard ones. One colour scale per method for all chips."
    score = "Numbers in the pictures are the classifier's scores."
    out: list[tuple[str, str, Figure]] = []
    if pictures[0].x_minus is not None:
        out.append(
            ("Figure 1", f"One chip, its counterfactuals and its maps. {note}", figures.flow(pictures[0], pictures))
        )
        out.append(("Figure 3", f"Chips, maximised and minimised. {score}", figures.triples(pictures)))
    out.append(("Figure 4", f"Methods side by side, the region outlined. {note}", figures.side_by_side(pictures)))
    for name, method in (("Figure 5", "lift"), ("Figure 5b", "attribution")):
        if method in pictures[0].maps:
            caption = f"Chips over their maps ({figures.LABELS[method]}). {score} {note}"
            out.append((name, caption, figures.inputs_over_maps(pictures, method)))
    return [(name, caption, figures.png(figure)) for name, caption, figure in out]


def _html(
    subject: Subject, outcome: Outcome, table: Table, rows: pd.DataFrame, drawn: list[tuple[str, str, bytes]]
) -> str:
    card = subject.checkpoint.card
    return render(
        "report.html.j2",
        data=subject.data,
        split=outcome.settings.split,
        checkpoint=subject.checkpoint.uri,
        bands=", ".join(card.bands),
        preset=card.preset or "not named",
        digest=subject.checkpoint.digest,
        chips=outcome.chips,
        hard=table.chips["hard"],
        hard_below=HARD_BELOW,
        left_out={reason: count for reason, count in outcome.left_out.items() if count},
        seed=outcome.settings.seed,
        wall=_duration(outcome.wall),
        primary=outcome.definitions[0],
        repetitions=REPETITIONS,
        places=rows["place"].nunique(),
        ours=table.ours,
        main=[sections.main(table, outcome, "all"), sections.main(table, outcome, "hard")],
        sections=sections.all_sections(table, outcome),
        figures=[(name, caption, embedded(data)) for name, caption, data in drawn],
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
