"""How well the area of applicability tells the known from the strange, with the weights that ship; and its price.

    python tests/benchmarks/applicability.py             # shares outside, AUROC of planted strangeness
    python tests/benchmarks/applicability.py --checkpoint europe --data eurosat:FOLDER
    python tests/benchmarks/applicability.py --checkpoint europe --data eurosat:FOLDER --countries
    python tests/benchmarks/applicability.py --price     # milliseconds of judging a chip, with it and without

The known: a data set's test split, and an embedded country under another seed. The strange: a real scene of Belgian
fields and industry where there is one, and the test chips spoiled in six ways. Prints a line for each; in brackets
what the classifier's layers alone say. `--countries` leaves the training chips of one country after another out of the
fit, and counts how many of that country's chips, of training and test, are outside then: the classifier was trained
on them, its area of applicability was not. Choose features and thresholds on `--split val`.
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
import pandas as pd
import rasterio
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

sys.path.insert(0, str(Path(__file__).parents[1]))

import real_files
from real_land import countries

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.datasets.tiles import Chips
from spacex.models.applicability import feature_extractor, learn_applicability, spatial_folds
from spacex.synthetic.dataset import build_dataset
from spacex.training.applicability import CHIPS
from spacex.training.batches import shard
from spacex.training.data import DatasetSettings, evenly_spaced, open_split

ABROAD = 20_977
"""Seed of a country that nothing was trained on."""


Index = dict[str, Tensor]
"""Dissimilarity of chips (n,) by what it is of: "all", or the classifier's "layers" alone."""


def features_of(checkpoint: Checkpoint, x: Tensor) -> Tensor:
    """`FeatureStatistics` (n, features) of chips (n, bands, side, side), reflectance."""
    extract = feature_extractor(checkpoint.classifier, checkpoint.card.features)
    return torch.cat([extract(checkpoint.card.scaling.standardise(part)) for part in x.split(16)])


def unlike(checkpoint: Checkpoint, x: Tensor) -> Index:
    known, statistics = checkpoint.applicability, features_of(checkpoint, x)
    if known is None:
        raise SystemExit(f"{checkpoint.uri} has no area of applicability")
    layers = dataclasses.replace(known, bands=None)
    return {"all": known.dissimilarity(statistics), "layers": layers.dissimilarity(statistics)}


def chips_of(split: Chips, chosen: list[int] | None = None) -> Tensor:
    return torch.cat([x for x, _ in shard(split, chosen or split.all, 16)])


