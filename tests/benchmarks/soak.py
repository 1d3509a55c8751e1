"""A long run among killings: nothing is lost, and nobody's memory grows.

    python tests/benchmarks/soak.py [--tiles 2000] [--every 5] [--workers 2]

Maps a region of about `--tiles` small tiles on Ray with a fake source and network, everything else being real, and
ends a random worker's process every few seconds. Afterwards the cube must be complete, and a part of it must equal, to
the bit, the same part mapped in peace. Prints one line of JSON; exit code 1 if anything is lost or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

# the fakes, which Ray's workers import too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
# read by Ray when it is imported
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
os.environ.setdefault("RAY_worker_niceness", "0")

import numpy as np
import zarr
from fakes import with_pipeline
from shapely.geometry import box, mapping

from spacex import load_checkpoint
from spacex.execution.local import run_local
from spacex.execution.tasks import Status
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import execute

WEST, SOUTH = 24.0, 67.0
TILE_DEGREES = (5.12 / 43.4, 5.12 / 111.3)
"""Degrees of longitude and latitude of a tile of 512 pixels near 67° N."""


def request_of(card, tiles: int, part: float = 1.0) -> MapRequest:
    """A square of about this many tiles, or a part of it that touches none of its edges."""
    side, inset = tiles**0.5 * part, 1.0 if part < 1 else 0.0
    west, south = WEST + inset * TILE_DEGREES[0], SOUTH + inset * TILE_DEGREES[1]
    bounds = west, south, west + side * TILE_DEGREES[0], south + side * TILE_DEGREES[1]
    return MapRequest(
        area=mapping(box(*bounds)),
        intervals=(("2020-07-01", "2020-08-30"),),
        catalogue="demo",
        items="/no/list.json",
        tile_size=512,
        chips=chip_settings(card, ("attribution", "lift")),
    )


def run(request: MapRequest, output: str, checkpoint, runner):
    """Map fake scenes from nothing; gives the outcome and the tiles."""
    plan = make_plan(request, output, checkpoint, scenes=[[]])
    return execute(plan, with_pipeline(runner), threads=1), len(plan.todo)


class Killer(threading.Thread):
    """Ends a random worker now and then, and keeps an eye on everybody's memory.

    It waits for a tile to be finished in between: where workers die faster than they can start, nobody gets on.
    """

    def __init__(self, folder: str, every: float, progress: Path, seed: int = 0, spare_one: bool = False) -> None:
        super().__init__(daemon=True)
        self.spare_one = spare_one
        self.progress, self._finished = progress, 0
        self.folder, self.every, self.killed = folder, every, 0
        self.driver: list[float] = []
        self.workers: dict[int, list[float]] = {}
        self._random, self._done = random.Random(seed), threading.Event()

    def run(self) -> None:
        struck = time.monotonic()
        while not self._done.wait(0.5):
            pids = workers_of(self.folder)
            self.driver.append(megabytes(os.getpid()))
            for pid in pids:
                self.workers.setdefault(pid, []).append(megabytes(pid))
            if pids and time.monotonic() - struck > self.every and self._got_on():
                struck = time.monotonic()
                # the one spared is the one seen for longest: its memory tells whether anything leaks
                eldest = max(pids, key=lambda pid: len(self.workers[pid]))
                doomed = [pid for pid in pids if not (self.spare_one and pid == eldest)]
                if doomed:
                    os.kill(self._random.choice(doomed), signal.SIGKILL)
                    self.killed += 1

    def _got_on(self) -> bool:
        if not self.progress.exists():
            return False
        finished = json.loads(self.progress.read_text())["this_run"]["finished"]
        got_on, self._finished = finished > self._finished, finished
        return got_on

    def stop(self) -> None:
        self._done.set()
        self.join()


def workers_of(folder: str) -> list[int]:
    """Process ids of the Ray actors of the cluster in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::Worker") and (
                f"RAY_TMPDIR={folder}\0".encode() in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(samples: list[float]) -> float:
    """The median of the last quarter over that of the second: a start-up is over by then."""
    quarter = len(samples) // 4
    return float(np.median(samples[-quarter:]) / np.median(samples[quarter : 2 * quarter])) if quarter else 1.0


def same_part(output: str, part: str) -> bool:
    """True if the smaller cube equals the larger one where they overlap, away from the smaller one's edge."""
    large, small = (zarr.open_group(uri, mode="r", path="0") for uri in (output, part))
    x, y = (np.searchsorted(large["x"][:], small["x"][0]), np.searchsorted(-large["y"][:], -small["y"][0]))
    inner = 20
    for name in ("attribution", "lift", "naturalness", "observations"):
        theirs = small[name][0, inner:-inner, inner:-inner]
        ours = large[name][0, y : y + small[name].shape[1], x : x + small[name].shape[2]][inner:-inner, inner:-inner]
        known = np.isfinite(theirs) & (theirs != 0)  # the smaller one's outline cuts off some
        if not known.any() or not np.array_equal(ours[known], theirs[known]):
            return False
    return True


def soak(tiles: int, every: float, workers: int, checkpoint, folder: str) -> dict:
    """The soak itself, on the Ray that is connected, whose RAY_TMPDIR this process has."""
    from spacex.execution.ray_actors import run_ray

    killer = Killer(os.environ["RAY_TMPDIR"], every, Path(folder) / "soak.run" / "progress.json")
    killer.start()
    begun = time.monotonic()
    outcome, count = run(
        request_of(checkpoint.card, tiles), f"{folder}/soak.zarr", checkpoint, partial(run_ray, workers=workers)
    )
    seconds = time.monotonic() - begun
    killer.stop()
    run(request_of(checkpoint.card, tiles, 0.15), f"{folder}/part.zarr", checkpoint, run_local)
    states = zarr.open_group(f"{folder}/soak.zarr", mode="r")["tiles/status"][...]
    longest = max(killer.workers.values(), key=len, default=[1.0])
    return {
        "tiles": count,
        "seconds": round(seconds, 1),
        "killed": killer.killed,
        "lost": int(((states != Status.DONE) & (states != Status.OUTSIDE)).sum()),
        "quarantined": len(outcome.quarantined),
        "part_equal": same_part(f"{folder}/soak.zarr", f"{folder}/part.zarr"),
        "driver_mb": round(max(killer.driver)),
        "driver_growth": round(growth(killer.driver), 3),
        "worker_mb": round(max(map(max, killer.workers.values()), default=0)),
        "worker_growth": round(growth(longest), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two killings")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="soak", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    from spacex.execution.ray_cluster import connect

    connect(asked.workers)
    try:
        found = soak(asked.tiles, asked.every, asked.workers, load_checkpoint(), folder)
    finally:
        import ray

        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found))
    return int(found["lost"] or found["quarantined"] or not found["part_equal"])


if __name__ == "__main__":
    sys.exit(main())
