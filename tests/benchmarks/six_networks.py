"""Networks that people train, on real chips: lift beside other maps, and whether x- turns what they take for natural.

    python tests/benchmarks/six_networks.py train resnet18 vit_tiny --data eurosat:FOLDER --output runs/six
    python tests/benchmarks/six_networks.py measure resnet18 vit_tiny --data eurosat:FOLDER --output runs/six

`train` runs `spacex train-classifier` and `spacex train-gan` with few steps each. `measure` prints, on places that no
training has seen: the classifier's accuracy and AUROC; how far lift's sum is from the change of the logit; forward pass
and lift in processor time; whether x- turns natural chips; and the grid pointing game of `real_land.py` for cells of 64
and of 16 pixels, with lift's lead over every other map by place. `europe` names the checkpoint that ships. timm must be
importable (its folder in PYTHONPATH).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from real_chips import SIDE, Land, mixed
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import timm_networks

import spacex
from spacex.attribution.attributor import Attributor
from spacex.bootstrap import compare, draw, interval
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.errors import RequestError
from spacex.evaluation.methods.captum import deep_lift, gradient
from spacex.evaluation.methods.chip_batch import ChipBatch, Method, supporting


@dataclass(frozen=True)
class Network:
    """How one network is built and trained."""

    arguments: dict[str, Any]
    """Of `timm.create_model`; empty: our U-Net, which takes chips of one size and so learns on mosaics of 2 x 2."""
    limit: int | None
    """Training chips."""
    epochs: int
    rate: float = 0.001
    recipe: dict[str, Any] = field(default_factory=dict)
    """Of the classifier, where it is not that of `europe`."""
    mosaic: int = 1
    """Chips a side of the mosaics that are learned from."""
    rounds: int = 1
    """Trainings of the classifier one after the other, each from the weights of the one before."""


PLAIN = {"cutmix": 0, "gains": "[0,0]", "offsets": "[0,0]"}
"""With mixed or altered chips a network of layer normalisation stays for hundreds of steps at what brightness tells."""
NETWORKS = {
    "resnet18": Network({"model_name": "resnet18"}, 4000, 3, 0.003),
    "mobilenetv3_small": Network({"model_name": "mobilenetv3_small_100"}, None, 5, 0.003),
    "convnext_atto": Network({"model_name": "convnext_atto", "patch_size": 2, "ls_init_value": None}, None, 10,
                             0.003, PLAIN, rounds=2),
    "vit_tiny": Network(
        {"model_name": "vit_tiny_patch16_224", "img_size": 64, "patch_size": 8, "depth": 6, "dynamic_img_size": True},
        3000, 4
    ),
    "swin": Network(
        {"model_name": "swin_tiny_patch4_window7_224", "img_size": 64, "window_size": 4, "embed_dim": 48,
         "depths": [2, 2, 2], "num_heads": [2, 4, 8], "strict_img_size": False}, None, 6, 0.001, PLAIN
    ),
    "unet": Network({}, 3000, 5, 0.003, mosaic=2),
}  # fmt: skip
"""Small ones of each family; ViT with patches of 8 pixels and Swin of three stages, for chips of 64."""
GENERATORS = (
    "warmup=20", "weights.activation=5", "weights.similarity=2", "weights.edges=1", "other_cost=2", "cells=4",
    "batch=16", "generator.base=12", "generator.cap=48", "generator.blocks=3", "generator.downs=2", "generator.stem=5",
    "turns=0.97",
)  # fmt: skip
"""As those of `europe`, with which (activation 1.2, edges 3) a ResNet-18's and a ViT's changed nothing in 270 steps.

