"""How often the interval of a score holds another classifier's.

    python tests/benchmarks/certainty.py --data eurosat:FOLDER --checkpoint RUN

RUN is a checkpoint of several classifiers. Those of the figures in `spacex/mapping/README.md`::

    spacex train-classifier --data eurosat:FOLDER --bands B02,B03,B04 --members 3 --limit 3000 --epochs 3 --output RUN
      --network spacex.models.residual:ResidualNetwork --network-args '{"bands": 3, "widths": [16, 32, 64, 96]}'
      --set recipe.batch=32 --set recipe.rate=0.003 --set recipe.weight_decay=0.05 --set recipe.loss=bce
      --set recipe.cutmix=0.5 --set recipe.gains=[0.15,0.08] --set recipe.offsets=[0.0086,0.0086] --precision bfloat16

On chips of places that no training has seen each member is left out in turn, and the interval of the others is to hold
its score; and whether the spread of the members tells the first one's errors, beside the trivial control, how near its
score is to .5. Intervals are 95 %, by place.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spacex.bootstrap import draw, interval, of_draws
from spacex.checkpoint import load_checkpoint
from spacex.evaluation.certify import _auroc
from spacex.models.members import SpreadFit, left_out
from spacex.training.data import DatasetSettings, open_split
from spacex.training.members import chip_logits

HARD = {"all": (0.0, 1.0), "hard": (0.05, 0.95), "undecided": (0.25, 0.75)}
"""Scores between which it is hard to be right."""
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


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", required=True, help="eurosat:FOLDER")
    words.add_argument("--checkpoint", required=True, help="of several classifiers")
    words.add_argument("--count", type=int, default=10_000, help="chips of a split at most")
    real(words.parse_args())


if __name__ == "__main__":
    main()
