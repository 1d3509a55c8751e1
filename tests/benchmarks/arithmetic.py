"""How fast the networks attribute, against an earlier commit; what rounding, compiling and a GPU do to that.

    python tests/benchmarks/arithmetic.py networks   # the same chips, default maps: seconds of both, their ratio
    python tests/benchmarks/arithmetic.py rounding   # bfloat16 against float32 on test chips: Pearson, IoU
    python tests/benchmarks/arithmetic.py compile    # what torch.compile would gain, here
    python tests/benchmarks/arithmetic.py gpu        # on a CUDA device: chips/s, share of its peak, end to end

Both sides take turns, several times; what counts is the median of the ratios pair by pair. The earlier side is commit
`before.COMMIT` (the path map of eight midpoints, chips alone), in a worktree of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import before
import numpy as np
import torch
from mapping import whole_once

HERE = Path(__file__)
SIDE = 1536
"""Pixels a side of the ground that `networks` attributes: 81 chips at stride 192."""


def ground(bands: int, height: int, width: int) -> np.ndarray:
    """Reflectance with structure at several scales, the same everywhere the script runs."""
    rows, cols = np.arange(height)[:, None], np.arange(width)[None, :]
    planes = [np.sin(rows / (7 + band)) * np.cos(cols / (19 + band)) for band in range(bands)]
    noise = np.random.default_rng(0).random((bands, height, width))
    return (0.06 + 0.03 * np.stack(planes) + 0.02 * noise).astype(np.float32)


def networks_once(threads: int, stride: int, device: str = "cpu") -> dict[str, float]:
    """Attribute every chip that touches a square of ground, with whichever code is imported."""
    from spacex import load_checkpoint
    from spacex.attribution.attributor import Attributor
    from spacex.grid import Window, chip_windows
    from spacex.mapping.request import chip_settings

    torch.set_num_threads(threads)
    checkpoint, core = load_checkpoint(), Window(0, 0, SIDE, SIDE)
    chips, bands = chip_windows(core, stride, checkpoint.card.chip_size), len(checkpoint.card.bands)
    try:
        from spacex.mapping.chip_batcher import ChipBatcher
    except ImportError:
        return _chips_alone(Attributor(checkpoint), chips, core.pad(255), bands)
    from spacex.attribution.inference import choose_precision
    from spacex.attribution.names import DEFAULT_MAPS
    from spacex.attribution.replica_pool import ReplicaPool
    from spacex.execution.tasks import TileTask
    from spacex.mapping.tile import TileInput
    from spacex.mapping.worker import GPU_BATCH

    settings = chip_settings(checkpoint.card, DEFAULT_MAPS, stride)
    around = settings.padded(core)
    pixels = ground(bands, *around.shape)
    read = TileInput(core, around, pixels, np.ones(around.shape, np.uint16))
    make = partial(Attributor, checkpoint, DEFAULT_MAPS, device=device, precision=choose_precision("auto", device))
    networks = ReplicaPool(make, threads) if device == "cpu" else make()

    def attribute() -> None:
        bench = ChipBatcher(networks, settings, threads if device == "cpu" else GPU_BATCH)
        bench.submit(TileTask(0, 0, 0), read, chips, 0.0)
        while bench.compute(flush=True):
            pass
        assert len(bench.pop_completed()) == 1

    attribute_once = networks.attribute(pixels[None, :, :256, :256])
    attribute_once()
    if device != "cpu":
        attribute()  # kernels are chosen and memory is found in the first round
    begun = time.perf_counter()
    attribute()
    return {"chips": len(chips), "seconds": time.perf_counter() - begun}


def _chips_alone(networks: Callable[[np.ndarray], object], chips: list, around, bands: int) -> dict[str, float]:
    pixels = ground(bands, *around.shape)
    cuts = [pixels[(slice(None), *chip.slices(around))] for chip in chips]
    networks(np.stack(cuts[:1]))
    took = []
    for batch in (4, 8):  # eight was the default, four the fastest; the better one counts
        begun = time.perf_counter()
        for start in range(0, len(cuts), batch):
            part = cuts[start : start + batch]
            networks(np.stack(part + part[-1:] * (batch - len(part))))
        took.append(time.perf_counter() - begun)
    return {"chips": len(chips), "seconds": min(took)}


def rounding() -> None:
    """The default maps in bfloat16 against float32, on natural test chips of the embedded world."""
    from spacex import load_checkpoint
    from spacex.attribution.attributor import Attributor
    from spacex.evaluation import metrics
    from spacex.evaluation.samples import LandCoverSource
    from spacex.synthetic.dataset import demo_dataset

    checkpoint = load_checkpoint()
    sides = {p: Attributor(checkpoint, precision=p) for p in ("float32", "bfloat16")}
    ious: dict[str, dict[str, list[float]]] = {name: {p: [] for p in sides} for name in ("attribution", "lift")}
    alike: dict[str, list[float]] = {name: [] for name in ious}
    for samples in LandCoverSource(demo_dataset(), checkpoint.card.bands, "test").batches(4):
        found = {p: networks(samples.x.numpy()) for p, networks in sides.items()}
        inside = (samples.codes["truth"] == 1).reshape(len(samples.x), -1)
        for name in ious:
            flat = {p: maps.maps[name].reshape(len(samples.x), -1) for p, maps in found.items()}
            alike[name] += [np.corrcoef(a, b)[0, 1] for a, b in zip(*flat.values(), strict=True)]
            for p, values in flat.items():
                ranking = metrics.rank(metrics.sort(values), inside, np.ones_like(inside))
                ious[name][p] += list(metrics.area_matched_iou(ranking))
    for name, sides_found in ious.items():
        means = {p: float(np.nanmean(values)) for p, values in sides_found.items()}
        mean, worst = np.mean(alike[name]), np.min(alike[name])
        print(f"{name}: {len(alike[name])} chips, Pearson {mean:.5f} on average, {worst:.5f} at worst; "
              f"IoU {means['float32']:.4f} and {means['bfloat16']:.4f}")  # fmt: skip


def compiled(threads: int) -> None:
    """Seconds of generator and classifier, forward, and of the classifier's lift: as they are, and compiled."""
    from spacex import load_checkpoint
    from spacex.attribution.inference import prepare_classifier, prepare_generator
    from spacex.attribution.lift import Lift

    torch.set_num_threads(threads)
    checkpoint, cpu = load_checkpoint(), torch.device("cpu")
    classifier = prepare_classifier(checkpoint.classifier, "float32", cpu)
    generator = prepare_generator(checkpoint.minimiser, "float32", cpu, edges_matter=False)
    u = torch.randn(1, len(checkpoint.card.bands), 512, 512).contiguous(memory_format=torch.channels_last)
    chip = u[..., :256, :256].contiguous(memory_format=torch.channels_last)
    for name, network, inputs in (
        ("generator, 512 x 512", generator, (u,)),
        ("classifier, a chip", classifier, (chip,)),
        ("lift, a chip", Lift(classifier, chip), (chip, chip * 0.9)),
    ):
        quick = torch.compile(network)
        with torch.no_grad():
            took = _timed(partial(quick, *inputs))
            ms = [min(_timed(partial(call, *inputs)) for _ in range(7)) * 1000 for call in (network, quick)]
        print(f"{name}: {ms[0]:.0f} ms, compiled {ms[1]:.0f} ms after {took:.0f} s of compiling")


