"""What a tile costs the driver, whatever their number: workers that do nothing, a driver that does everything.

    python tests/benchmarks/driver.py [--tiles 100 1000 10000]

Ray, the queue, progress.json, the statistics and the log are real; the workers report every tile as done at once.
Prints one line of JSON per size: tiles/s, the driver's CPU time per tile, its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

# the fakes, which Ray's workers import too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
# read by Ray when it is imported
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
os.environ.setdefault("RAY_worker_niceness", "0")

from fakes import IdlePipeline, with_pipeline

from spacex import load_checkpoint
from spacex.execution.logs import log_tile
from spacex.execution.progress import ProgressLog
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import TileTask
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.worker import Job


def peak_mb() -> int:
    """Peak resident memory of this program; `ru_maxrss` would count what the parent had before the exec."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def job_of(card) -> Job:
    """A job that nobody carries out."""
    square = [[24, 67], [25, 67], [25, 68], [24, 68], [24, 67]]
    request = MapRequest(
        area={"type": "Polygon", "coordinates": [square]},
        intervals=(("2020-07-01", "2020-08-30"),),
        catalogue="demo",
        chips=chip_settings(card, ("attribution",)),
    )
    return Job(checkpoint="demo", request=request, output="memory://nowhere.zarr", scenes="memory://nowhere.gz")


def drive(tiles: int, card, folder: str, workers: int = 2) -> dict:
    """Drive this many idle tiles through Ray; gives speed, CPU time per tile and memory."""
    from spacex.execution.ray_actors import run_ray

    queue = TaskQueue(TileTask(0, n // 100, n % 100) for n in range(tiles))
    progress = ProgressLog(f"{folder}/progress.json", queue, Counter(), "driving")
    first: list[float] = []

    def on_report(report, finished):
        first or first.append(time.perf_counter())  # the actors' start is not the driver's doing
        progress.report(report, finished)
        log_tile(report, 1, finished)

    queue.on_report = on_report
    cpu = time.process_time()
    with_pipeline(partial(run_ray, workers=workers), IdlePipeline)(job_of(card), queue, progress.tick)
    seconds, cpu = time.perf_counter() - first[0], time.process_time() - cpu
    assert queue.stats.finished == tiles
    return {
        "tiles": tiles,
        "tiles_per_s": round(tiles / seconds),
        "driver_ms_per_tile": round(1000 * cpu / tiles, 3),
        "driver_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, nargs="+", default=[100, 1000, 10_000])
    asked = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="drive", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    from spacex.execution.ray_cluster import connect

    connect(2)
    card = load_checkpoint().card
    drive(50, card, folder)  # Ray's own first time is nobody's cost per tile
    for tiles in asked.tiles:
        print(json.dumps(drive(tiles, card, folder)), flush=True)
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
