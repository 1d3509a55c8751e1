"""What reading costs: with networks that cost nothing, in blocks and bytes, and in error.

    python tests/benchmarks/reading.py free       # km2/s per core of read + composite + blend + write; and before
    python tests/benchmarks/reading.py blocks     # blocks decoded, and bytes served, per block needed; and before
    python tests/benchmarks/reading.py enough     # error of the composite against the cloud-free truth, by `enough`
    python tests/benchmarks/reading.py plan       # bytes a plan expects, against bytes fetched and bytes served

"Before" is the commit of `before.py`, measured in turn with this one, each in a process of its own. Cores are counted
by the processor's time, so that a busy machine does not matter much; ratios are what to believe.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def free(tile_size: int, enough: int | None) -> dict:
    """Map the embedded region with `fake_network`; gives km2, processor seconds, and seconds by stage."""
    from shapely.geometry import box, mapping

    from spacex.checkpoint import load_checkpoint
    from spacex.mapping.cube import Cube, Status, create_cube
    from spacex.mapping.pipeline import Pipeline
    from spacex.mapping.plan import make_plan
    from spacex.mapping.rehearsal import fake_network
    from spacex.mapping.request import MapRequest, chip_settings, parse_interval
    from spacex.mapping.worker import CubeSink, SceneSource
    from spacex.world.archive import DEMO_BBOX, DEMO_INTERVAL, demo_archive, serve

    card = load_checkpoint().card
    composite = {} if enough is None else {"composite": {"enough": enough}}
    with serve(demo_archive()) as url, tempfile.TemporaryDirectory() as folder:
        request = MapRequest(
            area=mapping(box(*DEMO_BBOX)), intervals=(parse_interval(DEMO_INTERVAL),), catalogue="demo", stac_url=url,
            tile_size=tile_size, chips=chip_settings(card, ("attribution", "path_attribution")), **composite,
        )  # fmt: skip
        plan = make_plan(request, f"{folder}/map.zarr", "0" * 16, card.bands, None)
        cube = create_cube(f"{folder}/map.zarr", request.spec(card), "0" * 16, {})
        source = SceneSource(request, card.bands, plan.scenes)
        pipeline = Pipeline(source, fake_network, CubeSink(Cube(cube.uri), request), request.chips, readers=1)
        begun, clock = time.process_time(), time.perf_counter()
        for task in plan.todo:
            pipeline.add(task)
        reports = []
        while len(pipeline):
            reports += pipeline.advance()
        used, took = time.process_time() - begun, time.perf_counter() - clock
    assert all(report.status is Status.DONE for report in reports), [report.reason for report in reports]
    area = request.region.outline.area / 1e6
    stages = {name: sum(report.seconds.get(name, 0.0) for report in reports) for name in ("reading", "computing", "writing")}
    return {"km2": area, "cpu_s": used, "clock_s": took, "tiles": len(reports), "stages": stages}


def compare_free(tile_size: int, enough: int, repeat: int) -> None:
    """Prints km2/s per core of both sides."""
    from before import earlier, run_in

    rates: dict[str, list[float]] = {"before": [], "now": []}
    with earlier() as root:
        for _ in range(repeat):
            for name, place, k in (("before", root, "none"), ("now", HERE.parents[2], enough)):
                found = json.loads(run_in(place, HERE, "one-free", "--tile-size", tile_size, "--enough", k))
                rates[name].append(found["km2"] / found["cpu_s"])
                print(f"{name:7s} {found['km2'] / found['cpu_s']:6.1f} km2/s per core; {found}", flush=True)
    best = {name: max(values) for name, values in rates.items()}
    print(f"best of {repeat}: {best['now']:.1f} against {best['before']:.1f} km2/s per core, "
          f"{best['now'] / best['before']:.1f} times as many (aimed at: 40)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["free", "blocks", "enough", "plan", "one-free"])
    parser.add_argument("--tile-size", type=int, default=1024)
    parser.add_argument("--enough", default="8")
    parser.add_argument("--repeat", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "one-free":
        print(json.dumps(free(asked.tile_size, None if asked.enough == "none" else int(asked.enough))))
    elif asked.what == "free":
        compare_free(asked.tile_size, int(asked.enough), asked.repeat)


if __name__ == "__main__":
    main()
