"""What lift costs on other people's networks: time and memory, as multiples of a forward pass and of a gradient.

    python tests/benchmarks/lift.py                  # the ten networks, one thread: ratios and their median
    python tests/benchmarks/lift.py --all            # all that are tested
    python tests/benchmarks/lift.py resnet18 convnext_atto

Forward pass, gradient and lift of one chip take turns; what counts is the median of the ratios. Memory is what each
adds to the process's peak, in a process of its own. Networks run as a checkpoint's do: layers keep their input
(`disable_inplace`). timm must be importable (its folder in PYTHONPATH).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import timm_networks

TEN = (
    "resnet18", "densenet121", "regnety_002", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "efficientformerv2_s0", "hrnet_w18_small", "repvit_m0_9",
)  # fmt: skip


def runs(name: str) -> dict[str, Callable[[], object]]:
    """Forward pass, gradient and lift of one chip under one network."""
    from spacex.attribution.lift import Lift
    from spacex.models.classes import BinaryView
    from spacex.models.third_party import disable_inplace

    network, side = timm_networks.build(name)
    view = BinaryView(disable_inplace(network)).eval()
    x, baseline = torch.randn(2, 1, 3, side, side).unbind()
    lift = Lift.__new__(Lift)  # without the check at loading, whose peak of memory hides the call's
    lift.network = view

    def forward() -> None:
        with torch.no_grad():
            view(x)

    def gradient() -> None:
        point = x.clone().requires_grad_()
        torch.autograd.grad(view(point).sum(), point)

    return {"forward": forward, "gradient": gradient, "lift": lambda: lift(x, baseline)}


def seconds(name: str, turns: int) -> dict[str, float]:
    """Median ratios of gradient and lift to the forward pass, and its milliseconds of processor time."""
    calls, ratios, plain = runs(name), {"gradient": [], "lift": []}, []
    for _ in range(turns):
        took = {}
        for what, call in calls.items():
            begun = time.process_time()
            call()
            took[what] = time.process_time() - begun
        plain.append(took["forward"])
        for what, values in ratios.items():
            values.append(took[what] / took["forward"])
    return {what: statistics.median(values) for what, values in ratios.items()} | {"ms": 1000 * min(plain)}


def memory(name: str, what: str) -> float:
    """MiB that one call adds to the process's peak over what it holds before."""
    call = runs(name)[what]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - pages * resource.getpagesize() / 2**20


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks of timm")
    parser.add_argument("--all", action="store_true", help="every network that the tests try")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--memory", choices=["gradient", "lift"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    try:
        timm_networks.import_timm()
    except ImportError as error:
        raise SystemExit(f"timm cannot be imported ({error}): nothing measured") from None
    torch.set_num_threads(1)
    if chosen.memory:
        print(json.dumps(memory(chosen.names[0], chosen.memory)))
        return
    found = []
    for name in chosen.names or (timm_networks.NETWORKS if chosen.all else TEN):
        ratios = seconds(name, chosen.turns)
        peak = {}
        for what in ("gradient", "lift"):
            command = [sys.executable, __file__, name, "--memory", what]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak[what] = float(done.stdout.splitlines()[-1])
        found.append((ratios["lift"], peak["lift"] / peak["gradient"]))
        print(f"{name}: forward {ratios['ms']:.0f} ms, gradient x {ratios['gradient']:.2f}, lift x {found[-1][0]:.2f}; "
              f"memory {found[-1][1]:.2f} of a gradient's {peak['gradient']:.0f} MiB", flush=True)  # fmt: skip
    print(f"median of {len(found)}: lift x {statistics.median(f[0] for f in found):.2f} a forward pass, "
          f"memory {statistics.median(f[1] for f in found):.2f} of a gradient's")  # fmt: skip


if __name__ == "__main__":
    main()
