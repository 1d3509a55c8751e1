"""Does loading keep up with the device? Tiles per second of the loader against tiles per second of a training step.

    python tests/benchmarks/loader.py --data demo
    python tests/benchmarks/loader.py --data /data/anthroprotect --gpu --readers 0 --readers 8

The step is the classifier's: forward, backward and AdamW, with the batch already on the device (on a GPU in
bfloat16). Each loader row reads the whole (limited) training split twice and times the second pass, so that
processes are started and files are in the page cache, as in every epoch but the first.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from torch.nn.functional import binary_cross_entropy_with_logits

from spacex.datasets.tiles import Chips
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.training.batches import BatchLoader, EpochOrder
from spacex.training.data import DatasetSettings, open_split


def loader_rate(split: Chips, batch: int, readers: int, device: torch.device) -> float:
    """Tiles per second that arrive on the device when nothing else is done."""
    loader = BatchLoader(split, EpochOrder(split.all, batch, seed=0), readers, device)
    for epoch in (0, 1):
        start, tiles = time.perf_counter(), 0
        for chips, _ in loader.epoch(epoch):
            tiles += len(chips)
        settle(device)
        rate = tiles / (time.perf_counter() - start)
    return rate


def step_rate(batch: int, base: int, bands: int, steps: int, device: torch.device) -> float:
    """Tiles per second of the classifier's training step; the fastest of `steps` after three to warm up."""
    model = Classifier(ClassifierSettings(bands=bands, base=base)).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), fused=device.type == "cuda")
    chips = torch.rand(batch, bands, 256, 256, device=device)
    label = (torch.arange(batch, device=device) % 2).float()
    best = float("inf")
    for step in range(3 + steps):
        start = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(chips)
        binary_cross_entropy_with_logits(logits.float(), label).backward()
        optimiser.step()
        settle(device)
        best = min(best, time.perf_counter() - start) if step >= 3 else best
    return batch / best


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(
    data: Annotated[str, typer.Option(help="AnthroProtect or MapInWild folder, or 'demo'.")] = "demo",
    limit: Annotated[int, typer.Option(help="Chips to read.")] = 512,
    batch: Annotated[int, typer.Option(help="Chips per step.")] = 32,
    base: Annotated[int, typer.Option(help="Channels of the U-Net's first level.")] = 32,
    bands: Annotated[str, typer.Option(help="Band names in order.")] = "B02,B03,B04",
    readers: Annotated[list[int], typer.Option(help="Reader processes; may be repeated.")] = [0, 2],  # noqa: B006
    steps: Annotated[int, typer.Option(help="Training steps to time.")] = 5,
    gpu: Annotated[bool, typer.Option("--gpu", help="Train on the GPU.")] = False,
) -> None:
    """Print both rates and their ratio."""
    device = torch.device("cuda" if gpu else "cpu")
    names = tuple(bands.split(","))
    split = open_split(DatasetSettings(root=data, bands=names, limit=limit), "train")
    needed = step_rate(batch, base, len(names), steps, device)
    say(f"training step, base {base}, batch {batch}, {device.type}", needed, needed)
    for number in readers:
        say(f"loader, {number} reader processes", loader_rate(split, batch, number, device), needed)
    split.preload()
    say("loader, preloaded", loader_rate(split, batch, 0, device), needed)


def say(what: str, rate: float, needed: float) -> None:
    """One row."""
    print(f"{what:42s} {rate:8.1f} tiles/s, {rate / needed:6.1f} x the step")


if __name__ == "__main__":
    typer.run(main)
