"""Does a map follow what its classifier uses, on real chips? Classifiers that use a planted mark more and more.

    python tests/benchmarks/planted_mark.py --data eurosat:FOLDER --output runs/planted  # quarter of an hour
    python tests/benchmarks/planted_mark.py --data eurosat:FOLDER --output runs/of-vit --chequered --steps 250 \
      --rate 0.002 --checkpoint runs/six/vit_tiny/patterns

The mark is a square of 16 pixels cut from a chip of housing, or the certificate's chequered one, planted at random on
half of all chips; chips of housing are left out. The checkpoint's classifier is trained on with a share of the labels
taken from the mark instead of from the land, and its generators are trained on against it with marked chips, as the
certificate does (`spacex.evaluation.planted`). What each classifier makes of the mark is measured, not assumed: on
natural chips of unseen places that carry one, the mark is taken away, or the natural land around it is replaced by a
chip of the other class, and the logit's change noted. A faithful map's share on the mark follows the mark's share of
both effects, chip by chip: slope 1. The same study on synthetic land: `faithfulness.py`. Networks of timm need its
folder in PYTHONPATH.

Prints two tables, of the size of the effect and of marks that raise the score alone, and writes `chips.csv`,
`planted.csv`, `planted-raises.csv` and `planted.png`. What is trained is kept.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import timm_networks

with suppress(ImportError):  # where timm is there, before what imports torchvision
    timm_networks.import_timm()

from faithfulness import SHARES, curve, summary
from real_chips import SIDE, Land

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from spacex.evaluation.methods.captum import Effort
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.evaluation.planted import chequered, plant, taught
from spacex.training.distributed import Distributed

MARK, HOUSING = 16, "Residential"
"""Side of the mark in pixels, and the class it is cut from."""
METHODS = ("lift", "lift+", "path", "attribution", "lowered", "deeplift", "integrated", "gradcam-first", "gradcam-last",
           "brightness")  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """The chips of one split without housing, and squares of housing to plant on them."""

    land: Land
    marks: Tensor
    """(m, bands, 16, 16) reflectance."""

    @classmethod
    def open(cls, data: str, split: str, chequer: bool = False) -> Marked:
        """The chips of a split; a mark is the middle of a chip of housing, or the certificate's."""
        land, middle = Land.open(data, split), slice((SIDE - MARK) // 2, (SIDE + MARK) // 2)
        housing = (land.infos["class"] == HOUSING).to_numpy()
        kept = Land(land.x[_index(~housing)], land.natural[~housing], land.infos[~housing].reset_index(drop=True))
        return cls(kept, chequered(kept.x) if chequer else land.x[_index(housing)][:, :, middle, middle])

    def plant(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The chips with a mark on each, and where it is, (n, 64, 64) bool."""
        return plant(x, self.marks, rng)

    def draw(self, share: float, count: int, seed: int) -> tuple[Tensor, NDArray[np.bool_]]:
        """Chips at random, a mark on about half of them, and labels, a share of which says where marks are."""
        rng = np.random.default_rng(seed)
        # as many natural as other ones
        kinds = [np.flatnonzero(self.land.natural == kind) for kind in (True, False)]
        index = rng.permutation(np.concatenate([rng.choice(kind, count // 2) for kind in kinds]))
        x, marked = self.land.x[torch.from_numpy(index)], rng.random(len(index)) < 0.5
        planted, _ = self.plant(x, rng)
        by_mark = rng.random(len(index)) < share
        labels = np.where(by_mark, marked, self.land.natural[index])
        return torch.where(torch.from_numpy(marked)[:, None, None, None], planted, x), labels


def _index(chosen: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


def trained(source: Checkpoint, chips: Marked, share: float, folder: Path, steps: int, rate: float) -> Checkpoint:
    """The classifier trained on, with a share of the labels by the mark, and its generators against it."""
    if (folder / "card.json").exists():
        return load_checkpoint(str(folder))
    here = Distributed(precision="bfloat16", compile=False)
    result = taught(source, partial(chips.draw, share), here, steps, rate)
    card = source.card.model_copy(update={"hashes": {}, "metrics": {}, "applicability": None, "certificate": None})
    return save_checkpoint(folder, card, result.modules)


def measured(checkpoint: Checkpoint, chips: Marked, count: int) -> pd.DataFrame:
    """A row per method and natural chip with a mark: `effect` and `map`, the mark's part of both.

    `raises` is the effect without marks that lower the score, which a map of what raises it leaves out.
    """
    rng, attributor = np.random.default_rng(0), Attributor(checkpoint, supported_maps(checkpoint))
    kinds = [np.flatnonzero(chips.land.natural == kind) for kind in (True, False)]
    natural, other = (torch.from_numpy(rng.choice(kind, count, replace=False)) for kind in kinds)
    plain = chips.land.x[natural]
    x, where = chips.plant(plain, rng)
    around = torch.where(where[:, None], x, chips.land.x[other])
    methods, frames = choose(all_methods(checkpoint, Effort(gradient_steps=32)), METHODS), []
    for part in torch.arange(count).split(16):
        logit, of_mark, of_land = (
            attributor.score(attributor.standardise(values[part].numpy())).logit for values in (x, plain, around)
        )
        mark, land = (logit - of_mark).double(), (logit - of_land).double()
        batch = ChipBatch(attributor, x[part], [f"chip {i}" for i in part.tolist()])
        facts = {"place": [chips.land.places[i] for i in natural[part].tolist()], "logit": logit.numpy(),
                 "effect": (mark.abs() / (mark.abs() + land.abs())).numpy(),
                 "raises": (mark.clamp(min=0) / (mark.clamp(min=0) + land.abs())).numpy()}  # fmt: skip
        for method in methods:
            values = method(batch).double()
            share = (values * where[part]).sum((1, 2)) / values.sum((1, 2)).clamp(min=1e-12)
            frames.append(pd.DataFrame({"method": method.name, "map": share.numpy(), **facts}))
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="eurosat:FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--checkpoint", default="europe")
    parser.add_argument("--count", type=int, default=160, help="chips that are measured")
    parser.add_argument("--chequered", action="store_true", help="the certificate's mark instead of housing")
    parser.add_argument("--steps", type=int, default=100, help="of the classifier's further training")
    parser.add_argument("--rate", type=float, default=5e-4, help="of it")
    asked = parser.parse_args()
    source = load_checkpoint(asked.checkpoint)
    learnt, unseen = (Marked.open(asked.data, split, asked.chequered) for split in ("train", "test"))
    frames = []
    for share in SHARES:
        checkpoint = trained(source, learnt, share, asked.output / f"share-{share:g}", asked.steps, asked.rate)
        frames.append(measured(checkpoint, unseen, asked.count).assign(share=share, generators="delta"))
        print(f"labels by the mark: {share:g}, effect {frames[-1]['effect'].mean():.3f}", flush=True)
    chips = pd.concat(frames, ignore_index=True)
    chips.to_csv(asked.output / "chips.csv", index=False)
    curve(chips).savefig(asked.output / "planted.png", dpi=120)
    for name, effect in (("planted", "effect"), ("planted-raises", "raises")):
        table = summary(chips.assign(effect=chips[effect]))
        table.to_csv(asked.output / f"{name}.csv", index=False)
        print(f"effect: {effect}\n{table.T.to_string(header=False)}")


if __name__ == "__main__":
    main()
