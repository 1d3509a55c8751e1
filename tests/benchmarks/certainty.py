"""How often the interval of a score holds another classifier's, and that of other observations.

    python tests/benchmarks/certainty.py real --data eurosat:FOLDER --checkpoint RUN
    python tests/benchmarks/certainty.py embedded --checkpoint RUN --folder FOLDER
    python tests/benchmarks/certainty.py cost [--checkpoint RUN]

RUN is a checkpoint of several classifiers (`spacex train-classifier --members 3`). `real`: on chips of places that no
training has seen each member is left out in turn, and the interval of the others is to hold its score; and whether the
spread of the members tells the first one's errors, beside the trivial control, how near its score is to .5. `embedded`:
a summer of the embedded land (`two_summers`) is mapped from three of its overpasses by all members but one, and from
the other three by that one, whose score is to lie within. `cost`: operations, and processor seconds of the embedded
region in turns, of maps with and without. Intervals are 95 %, by place.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from two_summers import BBOX, YEARS, build

import spacex
from spacex.bootstrap import draw, interval, of_draws
from spacex.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from spacex.evaluation.certify import _auroc
from spacex.models.members import Members, SpreadFit, left_out
from spacex.training.data import DatasetSettings, open_split
from spacex.training.members import chip_logits

HARD = {"all": (0.0, 1.0), "hard": (0.05, 0.95), "undecided": (0.25, 0.75)}
"""Scores between which it is hard to be right."""
LATTICE = 96
"""Pixels between those of a map that are compared: half a stride of the embedded weights."""
PLACE = 2560
"""Metres along a side of a place."""
Values = NDArray[np.float64]


def shares(name: str, inside: NDArray[np.bool_], scores: Values, places: list[str]) -> dict[str, object]:
    """A row: the share inside, of all and of hard scores."""
    row: dict[str, object] = {"what": name}
    for part, (low, high) in HARD.items():
        chosen = (scores >= low) & (scores <= high)
        kept = [place for place, one in zip(places, chosen, strict=True) if one]
        row |= {part: str(interval(inside[chosen].astype(float), draw(kept))), f"n {part}": int(chosen.sum())}
    return row


def real(asked: argparse.Namespace) -> None:
    """Chips of unseen places."""
    checkpoint = load_checkpoint(asked.checkpoint)
    assert checkpoint.card.members is not None, "the checkpoint has one classifier"
    fit = checkpoint.card.members.spread
    print(json.dumps(checkpoint.card.members.model_dump()))
    networks = (checkpoint.classifier, *checkpoint.further)
    for split in ("val", "test"):
        chips = open_split(DatasetSettings(root=asked.data, bands=checkpoint.card.bands), split)
        indices = chips.all[:: max(1, len(chips.all) // asked.count)]
        z = np.stack([chip_logits(one, checkpoint.card.scaling, chips, indices) for one in networks])
        places = [str(group) for group in chips.infos["group"].iloc[indices]]
        truth = chips.infos["label"].iloc[indices].to_numpy() == 1
        report_real(split, fit, z, truth, places)


def report_real(split: str, fit: SpreadFit, z: Values, truth: NDArray[np.bool_], places: list[str]) -> None:
    """Coverage of members left out, and what the spread says of errors."""
    score, draws = 1 / (1 + np.exp(-z)), draw(places)
    print(f"\n{split}: {len(truth)} chips of {len(set(places))} places")
    for number, one in enumerate(score, start=1):
        right = interval(((one > 0.5) == truth).astype(float), draws)
        print(f"classifier {number}: accuracy {right}, AUROC {of_draws(_auroc(truth, one, draws), draws)}")
    mean = (1 / (1 + np.exp(-z.mean(axis=0))) > 0.5) == truth
    print(f"their mean logit: accuracy {interval(mean.astype(float), draws)}")
    every, rows = len(z), []
    far = left_out(fit, z)
    plain = np.stack([
        np.abs(z[n] - np.delete(z, n, 0).mean(0)) / (1.645 * np.sqrt(1.5) * np.delete(z, n, 0).std(0, ddof=1))
        for n in range(every)
    ])  # fmt: skip
    for name, ratio in (("moderated t", far), ("1.645 own standard errors", plain)):
        rows.append(shares(name, (ratio <= 1).ravel(), score.ravel(), places * every))
    print(pd.DataFrame(rows).to_string())
    wrong = (score[0] > 0.5) != truth
    spread, near = score.std(axis=0, ddof=1), -np.abs(score[0] - 0.5)
    by_spread, by_nearness = (_auroc(wrong, values, draws) for values in (spread, near))
    both = logistic(np.stack([spread, near]), wrong)
    print(f"{wrong.sum()} errors of the first: AUROC by spread {of_draws(by_spread, draws)}, by nearness to .5 "
          f"{of_draws(by_nearness, draws)}, difference {of_draws(by_spread - by_nearness, draws)}; "
          f"by both, fitted to these chips, {of_draws(_auroc(wrong, both, draws), draws)}")  # fmt: skip


def logistic(features: Values, truth: NDArray[np.bool_]) -> Values:
    """The scores of a logistic regression on ranks, fitted to the same chips."""
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    ranks = np.stack([rankdata(one) / len(one) for one in features], axis=1)
    return np.asarray(LogisticRegression().fit(ranks, truth).decision_function(ranks))


def alone(checkpoint: Checkpoint, kept: list[int], folder: Path) -> str:
    """A checkpoint of some of another's classifiers, the first of `kept` in front; without generators."""
    networks = (checkpoint.classifier, *checkpoint.further)
    members: Members | None = checkpoint.card.members
    if members is not None:
        members = members.model_copy(update={"count": len(kept)}) if len(kept) > 1 else None
    card = checkpoint.card.model_copy(update={"kind": "classifier", "generator": None, "members": members})
    further = tuple(networks[one] for one in kept[1:])
    made = replace(checkpoint, card=card, classifier=networks[kept[0]], further=further, maximiser=None, minimiser=None)
    return save_checkpoint(folder / "-".join(map(str, kept)), card, made.modules, checkpoint.applicability).uri