def gpu(stride: int) -> None:
    """Chips/s on a CUDA device, operations as a share of its bfloat16 peak, and a whole run against the networks."""
    from spacex import load_checkpoint
    from spacex.attribution.names import DEFAULT_MAPS
    from spacex.mapping.estimate import operations_per_chip
    from spacex.mapping.request import MapRequest, chip_settings

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: nothing measured")
    checkpoint = load_checkpoint()
    found = networks_once(1, stride, "cuda")
    rate = found["chips"] / found["seconds"]
    request = MapRequest(area={"type": "Polygon", "coordinates": [[[24, 67.9], [24.1, 67.9], [24.1, 68], [24, 67.9]]]},
                         intervals=(("2020-07-01", "2020-08-30"),),
                         chips=chip_settings(checkpoint.card, DEFAULT_MAPS, stride))  # fmt: skip
    share = rate * operations_per_chip(checkpoint, request) / _peak()
    mapped = whole_once(1, stride, device="cuda")
    print(f"{torch.cuda.get_device_name()}: {rate:.0f} chips/s, {share:.1%} of its bfloat16 peak; "
          f"end to end {mapped['chips'] / mapped['seconds'] / rate:.2f} of that")  # fmt: skip


def _peak() -> float:
    """Operations per second of a large bfloat16 matrix product."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)

    def multiply() -> None:
        for _ in range(10):
            a @ a
        torch.cuda.synchronize()

    multiply()
    return float(10 * 2 * 8192**3 / min(_timed(multiply) for _ in range(5)))


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["networks", "rounding", "compile", "gpu"])
    parser.add_argument("--threads", type=int, default=2, help="of the networks, on the CPU")
    parser.add_argument("--stride", type=int, default=192, help="pixels between chips")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each side")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        print(json.dumps(networks_once(chosen.threads, chosen.stride)))
    elif chosen.what == "networks":
        words = ["networks", "--once", "--threads", chosen.threads, "--stride", chosen.stride]
        before.compare(HERE, words, chosen.pairs)
    elif chosen.what == "rounding":
        rounding()
    elif chosen.what == "compile":
        compiled(chosen.threads)
    else:
        gpu(chosen.stride)


if __name__ == "__main__":
    main()
