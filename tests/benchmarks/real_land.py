"""Classifiers and maps on real pixels: EuroSAT chips of places that no training has seen.

    python tests/benchmarks/real_land.py scores --data eurosat:FOLDER
    python tests/benchmarks/real_land.py pointing --data eurosat:FOLDER --checkpoints europe,runs/second,runs/wide
    python tests/benchmarks/real_land.py surface --data bigearthnet:FOLDER --tiffs FOLDER/*.tif
    python tests/benchmarks/real_land.py changes --data eurosat:FOLDER --second runs/second

`scores`: AUROC, accuracy and calibration of single chips and of mosaics of 256 pixels, beside boosted trees on six
colour numbers (mean and deviation of each band), with paired intervals by place; by class and by country; the score of
mosaics against their natural share. `pointing`: the grid pointing game (Boehle, Fritz & Schiele, CVPR 2021) on mosaics
half of whose cells are of natural land: the share of a map's positive values that lies on natural cells, chance .5.
Cells are whole chips of 64 pixels, or squares of 16 cut from two mosaics. `surface`: the scores of L2A patches.
`changes`: what the generators do to scores.

Mosaics are made of neighbours of the test split; a place is a cell of 1 x 1.5 degrees. Tables are printed, and written
as CSV with `--output`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import rasterio
import torch
from numpy.typing import NDArray
from real_chips import RGB, SIDE, Land, mixed
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_calibration_error

from spacex.attribution.attributor import Attributor
from spacex.bootstrap import auroc, compare, draw, interval, of_draws
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.errors import DataError
from spacex.evaluation.methods.captum import Effort, deep_lift
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, supporting
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.training.data import SPLITS, DatasetSettings, open_split

METHODS = (
    "lift+", "lift-8+", "lift", "path+", "attribution", "lowered", "deeplift+", "deeplift-blur+", "integrated+",
    "gradcam-first", "gradcam-last", "occlusion+", "brightness", "excess-green", "chance",
)  # fmt: skip
"""`lift` is the map as cubes store it, without signs; `lift+` its positive part of the mean over bands."""
MOSAICS = 200
"""Of each kind, in the comparison with the colour control."""
APART = ("Finland", "Denmark", "Estonia")


@torch.no_grad()
def scores(checkpoint: Checkpoint, x: Tensor, batch: int = 32) -> NDArray[np.float64]:
    """The classifier's scores of chips of any size, (n,); its convolutions in bfloat16, as maps are made by default."""
    network, parts = checkpoint.classifier.to(memory_format=torch.channels_last), []
    with torch.autocast("cpu", torch.bfloat16):
        for part in x.split(batch):
            u = checkpoint.card.scaling.standardise(part).contiguous(memory_format=torch.channels_last)
            parts.append(network(u).float())
    return torch.sigmoid(torch.cat(parts)).double().numpy()


def colours(x: Tensor) -> NDArray[np.float32]:
    """Mean and deviation of each band: all that the control sees."""
    return torch.cat([x.mean((2, 3)), x.std((2, 3))], dim=1).numpy()


def compared(name: str, truth: NDArray[np.bool_], ours: NDArray[np.float64], rival: NDArray[np.float64],
             places: list[str]) -> dict[str, object]:  # fmt: skip
    """A row: a classifier beside the colour control on the same chips."""
    draws = draw(places)
    few = draw(places, 500)
    areas = [auroc(truth, values, few) for values in (ours, rival)]
    gap = of_draws(areas[0] - areas[1], few)
    right = [((values > 0.5) == truth).astype(float) for values in (ours, rival)]
    ece = binary_calibration_error(torch.from_numpy(ours), torch.from_numpy(truth).long(), n_bins=15)
    return {
        "chips": name, "n": len(truth), "places": len(set(places)),
        "AUROC": f"{areas[0][0]:.4f}", "colour": f"{areas[1][0]:.4f}",
        "AUROC - colour": f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
        "accuracy": str(interval(right[0], draws)), "colour's": str(interval(right[1], draws)),
        "accuracy - colour's": str(compare(right[0], right[1], draws).difference), "ECE": f"{float(ece):.3f}",
    }  # fmt: skip


def countries(infos: pd.DataFrame) -> pd.Series:
    """Country of each chip by a coarse outline (1 : 110 million), the nearest where it lies in none."""
    outlines = Path(pyogrio.__file__).parent / "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp"
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(infos["lon"], infos["lat"]), crs=4326).to_crs(3035)
    world = gpd.read_file(outlines, bbox=(-25, 33, 45, 72)).to_crs(3035)[["name", "geometry"]]
    joined = gpd.sjoin_nearest(points, world)
    return joined[~joined.index.duplicated()]["name"].set_axis(infos.index)


