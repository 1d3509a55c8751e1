"""Does a map follow what its classifier uses? Classifiers that use a second pattern, each more than the one before.

    python tests/benchmarks/faithfulness.py --output runs/faithfulness --control --workers 2 --precision bfloat16
    python tests/benchmarks/faithfulness.py --output runs/faithfulness --control --gpu --workers 8

On land with reddish knolls planted at random, a share of the training chips gets its label from the knolls instead of
from mire and bare fell. What each classifier makes of that is measured, not assumed: each pattern is taken away from
the test chips that carry both (exact counterfactuals), and the logit's change noted. A faithful map's share on the
knolls follows their share of the effect, chip by chip: slope 1. With `--control` the class-difference generators are
trained as well. They show what differs between the classes, which for knolls at random is much what the classifier has
learned; where both patterns go with the label, see `shortcut.py`. All is kept; a stopped run goes on.

Prints a table, and writes `chips.csv`, `faithfulness.csv` and `faithfulness.png`.
"""

from __future__ import annotations

import argparse
import csv
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from shortcut import ShortcutSettings, falls, logits, trained_classifier, with_both, without

from spacex.attribution.attributor import Attributor
from spacex.bootstrap import ClusterBootstrap, association, draw, interval
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.evaluation.methods.captum import Effort
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.evaluation.samples import LandCoverSource, Samples
from spacex.synthetic.chip import read_records
from spacex.synthetic.dataset import build_dataset
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed, Precision
from spacex.training.gan_run import PatternRun, learn_patterns
from spacex.training.overrides import with_overrides
from spacex.training.presets import CLASS_DIFFERENCE, DELTA, Preset

BANDS = ShortcutSettings().bands
SHARES = (0.0, 0.05, 0.2, 0.5)
METHODS = ("lift", "path", "attribution", "lowered", "deeplift", "integrated", "gradcam-first", "brightness")
CONTROL = ("lift", "attribution")
CHIPS = {"train": 800, "val": 40, "test": 160}


def painted(folder: Path, **build: Any) -> None:
    """Build a data set, as `build_dataset` but with every core, if it is not there."""
    if not (folder / "infos.csv").exists():
        build_dataset(folder, **build, workers=os.cpu_count() or 1)


def relabelled(data: Path, folder: Path, share: float) -> Path:
    """The same chips; of a share of the training chips, drawn once and for all, the knolls are the label."""
    records = read_records(data)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tiles", "truth"):
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve(), target_is_directory=True)
    lot = np.random.default_rng(0)
    with (data / "infos.csv").open() as file, (folder / "infos.csv").open("w", newline="") as target:
        rows = csv.DictReader(file)
        writer = csv.DictWriter(target, list(rows.fieldnames or ()))
        writer.writeheader()
        for row in rows:
            by_knolls = lot.random() < share and row["dataset"] == "train"
            label = str(int(np.isfinite(records[row["file"]].distractor_level))) if by_knolls else row["label"]
            writer.writerow({**row, "label": label})
    return folder


def learn(folder: Path, data: Path, preset: Preset, sizes: ShortcutSettings, distributed: Distributed) -> None:
    """A classifier of these labels, in the folder's `classifier`, and generators for it, by their preset's name."""
    say = partial(print, f"{folder.parent.name}, {folder.name}, {preset.name},", flush=True)
    preload = distributed.device.type == "cuda"
    patterns = PatternRun(
        source=DatasetSettings(root=str(data), bands=BANDS, preload=preload),
        output=str(folder / preset.name),
        seed=sizes.seed,
        classifier=trained_classifier(folder, data, sizes, say, distributed),
        preset=with_overrides(preset, sizes.generator_changes),
    )
    for epoch in learn_patterns(patterns, distributed):
        say(epoch)


