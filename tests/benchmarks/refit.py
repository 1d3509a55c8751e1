"""Fits anew what a checkpoint stores beside its networks: where it applies, and where in a chip it is sensitive.

    python tests/benchmarks/refit.py --checkpoint europe --data eurosat:FOLDER
    python tests/benchmarks/refit.py --checkpoint runs/old --data demo --output runs/new

Training does both when it ends; this is for checkpoints from before there was one of them, or that are to be measured
on other chips. The networks stay as they are, to the bit. Without `--output` the checkpoint itself is replaced.
"""

from __future__ import annotations

import argparse

from spacex.checkpoint import load_checkpoint, save_checkpoint
from spacex.training.applicability import fit_applicability
from spacex.training.data import DatasetSettings, open_split
from spacex.training.sensitivity import measure_sensitivity
from spacex.weights import SHIPPED


def main() -> None:
    """Fit, save, say what changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True, help="demo, eurosat:FOLDER, ...: what it was trained on")
    parser.add_argument("--output", help="folder; default: where the checkpoint lies")
    parser.add_argument("--trust", nargs="*", default=[], help="modules of third-party networks")
    asked = parser.parse_args()
    old = load_checkpoint(asked.checkpoint, trust=asked.trust)
    card, modules = old.card, old.modules
    train = open_split(DatasetSettings(root=asked.data, bands=card.bands, target=card.target), "train")
    known = fit_applicability(old.classifier, card.scaling, train, features=card.features)
    sensitivity = measure_sensitivity(old, train) if card.kind == "patterns" else None
    folder = asked.output or SHIPPED.get(asked.checkpoint, asked.checkpoint)
    new = save_checkpoint(folder, card, modules, known, sensitivity)
    for name in sorted(old.card.hashes.keys() ^ new.card.hashes.keys()):
        print("new" if name in new.card.hashes else "old", name)
    print(f"{folder}: {new.card.applicability}")


if __name__ == "__main__":
    main()