def report_scores(asked: argparse.Namespace) -> list[pd.DataFrame]:
    """Single chips, mosaics, classes and countries."""
    checkpoint = load_checkpoint(asked.checkpoints[0])
    train, test = Land.open(asked.data, "train"), Land.open(asked.data, "test")
    control = HistGradientBoostingClassifier(random_state=0).fit(colours(train.x), train.natural)

    def rival(x: Tensor) -> NDArray[np.float64]:
        return np.asarray(control.predict_proba(colours(x))[:, 1])

    ours = scores(checkpoint, test.x, 256)
    rows = [compared("single, 64 pixels", test.natural, ours, rival(test.x), test.places)]
    # mosaics have a control of their own size
    truth = np.repeat([True, False], MOSAICS)
    learnt, seen = ([mixed(land, MOSAICS, 4, SIDE, share, 1) for share in (1.0, 0.0)] for land in (train, test))
    control = HistGradientBoostingClassifier(random_state=0).fit(colours(torch.cat([x for x, *_ in learnt])), truth)
    x, places = torch.cat([x for x, *_ in seen]), [place for part in seen for place in part[2]]
    rows.append(compared("mosaics, 256 pixels", truth, scores(checkpoint, x, 8), rival(x), places))
    shares, values = np.repeat([0.0, 0.25, 0.5, 0.75, 1.0], 100), []
    for number, share in enumerate(np.unique(shares)):
        values.append(scores(checkpoint, mixed(test, 100, 4, SIDE, share, 2 + number)[0], 8))
    mixtures = pd.DataFrame({"natural share": shares, "score": np.concatenate(values)})
    print(f"score against natural share: correlation {mixtures.corr().iloc[0, 1]:.3f}")
    table = test.infos.assign(score=ours, right=(ours > 0.5) == test.natural, country=countries(test.infos))
    table["natural"] = test.natural
    by_class = table.groupby("class").agg(chips=("score", "size"), natural=("score", lambda s: (s > 0.5).mean()))
    by_country = [
        {"country": name, "chips": len(part), "natural": int(part["natural"].sum()), "accuracy": part["right"].mean(),
         "AUROC": auroc(part["natural"].to_numpy(), part["score"].to_numpy(), draw(["one"] * len(part), 0))[0]}
        for name, part in table.groupby("country") if len(part) >= 30 or name in APART
    ]  # fmt: skip
    worst_first = pd.DataFrame(by_country).sort_values("AUROC")
    return [pd.DataFrame(rows), mixtures.groupby("natural share").agg(["mean", "std"]), by_class, worst_first]


def blurred(chips: ChipBatch) -> Tensor:
    """The chips after a box of 33 pixels, twice: a common baseline without their patterns."""
    u = chips.u
    for _ in range(2):
        u = F.avg_pool2d(F.pad(u, (16,) * 4, mode="reflect"), 33, stride=1)
    return u


def methods_of(checkpoint: Checkpoint, names: Sequence[str]) -> list[Method]:
    """The named methods, as far as this checkpoint allows them."""
    red, green, blue = (checkpoint.card.bands.index(band) for band in ("B04", "B03", "B02"))

    def excess_green(chips: ChipBatch) -> Tensor:
        return (2 * chips.x[:, green] - chips.x[:, red] - chips.x[:, blue]).clamp(min=0)

    listed = all_methods(checkpoint, Effort(gradient_steps=32))

    def summed_lift(chips: ChipBatch) -> Tensor:
        summed = F.avg_pool2d(chips.lift.mean(dim=1, keepdim=True), 8).clamp(min=0)
        return F.interpolate(summed, scale_factor=8)[:, 0]

    listed += [
        Method("lift-8+", "ours", summed_lift, "Lift summed over squares of 8 pixels, positive part."),
        Method("deeplift-blur+", "gradient", lambda c: supporting(deep_lift(c, blurred(c))), "DeepLIFT from a blur."),
        Method("excess-green", "trivial", excess_green, "2 B03 - B04 - B02, positive part."),
    ]
    return choose(listed, [method.name for method in listed if method.name in names])


def pointing(
    checkpoint: Checkpoint, land: Land, cell: int, count: int, n: int, names: Sequence[str] = METHODS,
    further: Sequence[Method] = (),
) -> pd.DataFrame:  # fmt: skip
    """Share of each method's positive values on natural cells: a row per mosaic, a column per method, and `place`."""
    x, mask, places = mixed(land, count, n, cell, 0.5, 7)
    attributor = Attributor(checkpoint, ("attribution", "lift", "path_attribution"))
    listed, rows = [*methods_of(checkpoint, names), *further], []
    for start in range(0, count, 4):
        batch = ChipBatch(attributor, x[start : start + 4], [f"mosaic {start + i}" for i in range(4)])
        inside = mask[start : start + 4]
        shares = {}
        for method in listed:
            values = method(batch).clamp(min=0).double()
            shares[method.name] = ((values * inside).sum((1, 2)) / values.sum((1, 2)).clamp(min=1e-12)).numpy()
        rows.append(pd.DataFrame(shares))
    return pd.concat(rows, ignore_index=True).assign(place=places)