def belgium(bands: tuple[str, ...], chip: int) -> Tensor | None:
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
    rows, cols = (range(0, side - chip + 1, chip // 2) for side in scene.shape[1:])
    cut = [scene[:, r : r + chip, c : c + chip] for r in rows for c in cols]
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
    yield "light haze (0.8 x + 0.05)", 0.8 * x + 0.05
    yield "bands rotated", x.roll(1, dims=1)
    left, right = x.chunk(2, dim=-1)
    yield "a blank half", torch.cat([torch.zeros_like(left), right], dim=-1)
    yield "a half of its own mean", torch.cat([left.mean((2, 3), keepdim=True).expand_as(left), right], dim=-1)


def shares(checkpoint: Checkpoint, data: DatasetSettings, name: str) -> None:
    """Print what is outside, of the known and of the strange."""
    split = open_split(data, name)  # type: ignore[arg-type]
    x = chips_of(split)
    known, natural = unlike(checkpoint, x), torch.tensor(split.infos["label"].to_numpy()[split.all] == 1)
    parts = {part: {k: v[own] for k, v in known.items()} for part, own in (("natural", natural), ("other", ~natural))}
    each = ", ".join(f"{part} {outside(index)}" for part, index in parts.items())
    print(f"{name} chips of {data.root.split(':')[0]} ({len(x)}): {outside(known)} outside; {each}")
    if data.root == "demo":
        with tempfile.TemporaryDirectory() as folder:
            root = build_dataset(folder, {"train": 4, "test": 120}, seed=ABROAD)
            abroad = chips_of(open_split(DatasetSettings(root=str(root), bands=data.bands), "test"))
        print(f"an embedded country of another seed ({len(abroad)}): {outside(unlike(checkpoint, abroad))} outside")
    scene = belgium(data.bands, checkpoint.card.chip_size)
    if scene is not None:
        far = unlike(checkpoint, scene)
        print(f"Belgian fields and industry ({len(scene)}): {outside(far)} outside, median {far['all'].median():.2f}")
    for name, strange in spoiled(x):
        found = unlike(checkpoint, strange)
        told = ", ".join(f"{of} {auroc(known[of], found[of]):.3f}" for of in found)
        print(f"{name}: AUROC {told}; {outside(found)} outside")


def auroc(known: Tensor, strange: Tensor) -> float:
    labels = torch.cat([torch.zeros(len(known)), torch.ones(len(strange))]).long()
    # by ranks: the function squashes values that lie outside 0..1
    return float(binary_auroc(torch.cat([known, strange]).argsort().argsort() / len(labels), labels))


def outside(found: Index) -> str:
    every, layers = (100 * (values > 1).float().mean() for values in (found["all"], found["layers"]))
    return f"{every:.1f} % ({layers:.1f} %)"


def leave_countries_out(checkpoint: Checkpoint, data: str) -> None:
    """Print how many chips of a country are outside if no chip of it was fitted to."""
    tables, features = [], []
    for name in ("train", "test"):
        split = open_split(DatasetSettings(root=data, bands=checkpoint.card.bands), name)  # type: ignore[arg-type]
        chosen = evenly_spaced(split.all, CHIPS)
        tables.append(split.infos.iloc[chosen][["lat", "lon", "group"]].assign(split=name))
        features.append(features_of(checkpoint, chips_of(split, chosen)))
    table, statistics = pd.concat(tables, ignore_index=True), torch.cat(features)
    table["country"] = countries(table)
    train = table["split"] == "train"
    for country, part in table.groupby("country"):
        rest = table[train & (table["country"] != country)]
        known = learn_applicability(
            statistics[rest.index], spatial_folds(list(rest["group"])), len(checkpoint.card.bands)
        )
        for of, area in (("all", known), ("layers", dataclasses.replace(known, bands=None))):
            table.loc[part.index, of] = (area.dissimilarity(statistics[part.index]) > 1).numpy()
    for name, part in table.groupby("split"):
        print(f"{name} chips of left-out countries ({len(part)}): {100 * part['all'].mean():.1f} % outside "
              f"({100 * part['layers'].mean():.1f} %)")  # fmt: skip
    by_country = table.groupby("country").agg(chips=("all", "size"), outside=("all", "mean"), layers=("layers", "mean"))
    print(by_country.astype({"outside": float, "layers": float}).round(3).sort_values("outside").to_string())


def price(checkpoint: Checkpoint, turns: int) -> None:
    shape = (1, len(checkpoint.card.bands), *[checkpoint.card.chip_size] * 2)
    x = np.random.default_rng(0).random(shape, dtype=np.float32) * 0.1
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
    print(f"judging a chip, {torch.get_num_threads()} thread(s), processor time: {middle}, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="store_true", help="measure what it costs instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--data", default="demo", help="what it was trained on")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--limit", type=int, help="use so many chips of the split")
    parser.add_argument("--countries", action="store_true", help="leave countries out of the fit; needs places")
    chosen = parser.parse_args()
    checkpoint = load_checkpoint(chosen.checkpoint)
    torch.set_num_threads(chosen.threads)
    if chosen.price:
        price(checkpoint, chosen.turns)
    elif chosen.countries:
        leave_countries_out(checkpoint, chosen.data)
    else:
        data = DatasetSettings(root=chosen.data, bands=checkpoint.card.bands, limit=chosen.limit)
        shares(checkpoint, data, chosen.split)


if __name__ == "__main__":
    main()
