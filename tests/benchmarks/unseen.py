"""What do maps make of a pattern that their generators have never seen?

    python tests/benchmarks/unseen.py                                  # the weights that ship
    python tests/benchmarks/unseen.py --checkpoint runs/weights/patterns

Reddish knolls are planted on test chips of the embedded country, which has none. Taking them away (an exact
counterfactual) tells what the classifier makes of them, as their share of the logit's change by knolls, mire and fell.
A faithful map puts as large a share on them: ratio 1. Density is the map's mean on the knolls over the background's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from faithfulness import BANDS, METHODS, knolls, measured, painted
from study import PLANTED

from spacex.checkpoint import load_checkpoint
from spacex.synthetic.region import DEMO_SEED

DENSITIES = {"density on the knolls": "density_ignored", "density on mire and fell": "density_used"}


def main() -> None:
    """Paint, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="of generators for B02, B03, B04; the weights that ship if not given")
    checkpoint = load_checkpoint(parser.parse_args().checkpoint, bands=BANDS)
    with TemporaryDirectory() as folder:
        painted(Path(folder) / "planted", chips=PLANTED, seed=DEMO_SEED, planted="random")
        chips = measured(checkpoint, METHODS, Path(folder) / "planted")
    rows = []
    for method, part in chips.groupby("method", sort=False):
        density = {name: f"{part[column].mean():.1f}" for name, column in DENSITIES.items()}
        rows.append({"method": method, "chips": len(part), **knolls(part), **density})
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