def report_pointing(asked: argparse.Namespace) -> list[pd.DataFrame]:
    """A table per size of cell: methods by classifiers, and by how much lift is above each."""
    land, tables = Land.open(asked.data, asked.split), []
    for cell in (64, 16):
        columns = {}
        for uri in asked.checkpoints:
            checkpoint = load_checkpoint(uri)
            n = max(checkpoint.card.chip_size // SIDE, 2)
            shares = pointing(checkpoint, land, cell, asked.count, n, asked.methods)
            draws = draw(shares.pop("place").tolist())
            lift = shares["lift+"].to_numpy()
            columns[f"{uri}, {cell}"] = {name: str(interval(shares[name].to_numpy(), draws)) for name in shares}
            columns[f"lift - it, {uri}"] = {
                name: str(compare(lift, shares[name].to_numpy(), draws).difference) for name in shares
            }
        tables.append(pd.DataFrame(columns))
    return tables


def report_changes(asked: argparse.Namespace) -> list[pd.DataFrame]:
    """What x- and x+ do to the scores of natural and of other mosaics of the checkpoint's chip size."""
    checkpoint, land = load_checkpoint(asked.checkpoints[0]), Land.open(asked.data, asked.split)
    judges = {"its own": checkpoint} | ({"a second": load_checkpoint(asked.second)} if asked.second else {})
    attributor, n, rows = Attributor(checkpoint, ("attribution",)), checkpoint.card.chip_size // SIDE, []
    for kind, share in (("natural", 1.0), ("other", 0.0)):
        x, _, places = mixed(land, asked.count, n, SIDE, share, 11)
        parts = [ChipBatch(attributor, part, [str(i) for i in range(len(part))]) for part in x.split(8)]
        minus, plus = (torch.cat([getattr(part, name) for part in parts]) for name in ("x_minus", "x_plus"))
        draws = draw(places)
        for judge, network in judges.items():
            before, low, high = (scores(network, values, 16) for values in (x, minus, plus))
            natural = np.where(before > 0.5, 1.0, np.nan)
            rows.append({
                "chips": kind, "judge": judge, "score": f"{before.mean():.3f}", "of x-": f"{low.mean():.3f}",
                "of x+": f"{high.mean():.3f}", "x- lowers": str(interval((low < before).astype(float), draws)),
                "x- turns": str(interval(natural * (low < 0.5), draws)),
                "x+ raises": str(interval((high > before).astype(float), draws)),
                "x+ turns": str(interval(np.where(before < 0.5, 1.0, np.nan) * (high > 0.5), draws)),
                "change x-": f"{(minus - x).abs().mean():.4f}", "change x+": f"{(plus - x).abs().mean():.4f}",
            })  # fmt: skip
    return [pd.DataFrame(rows)]


def report_surface(asked: argparse.Namespace) -> list[pd.DataFrame]:
    """Scores of surface (L2A) patches one by one: what is learnt on corrected L1C, on what maps see."""
    checkpoint, rows = load_checkpoint(asked.checkpoints[0]), []
    for split in SPLITS:
        with suppress(DataError):  # a split may be empty
            chips = open_split(DatasetSettings(root=asked.data, bands=RGB), split)
            x, _ = chips.__getitems__(list(range(len(chips))))
            table = chips.infos[["file", "lat", "lon", "label"]].assign(score=scores(checkpoint, x))
            rows.append(table.assign(cover=chips.infos["labels"].map(", ".join) if "labels" in chips.infos else ""))
    for path in asked.tiffs:
        with rasterio.open(path) as source:  # B02, B03, B04 first, as BioMassters has them
            x = torch.from_numpy(source.read([1, 2, 3]).astype(np.float32) / 10000)
        rows.append(pd.DataFrame({"file": [path.name], "score": scores(checkpoint, x[None])}))
    return [pd.concat(rows, ignore_index=True).sort_values("score")]


REPORTS = {"surface": report_surface, "scores": report_scores, "pointing": report_pointing, "changes": report_changes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", choices=REPORTS)
    parser.add_argument("--data", required=True, help="eurosat:FOLDER")
    parser.add_argument("--checkpoints", default=["europe"], type=lambda text: text.split(","), metavar="A,B,C")
    parser.add_argument("--second", help="another classifier that judges x- and x+")
    parser.add_argument("--tiffs", type=Path, nargs="*", default=[], help="chips for `surface`, B02, B03, B04 first")
    parser.add_argument(
        "--methods", default=METHODS, type=lambda text: text.split(","), metavar="A,B", help="lift+ too"
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="of `pointing` and `changes`; choose on val")
    parser.add_argument("--count", type=int, default=200, help="mosaics")
    parser.add_argument("--output", type=Path, help="folder of the tables as CSV")
    asked = parser.parse_args()
    pd.set_option("display.width", 250, "display.max_columns", 40, "display.precision", 3)
    for number, table in enumerate(REPORTS[asked.report](asked)):
        print(table.to_string(), end="\n\n")
        if asked.output:
            asked.output.mkdir(parents=True, exist_ok=True)
            table.to_csv(asked.output / f"{asked.report}-{number}.csv")


if __name__ == "__main__":
    main()
