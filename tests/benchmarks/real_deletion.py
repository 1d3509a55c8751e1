"""Deletion and insertion on real chips, with x- and with chips of the other class as filling.

    python tests/benchmarks/real_deletion.py --data eurosat:FOLDER

Pixels of natural chips that the classifier takes for natural are replaced by the filling, those first where a map is
highest (deletion: the mean score on the way, low is good), or put back into it (insertion: high is good). From
`spacex.evaluation.perturbation`, on the test split, intervals by place. With x- as filling, lift is asked in what it is
complete in, and methods that do not know x- are not; with a real chip as filling all are asked the same.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from real_chips import Land
from real_land import METHODS, methods_of

from spacex.attribution.attributor import Attributor
from spacex.bootstrap import compare, draw, interval
from spacex.checkpoint import load_checkpoint
from spacex.evaluation.methods.chip_batch import ChipBatch
from spacex.evaluation.perturbation import areas


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="eurosat:FOLDER")
    parser.add_argument("--checkpoint", default="europe")
    parser.add_argument("--count", type=int, default=120, help="chips")
    asked = parser.parse_args()
    checkpoint, land, rng = load_checkpoint(asked.checkpoint), Land.open(asked.data, "test"), np.random.default_rng(0)
    attributor = Attributor(checkpoint, ("attribution", "lift", "path_attribution"))
    kinds = [np.flatnonzero(land.natural == kind) for kind in (True, False)]
    natural, other = (torch.from_numpy(rng.choice(kind, asked.count, replace=False)) for kind in kinds)
    methods, frames = [m for m in methods_of(checkpoint, METHODS) if m.name != "lift-8+"], []
    for part in torch.arange(asked.count).split(8):
        batch = ChipBatch(attributor, land.x[natural[part]], [f"chip {i}" for i in part.tolist()])
        batch = batch.pick((batch.score > 0.5).numpy())
        real = attributor.standardise(land.x[other[part[: len(batch.x)]]].numpy())
        # a chip's name is the number of the draw
        places = [land.places[int(natural[int(name.split()[1])])] for name in batch.names]
        for method in methods:
            values = method(batch)
            for filling, u in (("x-", batch.u_minus), ("other", real)):
                deletion, insertion = areas(
                    lambda v: torch.sigmoid(attributor.score(v).logit), batch.u, u, values, batch=64
                )
                frames.append(pd.DataFrame({"method": method.name, "filling": filling, "place": places,
                                            "deletion": deletion.numpy(), "insertion": insertion.numpy()}))  # fmt: skip
    chips = pd.concat(frames, ignore_index=True)
    columns: dict[str, dict[str, str]] = {}
    for (filling, method), each in chips.groupby(["filling", "method"], sort=False):
        draws = draw(each["place"].tolist())
        ours = chips[(chips["filling"] == filling) & (chips["method"] == "lift")]
        for name, sign in (("deletion", -1), ("insertion", 1)):
            columns.setdefault(f"{name}, {filling}", {})[method] = str(interval(each[name].to_numpy(float), draws))
            gain = compare(sign * ours[name].to_numpy(float), sign * each[name].to_numpy(float), draws).difference
            columns.setdefault(f"lift better by, {name}, {filling}", {})[method] = str(gain)
    pd.set_option("display.width", 300, "display.max_columns", 40)
    print(f"{len(ours)} chips\n{pd.DataFrame(columns).to_string()}")


if __name__ == "__main__":
    main()
