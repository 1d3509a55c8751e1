"""What is left of the networks' speed in a whole run, against an earlier commit too; and whether memory stays flat.

    python tests/benchmarks/mapping.py whole      # the embedded region end to end; --ray: with one Ray worker
    python tests/benchmarks/mapping.py memory     # peak memory of a worker over 4, 64 and 256 tiles; ratios

Both use the embedded archive and the weights that ship. Ratios come from one run on one machine; an idle one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import before
from shapely.geometry import box, mapping

from spacex import load_checkpoint
from spacex.execution.tasks import Status
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import execute
from spacex.synthetic.archive import demo_archive
from spacex.synthetic.region import DEMO_BBOX, DEMO_INTERVAL

HERE = Path(__file__)


def request_on(card, *, steps=1, tile_size=1024, **more) -> MapRequest:
    """A request on the embedded region."""
    interval = tuple(DEMO_INTERVAL.split("/"))
    chips = more.pop("chips", None) or chip_settings(card, ("attribution",))
    return MapRequest(
        area=mapping(box(*DEMO_BBOX)),
        intervals=(interval,) * steps,
        catalogue="demo",
        items=str(demo_archive() / "items.json"),
        tile_size=tile_size,
        chips=chips,
        **more,
    )


def _on_ray(threads: int):
    from spacex.execution.ray_actors import run_ray
    from spacex.execution.ray_cluster import connect

    connect(threads)
    return run_ray


def whole_once(threads: int, stride: int, *, ray: bool = False, device: str = "cpu") -> dict[str, float]:
    """Map the embedded region, here or with one Ray worker; seconds without imports, archive and picture."""
    from spacex.execution.local import run_local

    runner = partial(_on_ray(threads), workers=1, cpus=threads) if ray else run_local
    checkpoint = load_checkpoint()
    try:
        from spacex.attribution.inference import choose_precision
        from spacex.attribution.names import DEFAULT_MAPS

        maps, more = DEFAULT_MAPS, {"precision": choose_precision("auto", device)}
    except ImportError:
        maps, more = ("attribution", "path_attribution"), {}
    with tempfile.TemporaryDirectory() as folder:
        chips = chip_settings(checkpoint.card, maps, stride)
        request = request_on(checkpoint.card, chips=chips, **more)
        plan = make_plan(request, f"{folder}/map.zarr", checkpoint)
        begun = time.perf_counter()
        outcome = execute(plan, runner, threads=threads, device=device)
        seconds = time.perf_counter() - begun
    return {"chips": outcome.chips, "seconds": seconds}


def whole(threads: int, stride: int, pairs: int, ray: bool) -> None:
    """End to end against the earlier commit, then against today's bare networks on as many chips."""
    words = ["--once", "--threads", threads, "--stride", stride]
    before.compare(HERE, ["whole", *words, *(["--ray"] if ray else [])], pairs)
    ratios = []
    for _ in range(pairs):
        scripts = ((HERE.with_name("arithmetic.py"), "networks"), (HERE, "whole"))
        runs = [json.loads(before.run_in(before.ROOT, script, what, *words)) for script, what in scripts]
        bare, mapped = (run["chips"] / run["seconds"] for run in runs)
        ratios.append(mapped / bare)
    print(f"whole run over bare networks, chips/s: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def peak(tiles: int) -> float:
    """Peak resident memory in MiB of a process that maps so many tiles."""
    from spacex.execution.local import run_local

    checkpoint = load_checkpoint()
    request = request_on(checkpoint.card, steps=-(-tiles // 16), tile_size=512)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(request, f"{folder}/map.zarr", checkpoint)
        statuses = plan.statuses.copy()
        for task in plan.todo[tiles:]:
            statuses[(task.time, *request.region.tiling.position(task.row, task.col))] = Status.OUTSIDE
        execute(replace(plan, statuses=statuses), run_local)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    """Print a worker's peak memory over few and over many tiles."""
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for tiles in (4, 64, 256):
        with spawn.ImagePool(1) as pool:  # a fresh process each, since a peak never falls
            found[tiles] = pool.apply(peak, (tiles,))
        print(f"{tiles} tiles: peak {found[tiles]:.0f} MiB")
    print(f"64 over 4: {found[64] / found[4]:.2f}, while the memories fill; 256 over 64: {found[256] / found[64]:.2f}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["whole", "memory"])
    parser.add_argument("--threads", type=int, default=2, help="of the networks")
    parser.add_argument("--stride", type=int, default=192, help="pixels between chips")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each side")
    parser.add_argument("--ray", action="store_true", help="one Ray worker, its start included")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        print(json.dumps(whole_once(chosen.threads, chosen.stride, ray=chosen.ray)))
    elif chosen.what == "whole":
        whole(chosen.threads, chosen.stride, chosen.pairs, chosen.ray)
    else:
        memory()


if __name__ == "__main__":
    main()