def effects(checkpoint: Checkpoint, samples: Samples, others: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Per chip, how far the logit moves when mire and fell, or the knolls, are taken away."""
    plain = logits(checkpoint, samples.x)
    return {"logit": plain} | {f"effect_{name}": np.abs(plain - logits(checkpoint, x)) for name, x in others.items()}


def measured(checkpoint: Checkpoint, names: tuple[str, ...], data: Path) -> pd.DataFrame:
    """A row per method and test chip with both patterns: the effects of both, and where the map lies (`falls`).

    `effect` and `map` are the knolls' part of what both patterns do, and of what lies on both.
    """
    methods = choose(all_methods(checkpoint, Effort()), names)
    attributor = Attributor(checkpoint, supported_maps(checkpoint))
    frames = []
    for samples in with_both(LandCoverSource(data, BANDS, "test")):
        others = without(data, BANDS, samples)
        chips, effect = ChipBatch(attributor, samples.x, samples.files), effects(checkpoint, samples, others)
        for method in methods:
            found = falls(method, chips, samples.codes["truth"])
            frames.append(pd.DataFrame({"method": method.name, "place": samples.places, **effect, **found}))
    chips = pd.concat(frames, ignore_index=True)
    chips["effect"] = chips["effect_ignored"] / (chips["effect_used"] + chips["effect_ignored"])
    chips["map"] = chips["share_ignored"] / (chips["share_used"] + chips["share_ignored"])
    return chips


def excess(part: pd.DataFrame, draws: ClusterBootstrap) -> str:
    """The knolls' part of one method's map over their mean part of the effect; 1 is faithful."""
    return str(interval((part["map"] / part["effect"].mean()).to_numpy(), draws))


def knolls(part: pd.DataFrame) -> dict[str, str]:
    """The knolls' part of the effect and of one method's map, and how far the second exceeds the first."""
    draws = draw(part["place"].tolist())
    shares = {name: str(interval(part[name].to_numpy(), draws)) for name in ("effect", "map")}
    return {**shares, "map / effect": excess(part, draws)}


def summary(chips: pd.DataFrame) -> pd.DataFrame:
    """Per method over all classifiers: slope and correlation of the map's share over the effect's, and both's means."""
    rows = []
    for (generators, method), part in chips.groupby(["generators", "method"], sort=False):
        draws = draw(part["place"].tolist())
        correlation, slope = association(part["effect"].to_numpy(), part["map"].to_numpy(), draws)
        row = {"generators": generators, "method": method, "chips": len(part), "slope": str(slope),
               "correlation": str(correlation), "map / effect": excess(part, draws),
               "Spearman": f"{spearmanr(part['effect'], part['map']).statistic:.3f}"}  # fmt: skip
        for share, one in part.groupby("share"):
            row |= {f"{what} at {share:g}": f"{one[what].mean():.3f}" for what in ("effect", "map")}
        rows.append(row)
    return pd.DataFrame(rows)


def curve(chips: pd.DataFrame) -> Figure:
    """The knolls' share of each map over their share of the effect, means of every classifier."""
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axes = figure.subplots()
    means = chips.groupby(["generators", "method", "share"], sort=False)[["effect", "map"]].mean()
    for (generators, method), line in means.groupby(["generators", "method"], sort=False):
        dashed = "--" if generators != "delta" else "-"
        axes.plot(line["effect"], line["map"], dashed, marker="o", ms=4, label=f"{method} ({generators})")
    top = float(max(means["effect"].max(), means["map"].max())) * 1.05
    axes.plot([0, top], [0, top], color="black", lw=1, label="faithful")
    axes.set(xlabel="knolls' share of the change of the logit", ylabel="knolls' share of the map on both patterns")
    axes.legend(fontsize=8)
    return figure


Cell = tuple[float, Preset]


def trained(root: Path, distributed: Distributed, cell: Cell) -> None:
    """Train a share's classifier, if it is not there, and the generators of one preset."""
    folder = root / f"share-{cell[0]:g}"
    learn(folder, relabelled(root / "chips", folder / "chips", cell[0]), cell[1], ShortcutSettings(), distributed)


def rows(root: Path, cell: Cell) -> pd.DataFrame:
    """The measurements of one classifier with the generators of one preset."""
    share, preset = cell
    names = METHODS if preset.name == DELTA.name else CONTROL
    found = measured(load_checkpoint(str(root / f"share-{share:g}" / preset.name)), names, root / "chips")
    return found.assign(share=share, generators=preset.name)


def options(about: str | None) -> argparse.ArgumentParser:
    """Where a study lies and what it is trained with, for `single_process`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=lambda path: Path(path).absolute(), required=True)
    parser.add_argument("--gpu", action="store_true", help="train on a CUDA device")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="of the training")
    parser.add_argument("--workers", type=int, default=1, help="classifiers trained, and measured, at once")
    return parser


def single_process(asked: argparse.Namespace) -> Distributed:
    """Who trains each classifier of a study: one process, with one thread of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers
    return Distributed(device=torch.device("cuda" if asked.gpu else "cpu"), precision=asked.precision, compile=False)


def main() -> None:
    """Train what is missing, measure, print."""
    parser = options(__doc__)
    parser.add_argument("--control", action="store_true", help="also class-difference generators")
    asked = parser.parse_args()
    distributed = single_process(asked)
    painted(asked.output / "chips", chips=CHIPS, planted="random")
    ours = [(share, DELTA) for share in SHARES]
    controls = [(share, CLASS_DIFFERENCE) for share in SHARES] if asked.control else []
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        for cells in (ours, controls):  # the second time the classifiers are there
            list(pool.map(partial(trained, asked.output, distributed), cells))
        chips = pd.concat(pool.map(partial(rows, asked.output), [*ours, *controls]), ignore_index=True)
    chips.to_csv(asked.output / "chips.csv", index=False)
    table = summary(chips)
    table.to_csv(asked.output / "faithfulness.csv", index=False)
    curve(chips).savefig(asked.output / "faithfulness.png", dpi=120)
    print(table.T.to_string(header=False))


if __name__ == "__main__":
    main()
