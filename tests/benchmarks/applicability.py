"""How well the area of applicability tells the known from the strange, with the weights that ship; and its price.

    python tests/benchmarks/applicability.py             # shares outside, AUROC of planted strangeness
    python tests/benchmarks/applicability.py --price     # milliseconds of judging a chip, with it and without

The known: the embedded test split, and an embedded country under another seed. The strange: a real scene of Belgian
fields and industry where there is one, and the embedded test chips spoiled in five ways. Prints a line for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

sys.path.insert(0, str(Path(__file__).parents[1]))

import real_files

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.datasets.tiles import Chips
from spacex.synthetic.dataset import build_dataset
from spacex.training.batches import shard
from spacex.training.data import DatasetSettings, open_split

ABROAD = 20_977
"""Seed of a country that nothing was trained on."""


def unlike(checkpoint: Checkpoint, x: Tensor) -> Tensor:
    """Dissimilarity of chips (n, bands, 256, 256), reflectance."""
    attributor = Attributor(checkpoint, ())
    parts = [attributor.score(attributor.standardise(part.numpy())) for part in x.split(8)]
    return torch.cat([part.dissimilarity for part in parts])


def chips_of(split: Chips) -> Tensor:
    return torch.cat([x for x, _ in shard(split, split.all, 16)])


def belgium(bands: tuple[str, ...]) -> Tensor | None:
    """Whole chips of the real scene, the clear pixels of three days put together; None if it is not here."""
    root = real_files.find("archive/pixels/boa")
    if root is None:
        return None
    days = sorted(root.iterdir())
    scene = torch.full((len(bands), *_plane(days[0] / f"{bands[0]}.tif").shape), torch.nan)
    for day in days:
        classes = _plane(day / "SCL.tif")
        clear = np.isin(np.kron(classes, np.ones([scene.shape[1] // len(classes)] * 2)), (2, 4, 5, 6, 7))
        found = torch.from_numpy(np.stack([_plane(day / f"{band}.tif") for band in bands]).astype("float32")) / 10_000
        scene = torch.where(torch.from_numpy(clear) & (found > 0).all(0), found, scene)
    scene = torch.where(scene.isnan(), scene.nanmean((1, 2), keepdim=True), scene)
    rows, cols = (range(0, side - 255, 128) for side in scene.shape[1:])
    cut = [scene[:, r : r + 256, c : c + 256] for r in rows for c in cols]
    return torch.stack(cut)


def _plane(file: Path) -> np.ndarray:
    with rasterio.open(file) as source:
        return source.read(1)


def spoiled(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same chips, made strange in the ways a careless archive would."""
    drawn = torch.Generator().manual_seed(0)
    yield (
        "another gain per band (factor exp(N(0, 0.5)))",
        x * torch.exp(0.5 * torch.randn(len(x), x.shape[1], 1, 1, generator=drawn)),
    )
    yield "heavy haze (0.6 x + 0.15)", 0.6 * x + 0.15
    yield "bands rotated", x.roll(1, dims=1)
    yield "a blank half", torch.cat([torch.zeros_like(x[..., :128]), x[..., 128:]], dim=-1)


def shares(checkpoint: Checkpoint) -> None:
    bands = checkpoint.card.bands
    test = open_split(DatasetSettings(root="demo", bands=bands), "test")
    x = chips_of(test)
    known = unlike(checkpoint, x)
    print(f"embedded test chips ({len(x)}): {100 * outside(known):.1f} % outside; natural "
          f"{100 * outside(known[test.labels]):.1f} %, other {100 * outside(known[~test.labels]):.1f} %")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = build_dataset(folder, {"train": 4, "test": 120}, seed=ABROAD)
        abroad = unlike(checkpoint, chips_of(open_split(DatasetSettings(root=str(root), bands=bands), "test")))
    print(f"an embedded country under another seed ({len(abroad)}): {100 * outside(abroad):.1f} % outside")
    scene = belgium(bands)
    if scene is not None:
        far = unlike(checkpoint, scene)
        print(f"Belgian fields and industry ({len(far)}): {100 * outside(far):.1f} % outside, "
              f"median {far.median():.2f}")  # fmt: skip
    for name, strange in spoiled(x):
        found = unlike(checkpoint, strange)
        labels = torch.cat([torch.zeros(len(known)), torch.ones(len(found))]).long()
        # AUROC by ranks: the function squashes values that lie outside 0..1
        auroc = binary_auroc(torch.cat([known, found]).argsort().argsort() / len(labels), labels)
        print(f"{name}: AUROC {auroc:.3f}, {100 * outside(found):.0f} % outside")


def outside(found: Tensor) -> float:
    return float((found > 1).float().mean())


def price(checkpoint: Checkpoint, threads: int, turns: int) -> None:
    torch.set_num_threads(threads)
    x = np.random.default_rng(0).random((1, len(checkpoint.card.bands), 256, 256), dtype=np.float32) * 0.1
    delta_minus = np.full_like(x, -0.1)
    blind = dataclasses.replace(checkpoint, applicability=None)
    sides = {name: Attributor(one, ("lift",)) for name, one in (("with", checkpoint), ("without", blind))}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 3):
        for name, patterns in sorted(sides.items(), reverse=turn % 2 == 0):
            begun = time.process_time()
            patterns.classify(x, delta_minus)()
            seconds[name] += [time.process_time() - begun] if turn >= 3 else []
    ratio = statistics.median(a / b for a, b in zip(seconds["with"], seconds["without"], strict=True))
    middle = {name: f"{1000 * statistics.median(values):.1f} ms" for name, values in seconds.items()}
    print(f"judging a chip, {threads} thread(s), processor time: {middle}, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="store_true", help="measure what it costs instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--checkpoint", help="other than the weights that ship")
    chosen = parser.parse_args()
    checkpoint = load_checkpoint(chosen.checkpoint)
    price(checkpoint, chosen.threads, chosen.turns) if chosen.price else shares(checkpoint)


if __name__ == "__main__":
    main()
