"""How often the interval of a score holds another classifier's, and that of other observations.

    python tests/benchmarks/certainty.py --data eurosat:FOLDER --checkpoint RUN
    python tests/benchmarks/certainty.py --folder FOLDER --checkpoint RUN

RUN is a checkpoint of several classifiers. Those of the figures in `spacex/mapping/README.md`::

    spacex train-classifier --data eurosat:FOLDER --bands B02,B03,B04 --members 3 --limit 3000 --epochs 3 --output RUN
      --network spacex.models.residual:ResidualNetwork --network-args '{"bands": 3, "widths": [16, 32, 64, 96]}'
      --set recipe.batch=32 --set recipe.rate=0.003 --set recipe.weight_decay=0.05 --set recipe.loss=bce
      --set recipe.cutmix=0.5 --set recipe.gains=[0.15,0.08] --set recipe.offsets=[0.0086,0.0086] --precision bfloat16
    spacex train-classifier --data demo --members 3 --base 4 --limit 300 --epochs 3 --output RUN
      --set recipe.batch=8 --set recipe.rate=0.003 --set recipe.cutmix=0.2 --set recipe.loss=bce

`--data`: on chips of places that no training has seen each member is left out in turn, and the interval of the others
is to hold its score; and whether the spread of the members tells the first one's errors, beside the trivial control,
how near its score is to .5. `--folder`: chips of a summer of the embedded land (`two_summers`, built there) are scored
from three overpasses by all members but one, and from the other three by that one, whose score is to lie within.
Intervals are 95 %, by place.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from two_summers import BBOX, YEARS, build

import spacex
from spacex.attribution.attributor import Attributor
from spacex.bootstrap import auroc, draw, interval, of_draws
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.grid import Window
from spacex.mapping.bounds import WIDTH
from spacex.mapping.chips import extract_chips
from spacex.mapping.halves import extract_pairs, gap, logit_noise
from spacex.mapping.worker import SceneSource
from spacex.models.members import SpreadFit, left_out, logits
from spacex.training.data import DatasetSettings, open_split
from spacex.training.members import chip_logits

HARD = {"all": (0.0, 1.0), "hard": (0.05, 0.95), "undecided": (0.25, 0.75)}
"""Scores between which it is hard to be right."""
PLACE = 384
"""Pixels along a side of a place of the embedded land: two strides of its weights."""
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
        print(f"classifier {number}: accuracy {right}, AUROC {of_draws(auroc(truth, one, draws), draws)}")
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
    by_spread, by_nearness = (auroc(wrong, values, draws) for values in (spread, near))
    both = logistic(np.stack([spread, near]), wrong)
    print(f"{wrong.sum()} errors of the first: AUROC by spread {of_draws(by_spread, draws)}, by nearness to .5 "
          f"{of_draws(by_nearness, draws)}, difference {of_draws(by_spread - by_nearness, draws)}; "
          f"by both, fitted to these chips, {of_draws(auroc(wrong, both, draws), draws)}")  # fmt: skip


def logistic(features: Values, truth: NDArray[np.bool_]) -> Values:
    """The scores of a logistic regression on ranks, fitted to the same chips."""
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    ranks = np.stack([rankdata(one) / len(one) for one in features], axis=1)
    return np.asarray(LogisticRegression().fit(ranks, truth).decision_function(ranks))


def halves(folder: Path, summers: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Of each summer, the lists of its even and of its odd overpasses."""
    land = folder / "land"
    for year in summers:
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


@dataclass(frozen=True)
class Seen:
    """What the classifiers say of chips by some of a summer's observations."""

    z: dict[Window, Values]
    """Logits of a chip by each classifier, (classifiers,)."""
    noise: dict[Window, float]
    """Standard error of a chip's logit by halves of its observations."""


