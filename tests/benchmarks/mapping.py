"""How much of the bare networks' speed is left in a whole mapping run, and whether memory stays flat.

    python tests/benchmarks/mapping.py speed      # chips/s: networks alone, --local, one Ray worker; their ratios
    python tests/benchmarks/mapping.py memory     # peak memory of a worker over 4 and over 64 tiles; their ratio

Both use the embedded archive and the weights that ship. Ratios come from one run on one machine; an idle one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from functools import partial

import numpy as np
import torch
from shapely.geometry import box, mapping

from spacex import load_checkpoint
from spacex.attribution.patterns import MAP_NAMES, Patterns
from spacex.mapping.days import parse_interval
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import carry_out, prepare
from spacex.world.archive import DEMO_BBOX, DEMO_INTERVAL, demo_archive, serve


def request_on(url: str, card, bounds=DEMO_BBOX, maps=MAP_NAMES, steps=1, tile_size=1024) -> MapRequest:
    """A request on the embedded region."""
    return MapRequest(
        area=mapping(box(*bounds)),
        intervals=(parse_interval(DEMO_INTERVAL),) * steps,
        catalogue="demo",
        stac_url=url,
        tile_size=tile_size,
        chips=chip_settings(card, tuple(maps)),
    )


def bare(checkpoint, batch: int, seconds: float) -> float:
    """Chips per second of the networks alone."""
    networks = Patterns(checkpoint)
    x = np.random.default_rng(0).random((batch, len(checkpoint.card.bands), 256, 256), dtype=np.float32) * 0.2
    networks(x)
    begun, calls = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        networks(x)
        calls += 1
    return calls * batch / (time.perf_counter() - begun)


def mapped(request, checkpoint, runner, threads: int) -> tuple[float, float]:
    """Chips per second of a run: with, and without, the time until the first worker is ready."""
    ready: list[float] = []

    def watched(job, ledger, *, on_tick, **others):
        def tick(alive):
            if alive and not ready:
                ready.append(time.monotonic())
            on_tick(alive)

        return runner(job, ledger, on_tick=tick, **others)

    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/map.zarr"
        plan, fingerprint = prepare(request, output, checkpoint)
        begun = time.monotonic()
        outcome = carry_out(plan, fingerprint, output, checkpoint, watched, threads=threads)
        end = time.monotonic()
    return outcome.chips / (end - begun), outcome.chips / (end - min(ready[0], end - 1e-9))


def speed(seconds: float) -> None:
    """Print the ratios of the mapping job's speed to its networks'."""
    from spacex.runners.local import run_local
    from spacex.runners.ray_map import connect, run_ray

    threads = torch.get_num_threads()
    checkpoint = load_checkpoint()
    alone = {batch: bare(checkpoint, batch, seconds) for batch in (2, 4, 8, 16)}
    best = max(alone.values())
    rates = ", ".join(f"batch {size}: {rate:.2f}" for size, rate in alone.items())
    print(f"networks alone, {threads} threads, chips/s: {rates}")
    with serve(demo_archive()) as url:
        request = request_on(url, checkpoint.card)
        total, _ = mapped(request, checkpoint, run_local, threads)
        print(f"--local: {total:.2f} chips/s, ratio {total / best:.2f}")
        connect(threads)
        total, steady = mapped(request, checkpoint, partial(run_ray, workers=1, cpus=threads), threads)
        print(f"one Ray worker: {total:.2f} chips/s, ratio {total / best:.2f}; once it is up {steady / best:.2f}")
    again = bare(checkpoint, max(alone, key=alone.get), seconds)
    print(f"networks alone again: {again:.2f} chips/s (drift of the machine {again / best:.2f})")


def peak(url: str, tiles: int) -> float:
    """Peak resident memory in MiB of a process that maps so many tiles."""
    from spacex.runners.local import run_local

    checkpoint = load_checkpoint()
    request = request_on(url, checkpoint.card, maps=("attribution",), steps=-(-tiles // 16), tile_size=512)
    with tempfile.TemporaryDirectory() as folder:
        plan, fingerprint = prepare(request, f"{folder}/map.zarr", checkpoint)
        fewer = type(plan)(plan.request, plan.scenes, plan.tasks[:tiles], plan.statuses)
        carry_out(fewer, fingerprint, f"{folder}/map.zarr", checkpoint, run_local)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    """Print a worker's peak memory over few and over many tiles."""
    spawn = multiprocessing.get_context("spawn")
    with serve(demo_archive()) as url:
        found = {}
        for tiles in (4, 64):
            with spawn.Pool(1) as pool:  # a fresh process each, since a peak never falls
                found[tiles] = pool.apply(peak, (url, tiles))
            print(f"{tiles} tiles: peak {found[tiles]:.0f} MiB")
    print(f"ratio {found[64] / found[4]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--seconds", type=float, default=10.0, help="time per batch size of the networks alone")
    arguments = parser.parse_args()
    speed(arguments.seconds) if arguments.what == "speed" else memory()
