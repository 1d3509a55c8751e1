"""Chips per second of every attribution method, on this machine.

    python tests/benchmarks/methods.py --base 32 --chips 4

Random weights are as fast as trained ones. A method that builds on shared work (x−, say) is charged for it, so each
number is what the method would cost alone. Median of `--repeat` runs after one to warm up.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from spacex.attribution.attributor import Attributor
from spacex.checkpoint import Checkpoint, load_checkpoint
from spacex.evaluation.methods.asos import fit
from spacex.evaluation.methods.captum import QUICK, Effort
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps
from spacex.evaluation.methods.selection import all_methods, choose
from spacex.model_card import Card, Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.generator import Generator, GeneratorSettings


def random_checkpoint(base: int) -> Checkpoint:
    """Networks of the default preset's shape with random weights."""
    torch.manual_seed(0)
    shape, generator = ClassifierSettings(base=base), GeneratorSettings(base=base, cap=4 * base)
    card = Card(
        kind="patterns", bands=("B02", "B03", "B04"), scaling=Scaling(mean=(0.04,) * 3, std=(0.03,) * 3),
        classifier=shape, generator=generator,
    )  # fmt: skip
    networks = (Classifier(shape), Generator(generator), Generator(generator))
    return Checkpoint(card, *(network.eval().requires_grad_(False) for network in networks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a real checkpoint instead of random weights")
    parser.add_argument("--base", type=int, default=32, help="channels of the random networks' first level")
    parser.add_argument("--chips", type=int, default=4, help="chips per batch")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="the settings of jobs/evaluate.py --quick")
    parser.add_argument("--methods", default="", help="names separated by commas; all if left out")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    checkpoint = load_checkpoint(chosen.checkpoint) if chosen.checkpoint else random_checkpoint(chosen.base)
    x = torch.rand(chosen.chips, len(checkpoint.card.bands), 256, 256) * 0.2
    attributor = Attributor(checkpoint, supported_maps(checkpoint))
    first = ChipBatch(attributor, x, [str(i) for i in range(len(x))])
    space = fit([first.network.activation_map(first.u)], first.network.head)
    listed = all_methods(checkpoint, QUICK if chosen.quick else Effort(), space)
    if chosen.methods:
        listed = choose(listed, chosen.methods.split(","))
    print(f"{chosen.chips} chips of 256 x 256, {chosen.threads} threads, torch {torch.__version__}")
    for method in listed:
        seconds = [method.timed(ChipBatch(attributor, x, first.names))[1] for _ in range(chosen.repeat + 1)][1:]
        print(f"{method.name:28s} {len(x) / statistics.median(seconds):10.2f} chips/s")


if __name__ == "__main__":
    main()