def observe(checkpoint: Checkpoint, year: str, items: str) -> Seen:
    """Score the chips of the embedded land, from a list of scenes, as a map does."""
    work = spacex.plan(
        BBOX, items=items, catalogue="earth-search", checkpoint=checkpoint, datetime=f"{year}-07-01/{year}-08-31",
        maps=("naturalness",), uncertainty=("pixels",), precision="float32", output="none.zarr",
    ).plan  # fmt: skip
    chips, size = work.request.chips, checkpoint.card.chip_size
    source = SceneSource(work.request, checkpoint.card.bands, work.scenes)
    attributor = Attributor(checkpoint, (), members=True)
    z: dict[Window, Values] = {}
    noise: dict[Window, float] = {}
    gaps: dict[Window, float] = {}
    for task in work.todo:
        read = source.read(task)
        assert read.halves is not None
        around = [pair for pair in chips.pairs(read.window) if pair not in gaps]
        for pair in extract_pairs(read.halves, read.reflectance, read.padded_window, around, chips.min_valid):
            gaps[pair.window] = gap(*attributor.rescore(pair.pixels.reshape(2, -1, size, size))().score)
        known = {pair: gaps[pair] for pair in chips.pairs(read.window) if pair in gaps}
        errors = logit_noise(read.window, known, size)
        centred = {chip: (chip.row + size // 2 - read.window.row, chip.col + size // 2 - read.window.col)
                   for chip in chips.chips(read.window)}  # fmt: skip
        inside = [c for c, (y, x) in centred.items() if 0 <= y < read.window.height and 0 <= x < read.window.width]
        for chip in extract_chips(read.reflectance, read.padded_window, inside, chips.min_valid):
            answer = attributor.classify(chip.pixels[None])()
            scores = [answer.score[0], *(answer.generated_scores[name][0] for name in sorted(answer.generated_scores))]
            z[chip.window], noise[chip.window] = logits(np.array(scores)), float(errors[centred[chip.window]])
    return Seen(z, noise)


def embedded(asked: argparse.Namespace) -> None:
    """Another classifier and other observations of the embedded land, chip by chip."""
    checkpoint = load_checkpoint(asked.checkpoint)
    assert checkpoint.card.members is not None, "the checkpoint has one classifier"
    print(json.dumps(checkpoint.card.members.model_dump()))
    fit, every, rows = checkpoint.card.members.spread, checkpoint.card.members.count, []
    for year, *lists in halves(asked.folder, YEARS[:1]):
        views = [observe(checkpoint, year, items) for items in lists]
        chips = sorted(c for c in views[0].z if c in views[1].z and np.isfinite([v.noise[c] for v in views]).all())
        places = [f"{year} {chip.row // PLACE} {chip.col // PLACE}" for chip in chips]
        z = [np.stack([view.z[chip] for chip in chips], axis=1) for view in views]
        for seen, other in ((0, 1), (1, 0)):
            noise = np.array([views[seen].noise[chip] for chip in chips])
            for out in range(every):
                kept = np.delete(z[seen], out, axis=0)
                mean, reach = fit.reach(kept)
                half = np.sqrt(reach**2 + 2 * (WIDTH * noise) ** 2)
                low, high = np.minimum(mean - half, kept[0]), np.maximum(mean + half, kept[0])
                first = 1 if out == 0 else 0
                cases = {
                    "another classifier, other observations": (z[other][out], low, high),
                    "another classifier, the same observations; no noise": (z[seen][out], mean - reach, mean + reach),
                    "the same classifier, other observations": (z[other][first], low, high),
                    "the same classifier, other observations; noise alone": (
                        z[other][first], kept[0] - WIDTH * np.sqrt(2) * noise, kept[0] + WIDTH * np.sqrt(2) * noise,
                    ),
                }  # fmt: skip
                for name, (truth, bottom, top) in cases.items():
                    score, ends = 1 / (1 + np.exp(-kept[0])), 1 / (1 + np.exp(-np.stack([bottom, top])))
                    inside, width = (truth >= bottom) & (truth <= top), ends[1] - ends[0]
                    known = {"what": name, "inside": inside, "score": score, "width": width, "place": places}
                    rows.append(pd.DataFrame(known))
    table = pd.concat(rows, ignore_index=True)
    shown = [
        shares(str(name), part.inside.to_numpy(), part.score.to_numpy(), part.place.tolist())
        | {"mean width": round(float(part.width.mean()), 3)}
        for name, part in table.groupby("what")
    ]
    print(f"{len(set(table.place))} places")
    print(pd.DataFrame(shown).to_string())


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", help="eurosat:FOLDER")
    words.add_argument("--folder", type=Path, help="of the embedded land's scenes")
    words.add_argument("--checkpoint", required=True, help="of several classifiers")
    words.add_argument("--count", type=int, default=10_000, help="chips of a split at most")
    asked = words.parse_args()
    if asked.data:
        real(asked)
    if asked.folder:
        embedded(asked)


if __name__ == "__main__":
    main()