def halves(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Of each summer, the lists of its even and of its odd overpasses."""
    land = folder / "land"
    for year in YEARS[:2]:
        if not (land / year / "items.json").exists():
            build(land / year, summers=(year,))
        items = json.loads((land / year / "items.json").read_text())
        order = sorted(items["features"], key=lambda one: one["properties"]["datetime"])
        lists = []
        for first in (0, 1):
            path = land / year / f"half-{first}.json"
            path.write_text(json.dumps({**items, "features": order[first::2]}))
            lists.append(str(path))
        yield year, lists[0], lists[1]


def mapped(folder: Path, year: str, items: str, checkpoint: str, uncertainty: tuple[str, ...] = ()) -> Any:
    """Some layers of a map, at the places of a lattice."""
    name = f"{year}-{Path(items).stem}-{Path(checkpoint).name}-{len(uncertainty)}.zarr"
    spacex.map_region(
        BBOX, items=items, catalogue="earth-search", checkpoint=checkpoint, datetime=f"{year}-07-01/{year}-08-31",
        maps=("naturalness",), uncertainty=uncertainty, precision="float32", output=str(folder / name),
    )  # fmt: skip
    data = spacex.open_cube(str(folder / name)).isel(time=0)
    return data.isel(y=slice(LATTICE // 2, None, LATTICE), x=slice(LATTICE // 2, None, LATTICE)).load()


def embedded(asked: argparse.Namespace) -> None:
    """Another classifier and other observations of the embedded land."""
    checkpoint, folder = load_checkpoint(asked.checkpoint), asked.folder
    assert checkpoint.card.members is not None, "the checkpoint has one classifier"
    count, rows = checkpoint.card.members.count, []
    for year, *lists in halves(folder):
        for seen, other in (lists, lists[::-1]):
            for out in range(count):
                kept = [one for one in range(count) if one != out]
                uri = alone(checkpoint, kept, folder / "members")
                here = mapped(folder, year, seen, uri, ("pixels", "classifiers"))
                for judge, single in (("another classifier", out), ("the same classifier", kept[0])):
                    truth = mapped(folder, year, other, alone(checkpoint, [single], folder / "members"))
                    rows.append(compared(year, judge, "other observations", here, truth.naturalness))
                truth = mapped(folder, year, seen, alone(checkpoint, [out], folder / "members"))
                rows.append(compared(year, "another classifier", "the same observations", here, truth.naturalness))
    table = pd.concat(rows, ignore_index=True)
    for (who, what, year), part in [*table.groupby(["who", "what", "year"]), *_all_years(table)]:
        score, places = part.score.to_numpy(), part.place.tolist()
        shown = {"interval": part.inside.to_numpy(), "noise alone, 1.645 x sqrt 2": part.noise.to_numpy()}
        print(f"\n{who}, {what}, {year}: mean width {part.width.mean():.3f}")
        print(pd.DataFrame([shares(name, inside, score, places) for name, inside in shown.items()]).to_string())


def _all_years(table: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    return [((who, what, "both"), part) for (who, what), part in table.groupby(["who", "what"])]


def compared(year: str, who: str, what: str, here: Any, truth: Any) -> pd.DataFrame:
    """A row per place of the lattice: the score, and whether what another map says lies within."""
    step = 0.004  # of stored scores
    low, high, score, again = (
        layer.values.astype(float) for layer in (here.naturalness_low, here.naturalness_high, here.naturalness, truth)
    )
    known = np.isfinite(low) & np.isfinite(again)
    inside = (again >= low - step / 2) & (again <= high + step / 2)
    noise = np.abs(again - score) <= 1.645 * np.sqrt(2) * here.naturalness_noise.values + step
    x, y = np.meshgrid(here.x.values // PLACE, here.y.values // PLACE)
    place = [f"{a:.0f} {b:.0f}" for a, b in zip(x[known], y[known], strict=True)]
    return pd.DataFrame({
        "year": year, "who": who, "what": what, "inside": inside[known], "noise": noise[known], "score": score[known],
        "width": (high - low)[known], "place": place,
    })  # fmt: skip


def cost(asked: argparse.Namespace) -> None:
    """Processor seconds of the embedded region with and without, in turns; the classifiers are copies of one."""
    fit = SpreadFit(level=-2.0, slope=0.0, freedom=5.0, factor=1.0, chips=1)
    for name in asked.checkpoints:
        one = load_checkpoint(name)
        members = Members(count=3, seeds=(0, 1, 2), test=({}, {}, {}), mean={}, spread=fit)
        card = one.card.model_copy(update={"members": members})
        made = replace(one, card=card, further=(one.classifier,) * 2)
        folder = asked.folder / "cost"
        saved = save_checkpoint(folder / name, card, made.modules, one.applicability, one.sensitivity)
        kinds = {"plain": (), "pixels": ("pixels",), "both": ("pixels", "classifiers")}
        for maps in (("attribution", "lift"), ("naturalness",)):
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for turn in range(asked.turns):
                for kind, uncertainty in kinds.items():
                    output = folder / f"{name}-{len(maps)}-{kind}-{turn}-{time.time_ns()}.zarr"
                    begun = time.process_time()
                    spacex.map_region(
                        catalogue="demo", checkpoint=saved.uri, maps=maps, uncertainty=uncertainty, threads=1,
                        output=str(output),
                    )  # fmt: skip
                    seconds[kind].append(time.process_time() - begun)
            least = {kind: min(taken) for kind, taken in seconds.items()}
            ratios = {kind: f"{taken / least['plain']:.2f}" for kind, taken in least.items()}
            print(name, maps, {kind: f"{taken:.1f} s" for kind, taken in least.items()}, ratios, flush=True)


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("report", choices=("real", "embedded", "cost"))
    words.add_argument("--data", help="eurosat:FOLDER")
    words.add_argument("--checkpoint", help="of several classifiers")
    words.add_argument("--checkpoints", default="demo,europe", type=lambda text: text.split(","), help="of `cost`")
    words.add_argument("--folder", type=Path, help="of simulated scenes and cubes")
    words.add_argument("--count", type=int, default=10_000, help="chips of a split at most")
    words.add_argument("--turns", type=int, default=2, help="of `cost`")
    asked = words.parse_args()
    {"real": real, "embedded": embedded, "cost": cost}[asked.report](asked)


if __name__ == "__main__":
    main()