Six epochs: after three, Swin's x- turned .68 of the test chips and not .78, and ResNet-18's .66 and not all.
"""


def train(name: str, data: str, folder: Path, small: bool) -> None:
    """A classifier by `train_classifier`, its generators by `train_gan`, each with few steps."""
    network, begun = NETWORKS[name], time.process_time()
    recipe = {"batch": 64, "rate": network.rate, "weight_decay": 0.05, "loss": "bce", "cutmix": 0.5,
              "gains": "[0.15,0.08]", "offsets": "[0.0086,0.0086]"} | network.recipe  # fmt: skip
    shape = {"base": 8}
    if network.arguments:
        shape = {"network": "timm:create_model", "arguments": network.arguments | {"num_classes": 1}}
    common: dict[str, Any] = {"precision": "bfloat16", "mosaic": network.mosaic}
    classifier, generators = "", str(folder / name / "patterns")
    for turn in range(network.rounds):
        weights = str(next(Path(classifier).glob("classifier-*.safetensors"))) if classifier else None
        classifier = str(folder / name / f"classifier{turn or ''}")
        spacex.train_classifier(
            data, classifier, bands=["B02", "B03", "B04"], epochs=1 if small else network.epochs,
            limit=64 if small else network.limit, changes=[f"recipe.{key}={value}" for key, value in recipe.items()],
            weights=weights, **shape, **common,
        )  # fmt: skip
    print(f"{name}: classifier after {time.process_time() - begun:.0f} CPU s", flush=True)
    spacex.train_gan(
        data, classifier, generators, epochs=1 if small else 6, limit=64 if small else 6000, changes=GENERATORS,
        **common,
    )  # fmt: skip
    print(f"{name}: generators after {time.process_time() - begun:.0f} CPU s", flush=True)


METHODS = ("lift+", "lift-8+", "lift", "path+", "integrated+", "gradcam-first", "gradcam-last", "occlusion+",
           "excess-green", "brightness")  # fmt: skip
"""Of `real_land`; `path+` are Integrated Gradients from x- in few steps."""


def gradient_times(start: str) -> Method:
    """Gradient times what a chip differs by from its x-, or from black."""

    def draw_map(chips: ChipBatch) -> Tensor:
        return supporting(gradient(chips) * (chips.u - (chips.u_minus if start == "x-" else chips.black)))

    return Method(f"gradient-{start}+", "gradient", draw_map, f"Gradient times the difference from {start}.")


def pointing(checkpoint: Checkpoint, land: Land, cell: int, count: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per map: its share on natural cells, and lift's lead, by place; and what is refused, in words."""
    import real_land  # its packages import torchvision, which `import_timm` must have met before

    extra = [gradient_times("x-"), gradient_times("black")]
    refused = {}
    x = mixed(land, 1, 2, SIDE, 0.5, 7)[0]
    chip = ChipBatch(Attributor(checkpoint, ("attribution", "lift")), x, ["one"])
    try:
        signed = deep_lift(chip, chip.black).sum()
        change = float(checkpoint.classifier(chip.u) - checkpoint.classifier(chip.black))
        refused["DeepLIFT, its sum misses"] = f"{abs(float(signed) - change) / abs(change):.1%} of the change"
        names = (*METHODS, "deeplift+")
    except RequestError as error:
        refused["DeepLIFT refused"] = str(error)[:100]
        names = METHODS
    shares = real_land.pointing(checkpoint, land, cell, count, 2, names, extra)
    draws = draw(shares.pop("place").tolist())
    lift = shares["lift+"].to_numpy()
    rows = {
        name: {"share": str(interval(values.to_numpy(), draws)),
               "lift - it": str(compare(lift, values.to_numpy(), draws).difference)}
        for name, values in shares.items()
    }  # fmt: skip
    best_first = shares.mean().sort_values(ascending=False).index
    return pd.DataFrame(rows).T.loc[best_first], refused


def completeness(checkpoint: Checkpoint, land: Land, count: int) -> str:
    """How far lift's sum is from the plain network's change of the logit, of mosaics and their x-."""
    attributor = Attributor(checkpoint, ("attribution", "lift"))
    x = mixed(land, count, 2, SIDE, 0.5, 7)[0]
    misses = []
    for part in x.split(8):
        chips = ChipBatch(attributor, part, [str(i) for i in range(len(part))])
        with torch.no_grad():
            plain = checkpoint.classifier(chips.u).double() - checkpoint.classifier(chips.u_minus).double()
        misses.append((chips.lift.double().sum((1, 2, 3)) - plain).abs() / plain.abs())
    miss = torch.cat(misses)
    return f"lift misses {miss.median():.1e} of the change in the median, at most {miss.max():.1e} of {count} mosaics"


def cost(checkpoint: Checkpoint, turns: int = 15) -> str:
    """Milliseconds of a forward pass over one chip of the checkpoint's size, and lift as a multiple of it."""
    from spacex.attribution.lift import Lift

    side, bands = checkpoint.card.chip_size, len(checkpoint.card.bands)
    network = checkpoint.classifier.eval().requires_grad_(False)
    x, start = torch.randn(2, 1, bands, side, side).unbind()
    lift, plain, ratios = Lift(network, x), [], []
    for _ in range(turns):
        begun = time.process_time()
        with torch.no_grad():
            network(x)
        plain.append(time.process_time() - begun)
        begun = time.process_time()
        lift(x, start)
        ratios.append((time.process_time() - begun) / plain[-1])
    return f"forward {1000 * min(plain):.1f} ms for {side} pixels, lift x {statistics.median(ratios):.1f}"


def measure(name: str, asked: argparse.Namespace) -> None:
    """Print every figure of one network."""
    import real_land

    uri = name if name == "europe" else str(asked.output / name / "patterns")
    checkpoint, land = load_checkpoint(uri), Land.open(asked.data, "test")
    scores = checkpoint.card.metrics["classifier"]["test"]
    print(f"## {name}: accuracy {scores['accuracy']:.3f}, AUROC {scores['auroc']:.4f}; {cost(checkpoint)}")
    print(completeness(checkpoint, land, 32))
    changes = argparse.Namespace(checkpoints=[uri], data=asked.data, split="test", count=asked.chips, second=None)
    print(real_land.report_changes(changes)[0].T.to_string(), flush=True)
    for cell in (64, 16):
        table, refused = pointing(checkpoint, land, cell, asked.count)
        print(f"cells of {cell}: {refused}\n{table.to_string()}", flush=True)


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NETWORKS)}, europe")
    parser.add_argument("--data", required=True, help="eurosat:FOLDER")
    parser.add_argument("--output", type=Path, default=Path("runs/six"))
    parser.add_argument("--count", type=int, default=60, help="mosaics")
    parser.add_argument("--chips", type=int, default=150, help="single chips, of either kind, that x- and x+ change")
    parser.add_argument("--small", action="store_true", help="one step of each training, to try the steps")
    asked = parser.parse_args()
    timm_networks.import_timm()
    torch.set_num_threads(1)
    for name in asked.names or NETWORKS:
        if asked.what == "train":
            train(name, asked.data, asked.output, asked.small)
        else:
            measure(name, asked)


if __name__ == "__main__":
    main()
