"""Lift of our own U-Net by the function mode beside the former rules of single modules: time and difference.

    python tests/benchmarks/lift_before.py

Both sides run in one process, in turns, on the same weights, chips of the embedded data and their x-; the former side
is commit dafc259, in a checkout of its own (it needs the package planetary-computer). Printed for float32 and bfloat16
are the median ratio of processor time with its quartiles, and the largest difference of a map as a share of the
largest value, of a map's sum as a share of the change of the logit, and whether logits are the same to the bit.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from before import ROOT, earlier
from torch import Tensor

FORMER = "dafc259"
NAMES = ("models.classifier", "attribution.lift", "attribution.arithmetic")


def import_from(root: Path, *names: str) -> list[ModuleType]:
    """Modules of the package that lies in `root`, which then is forgotten, so that another one can be imported."""
    sys.path.insert(0, str(root))
    try:
        return [import_module(f"spacex.{name}") for name in names]
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name.partition(".")[0] == "spacex"]:
            del sys.modules[name]


def chips(count: int) -> tuple[Any, Tensor, Tensor]:
    """The embedded checkpoint, and natural chips of its test split with their x-, standardised."""
    from spacex.attribution.attributor import Attributor
    from spacex.checkpoint import load_checkpoint
    from spacex.evaluation.methods.chip_batch import ChipBatch
    from spacex.training.data import DatasetSettings, open_split

    checkpoint = load_checkpoint("demo")
    split = open_split(DatasetSettings(root="demo", bands=checkpoint.card.bands), "test")
    x, _ = split.__getitems__(split.natural[:count])
    batch = ChipBatch(Attributor(checkpoint, ("attribution",)), x, [str(i) for i in range(count)])
    return checkpoint, batch.u, batch.u_minus


def measure(former: Any, today: Any, u: Tensor, baseline: Tensor, turns: int) -> str:
    """A line of figures on two ways to lift the same chips."""
    maps, changes, logits = zip(*(lift(u, baseline) for lift in (former, today)), strict=True)
    seconds = []
    for turn in range(turns):
        took = {}
        for name, lift in (("former", former), ("today", today))[:: 1 if turn % 2 else -1]:
            begun = time.process_time()
            lift(u, baseline)
            took[name] = time.process_time() - begun
        seconds.append(took["today"] / took["former"])
    low, median, high = np.percentile(seconds, [25, 50, 75])
    apart = (maps[1] - maps[0]).abs().amax((1, 2, 3)) / maps[0].abs().amax((1, 2, 3))
    sums = ((maps[1] - maps[0]).sum((1, 2, 3)) / changes[0]).abs()
    return (
        f"time x {median:.3f} ({low:.3f} to {high:.3f}); maps apart by {apart.max():.1e} of their largest value, "
        f"sums by {sums.max():.1e} of the change; logits {'the same' if torch.equal(*logits) else 'differ'}"
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=8)
    parser.add_argument("--turns", type=int, default=21)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with earlier(FORMER) as root:
        shape, rules, arithmetic = import_from(root, *NAMES)
    checkpoint, u, baseline = chips(asked.chips)
    from spacex.attribution.inference import prepare_classifier
    from spacex.attribution.lift import Lift

    cpu, settings = torch.device("cpu"), checkpoint.card.classifier.model_dump()
    for precision in ("float32", "bfloat16"):
        network = shape.Classifier(shape.ClassifierSettings(**settings)).eval()
        network.load_state_dict(checkpoint.classifier.state_dict())
        former = rules.Lift(arithmetic.ready_classifier(network, precision, cpu), u[:1])
        today = Lift(prepare_classifier(checkpoint.classifier, precision, cpu), u[:1])
        print(f"{precision}: {measure(former, today, u, baseline, asked.turns)}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
