"""A long run against a hostile archive, all at once: nothing is lost in silence, and nobody's memory grows.

    python tests/benchmarks/hostile_soak.py [--tiles 1000] [--every 20] [--trouble 0.03] [--workers 2]

Maps about `--tiles` tiles on Ray from files behind a web server. Real: reading, compositing, blending, writing; only
the networks are fakes. A share of the server's answers is 429, 503, cut off in the middle or comes drop by drop; links
are good for five seconds; a worker is killed now and then, but never the eldest. Afterwards every tile must be done or
listed as given up; what is done must equal, to the bit, the same map made in peace from the same files on disk.
Prints one line of JSON; exit code 1 if anything is lost, differs, or the eldest worker's memory grew by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "ray"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import archive_server
import numpy as np
import rasterio
import soak  # sets Ray's environment before it is imported
import zarr
from fakes import FakeNetworks, with_pipeline
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.windows import Window
from shapely.geometry import box, mapping, shape

from spacex import load_checkpoint
from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.execution.local import run_local
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest
from spacex.mapping.run import execute
from spacex.mapping.worker import SceneSource
from spacex.sentinel2 import get_catalogue, offset_of, scene_of
from spacex.sentinel2.catalogue_profiles import CatalogueProfile
from spacex.sentinel2.scene_list import load_scenes

BANDS = {"B02": "blue", "B03": "green", "B04": "red"}
PER_SCENE = 300
"""Tiles of 512 pixels that a Sentinel-2 tile surely holds."""
MONTHS = ("06", "07", "08", "09", "05", "04")
GROWTH = 1.05


def request_of(card, tiles: int) -> MapRequest:
    """About this many tiles: a square, at as many time steps as it takes for one scene to cover it."""
    steps = math.ceil(tiles / PER_SCENE)
    whole = soak.request_of(card, tiles // steps)
    intervals = tuple((f"2020-{month}-01", f"2020-{month}-28") for month in MONTHS[:steps])
    return whole.model_copy(update={"intervals": intervals})


def write_scenes(request: MapRequest, folder: Path) -> list[dict]:
    """One scene per time step: bands of slanted waves, and clouds in stripes."""
    area = shape(request.area)
    to_utm = Transformer.from_crs(4326, 32634, always_xy=True)
    west, south, east, north = to_utm.transform_bounds(*area.buffer(0.06).bounds)
    left, top = west // 20 * 20, -(-north // 20) * 20
    width, height = int((east - left) // 20) * 2, int((top - south) // 20) * 2
    items = []
    for step, (first, _) in enumerate(request.intervals):
        assets = {}
        for key in (*BANDS.values(), "scl"):
            size = 20 if key == "scl" else 10
            name, rows, cols = f"s{step}_{key}.tif", height * 10 // size, width * 10 // size
            _write(folder / name, key, step, rows, cols, from_origin(left, top, size, size))
            assets[key] = {"href": name, "proj:shape": [rows, cols], "proj:transform": [size, 0, left, 0, -size, top]}
        ring = box(*Transformer.from_crs(32634, 4326, always_xy=True).transform_bounds(west, south, east, north))
        properties = {
            "datetime": f"{first}T10:00:00Z", "platform": "sentinel-2a", "eo:cloud_cover": 10.0, "proj:epsg": 32634,
            "view:sun_elevation": 41.0, "grid:code": "MGRS-34WED", "earthsearch:boa_offset_applied": True,
        }  # fmt: skip
        items.append({"type": "Feature", "stac_version": "1.0.0", "id": f"s{step}", "collection": "sentinel-2-l2a",
                      "geometry": mapping(ring), "properties": properties, "links": [], "assets": assets})  # fmt: skip
    return items


def _write(path: Path, key: str, step: int, rows: int, cols: int, transform) -> None:
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
               "count": 1, "crs": "EPSG:32634", "nodata": 0}  # fmt: skip
    dtype = "uint8" if key == "scl" else "uint16"
    with rasterio.open(path, "w", **profile, width=cols, height=rows, dtype=dtype, transform=transform) as file:
        x = np.arange(cols)[None, :]
        for start in range(0, rows, 512):
            y = np.arange(start, min(start + 512, rows))[:, None]
            if key == "scl":
                values = np.where((x + 2 * y) // 40 % 9 == step, 9, 4)
            else:
                number = list(BANDS.values()).index(key)
                values = 1200 + 1000 * np.sin(y / (17 + number) + step) * np.cos(x / (29 + number))
            file.write(values.astype(dtype), 1, window=Window(0, start, cols, len(y)))


def scenes_of(items: list[dict], base: str):
    """The items as scenes, one list per time step; links begin with `base`."""
    catalogue, made = get_catalogue("demo", items="/no/list.json"), []
    for item in items:
        assets = {key: {**asset, "href": f"{base}/{asset['href']}"} for key, asset in item["assets"].items()}
        whole = {**item, "assets": assets}
        made.append([scene_of(whole, offset_of(whole, catalogue.rule, BANDS.values()), list(assets))])
    return made


class OverHttp:
    """A pipeline of real reading with links signed when they are opened, and fake networks."""

    def __init__(self, signed: bool) -> None:
        self.signed = signed

    def __call__(self, job):
        if self.signed:
            options = {"MAX_RETRY": "3", "RETRY_DELAY": "0.05", "TIMEOUT": "20"}
            os.environ.update({f"GDAL_HTTP_{name}": value for name, value in options.items()})
            CatalogueProfile.sign = lambda catalogue, href: f"{href}?signed={time.time():.3f}"
        source = SceneSource(job.request, tuple(BANDS), load_scenes(job.scenes))
        return Pipeline(source.read, FakeNetworks(), Cube(job.output), job.request.chips,
                        time_limit=job.time_limit)  # fmt: skip


def run(request: MapRequest, scenes, output: str, checkpoint, runner):
    """Carry out a request from nothing."""
    plan = make_plan(request, output, checkpoint, scenes=scenes)
    return execute(plan, runner, threads=1), len(plan.todo)


def differences(output: str, peace: str, given_up: set[TileTask]) -> list[str]:
    """Arrays in which a tile that is not listed differs."""
    ours, theirs = (zarr.open_group(uri, mode="r") for uri in (output, peace))
    found = []
    for name in ("0/attribution", "0/lift", "0/naturalness", "0/dissimilarity", "0/observations", "1/composite"):
        size = 512 >> int(name[0])
        for time_step in range(theirs[name].shape[0]):
            for row in range(theirs[name].shape[-2] // size):
                strip = (time_step, ..., slice(row * size, (row + 1) * size), slice(None))
                a, b = np.asarray(ours[name][strip]), np.asarray(theirs[name][strip])
                for task in given_up:
                    if (task.time, task.row) == (time_step, row):
                        cols = slice(task.col * size, (task.col + 1) * size)
                        a[..., cols] = b[..., cols]
                if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                    found.append(f"{name} at time {time_step}, tile row {row}")
    return found


def hostile_soak(tiles: int, every: float, trouble: float, workers: int, checkpoint, folder: str) -> dict:
    """The soak itself, on the Ray that is connected, whose RAY_TMPDIR this process has."""
    from spacex.execution.ray_actors import run_ray

    request, files = request_of(checkpoint.card, tiles), Path(folder) / "files"
    files.mkdir()
    items = write_scenes(request, files)
    killer = soak.Killer(os.environ["RAY_TMPDIR"], every, Path(folder) / "soak.run" / "progress.json", spare_one=True)
    with archive_server.serve(archive_server.Archive(files, valid_for=5.0, trouble=trouble)) as archive:
        killer.start()
        begun = time.monotonic()
        runner = with_pipeline(partial(run_ray, workers=workers), OverHttp(signed=True))
        scenes = scenes_of(items, f"{archive.url}/files")
        outcome, count = run(request, scenes, f"{folder}/soak.zarr", checkpoint, runner)
        seconds = time.monotonic() - begun
        killer.stop()
        served = dict(archive.served)
    peaceful = with_pipeline(run_local, OverHttp(signed=False))
    run(request, scenes_of(items, str(files)), f"{folder}/peace.zarr", checkpoint, peaceful)
    cube = Cube(f"{folder}/soak.zarr")
    failed = set(tasks_where(cube.statuses() == Status.FAILED, cube.spec.tiling))
    eldest = max(killer.workers.values(), key=len, default=[1.0])
    return {
        "tiles": count,
        "seconds": round(seconds, 1),
        "killed": killer.killed,
        "answers": {str(name): served[name] for name in sorted(served, key=str)},
        "not_yet": int((cube.statuses() == Status.PENDING).sum()),
        "given_up": sorted(map(str, failed)),
        "given_up_is_listed": failed == set(outcome.quarantined),
        "differ": differences(f"{folder}/soak.zarr", f"{folder}/peace.zarr", failed),
        "eldest_seconds": round(len(eldest) * 0.5),
        "eldest_mb": round(max(eldest)),
        "eldest_growth": round(soak.growth(eldest), 3),
    }


def good(found: dict) -> bool:
    """Whether everything that must hold does, but for memory."""
    return found["not_yet"] == 0 and found["given_up_is_listed"] and not found["differ"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two killings")
    parser.add_argument("--trouble", type=float, default=0.03, help="share of answers that are bad")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="soak", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    import ray

    from spacex.execution.ray_cluster import connect

    connect(asked.workers)
    for module in (soak, archive_server):
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        found = hostile_soak(asked.tiles, asked.every, asked.trouble, asked.workers, load_checkpoint(), folder)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found))
    return 0 if good(found) and found["eldest_growth"] <= GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
