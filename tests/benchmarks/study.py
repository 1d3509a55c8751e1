"""Three classifiers in two countries: does what the README says of one classifier's maps hold of all six?

    python tests/benchmarks/study.py --output runs/study --workers 2 --precision bfloat16  # 2.5 hours of two threads
    python tests/benchmarks/study.py --output runs/study --gpu --workers 6                 # on a CUDA device

In each country (the embedded one, and one of other densities and colours) a data set of the shipped size is painted,
and three classifiers are trained on it: the shipped one's recipe under two seeds, and a network twice as wide. Each
gets its maximiser and minimiser by the `delta` preset, and is evaluated on its country's own test split, which nothing
is chosen on, with the next classifier of the country as the second opinion. On 160 chips with knolls planted at random
the knolls' share of the map is compared with their share of the classifier's logit. A stopped run goes on training.

Prints a table, and writes `study.csv` and `study.png`.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from faithfulness import knolls, learn, measured, options, painted, single_process
from matplotlib.figure import Figure
from shortcut import ShortcutSettings

from spacex.checkpoint import load_checkpoint
from spacex.evaluation.run import Evaluation, EvaluationSettings
from spacex.evaluation.samples import LandCoverSource
from spacex.evaluation.table import Table, make_table, summarise
from spacex.synthetic.dataset import SIZES
from spacex.synthetic.landscape_params import SECOND_COUNTRY
from spacex.synthetic.region import DEMO_SEED
from spacex.training.distributed import Distributed
from spacex.training.presets import DELTA

COUNTRIES = {"first": DEMO_SEED, "second": SECOND_COUNTRY}
CLASSIFIERS = {"seed 0": (0, 8), "seed 1": (1, 8), "wide": (2, 16)}
"""Seed, and channels of the first level."""
OURS, BANDS = "lift", ShortcutSettings().bands
METHODS = (
    OURS,
    "path",
    "attribution",
    "lowered",
    "deeplift",
    "gradcam-last",
    "gradcam-first",
    "brightness",
    "sobel",
    "distance",
    "chance",
    "brightness x gradcam-first",
    "lift x gradcam-first",
)
PLANTED = {"test": 160}
Cell = tuple[str, str]
CELLS: list[Cell] = [(country, classifier) for country in COUNTRIES for classifier in CLASSIFIERS]


def trained(root: Path, distributed: Distributed, cell: Cell) -> None:
    """Train a cell's classifier and its generators, or go on with them."""
    country, name = cell
    seed, base = CLASSIFIERS[name]
    shape = (*ShortcutSettings().classifier_changes, f"network.base={base}")
    learn(
        root / country / name,
        root / country / "chips",
        DELTA,
        ShortcutSettings(seed=seed, classifier_changes=shape),
        distributed,
    )


def evaluated(root: Path, cell: Cell) -> dict[str, object]:
    """A row of the table: one classifier in one country."""
    country, name = cell
    names = list(CLASSIFIERS)
    checkpoint = load_checkpoint(str(root / country / name / DELTA.name))
    second = load_checkpoint(str(root / country / names[(names.index(name) + 1) % len(names)] / "classifier"))
    settings = EvaluationSettings(methods=METHODS, perturbed=0, sanity_chips=0, asos_chips=0)
    source = LandCoverSource(root / country / "chips", BANDS, "test")
    rows = root / country / name / "chips.parquet"
    outcome = Evaluation(source, checkpoint, settings, second).run(rows)
    table = make_table(pd.read_parquet(rows), OURS)
    moved = summarise(outcome.counterfactuals)
    accuracy = checkpoint.card.metrics["classifier"]["test"]["accuracy"]
    facts = {
        "country": country,
        "classifier": name,
        "accuracy": accuracy,
        "chips": table.chips["all"],
        "hard": table.chips["hard"],
        "x- flips": moved["flipped"].mean,
        "a second": moved["second_flipped"].mean,
    }
    planted = knolls(measured(checkpoint, (OURS,), root / country / "planted"))
    return facts | _summary(table) | {f"knolls, {name}": value for name, value in planted.items()}


def _summary(table: Table) -> dict[str, object]:
    """What every cell is asked: how well the map points, and which methods it does not clearly beat."""
    numbers: dict[str, object] = {}
    for chips in ("all", "hard"):
        for method, _ in table.methods:
            cell = table.cells[method, "iou", chips]
            ends = {"": cell.mean, " low": cell.low, " high": cell.high}
            numbers |= {f"{method}, {chips}{end}": value for end, value in ends.items()}
        numbers[f"auroc, {chips}"] = str(table.cells[OURS, "auroc", chips])
        against = {m: table.against[m, "iou", chips].difference for m, _ in table.methods if m != OURS}
        numbers[f"not beaten, {chips}"] = (
            "; ".join(f"{m} {gap}" for m, gap in against.items() if gap.low <= 0) or "none"
        )
    return numbers


def figure(rows: pd.DataFrame) -> Figure:
    """A point with its interval per method and classifier, all chips and hard ones."""
    drawing = Figure(figsize=(10, 6.5), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    heights = np.arange(len(METHODS))[::-1]
    colours = dict(zip(CLASSIFIERS, ("#0072b2", "#d55e00", "#009e73"), strict=True))
    for panel, chips in zip(panels, ("all", "hard"), strict=True):
        for number, (_, row) in enumerate(rows.iterrows()):
            mean, low, high = (
                np.array([row[f"{method}, {chips}{end}"] for method in METHODS], float) for end in ("", " low", " high")
            )
            filled = row["country"] == "first"
            colour = colours[row["classifier"]]
            panel.errorbar(
                mean,
                heights + 0.3 - 0.12 * number,
                xerr=[mean - low, high - mean],
                ms=4,
                lw=1,
                color=colour,
                fmt="o" if filled else "s",
                mfc=colour if filled else "white",
                label=f"{row['country']} country, {row['classifier']}",
            )
        panel.axvline(0.85, color="grey", lw=0.8, ls=":")
        panel.set(xlim=(0, 1), title=f"{chips} chips", xlabel="area-matched IoU with mire and bare fell")
        panel.grid(axis="y", lw=0.3)
    panels[0].set_yticks(heights, METHODS)
    drawing.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return drawing


def main() -> None:
    """Paint and train what is missing, evaluate, print."""
    asked = options(__doc__).parse_args()
    distributed = single_process(asked)
    for country, seed in COUNTRIES.items():
        root = asked.output / country
        painted(root / "chips", chips=SIZES["default"], seed=seed)
        painted(root / "planted", chips=PLANTED, seed=seed, planted="random")
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(trained, asked.output, distributed), CELLS))
        rows = pd.DataFrame(pool.map(partial(evaluated, asked.output), CELLS))
    rows.to_csv(asked.output / "study.csv", index=False)
    figure(rows).savefig(asked.output / "study.png", dpi=120)
    print(rows[[name for name in rows if not name.endswith((" low", " high"))]].T.to_string(header=False))


if __name__ == "__main__":
    main()
