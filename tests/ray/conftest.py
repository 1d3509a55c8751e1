"""What the tests of survival share: fake scenes of a small region, a Ray cluster, checks that a run told the truth."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from fakes import FakePipeline, with_pipeline
from shapely.geometry import box, mapping

from spacex.cube.statuses import new_statuses, tasks_where
from spacex.cube.store import Cube
from spacex.execution.local import run_local
from spacex.execution.tasks import Status
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest, chip_settings
from spacex.mapping.run import execute
from spacex.storage import run_folder

HERE = Path(__file__).parent
VARIABLES = ("0/attribution", "0/lift", "0/naturalness", "0/observations", "1/attribution", "1/composite")


def load(name, path):
    """A helper module by path; Ray's workers get it by value, since they cannot import it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


archive_server = load("archive_server", HERE / "archive_server.py")


@pytest.fixture(scope="session")
def request_of(tiny_checkpoint):
    """Builds requests for fake scenes: 21 tiles of 5 km near 68° N unless told otherwise."""

    def make(bounds=(23.9, 67.93, 24.35, 68.07), **values):
        settings = {
            "area": mapping(box(*bounds)),
            "intervals": (("2020-07-01", "2020-08-30"),),
            "catalogue": "demo",
            "items": "/no/list.json",
            "tile_size": 512,
            "chips": chip_settings(tiny_checkpoint.card, ("attribution", "lift")),
        }
        return MapRequest(**{**settings, **values})

    return make


@pytest.fixture(scope="session")
def carry(tiny_checkpoint):
    """Carries out a request without asking a catalogue, resuming what is there; gives the outcome."""

    def run(request, output, runner=run_local, faults=None, make_pipeline=None, scenes=(), **worker):
        plan = make_plan(request, str(output), tiny_checkpoint, scenes=[list(scenes)] * len(request.intervals))
        runner = with_pipeline(runner, make_pipeline or (FakePipeline(faults) if faults else None))
        return execute(plan, runner, **{"threads": 1, **worker})

    return run


def tasks_of(request):
    """All tiles of a request."""
    statuses = new_statuses(request.region, len(request.intervals))
    return tasks_where(statuses != Status.OUTSIDE, request.region.tiling)


@pytest.fixture(scope="session")
def undisturbed(request_of, carry, tmp_path_factory):
    """The cube of that region, made in peace."""
    output = tmp_path_factory.mktemp("peace") / "peace.zarr"
    assert carry(request_of(), output).complete
    return output


def statuses(output):
    """(time, tile rows, tile columns) of a cube's states."""
    return zarr.open_group(str(output), mode="r", use_consolidated=False)["tiles/status"][...]


def assert_equal_but(output, reference, missing=()):
    """The two cubes hold the same bits, but for the tiles named, which are marked as failed and empty."""
    got, expected = (zarr.open_group(str(uri), mode="r", use_consolidated=False) for uri in (output, reference))
    states = got["tiles/status"][...]
    tiling = Cube(str(output)).spec.tiling
    assert set(tasks_where(states == Status.FAILED, tiling)) == set(missing)
    assert (states != Status.PENDING).all()
    np.testing.assert_array_equal(np.where(states == Status.FAILED, Status.DONE, states), expected["tiles/status"][...])
    for name in VARIABLES:
        ours, theirs = got[name][...], expected[name][...]
        assert np.isfinite(theirs).any()
        factor = 2 ** int(name[0]) if name[0].isdigit() else 1
        for task in missing:
            size = 512 // factor
            row, col = tiling.position(task.row, task.col)
            square = (task.time, ..., slice(row * size, (row + 1) * size), slice(col * size, (col + 1) * size))
            ours[square] = theirs[square]
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@dataclass
class Watch:
    """Reads progress.json all along, and compares it with the cube."""

    output: Path
    total: int
    lies: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def __enter__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.check()

    def _look(self):
        file = Path(run_folder(str(self.output))) / "progress.json"
        while not self._stop.wait(0.1):
            try:
                told = json.loads(file.read_text())
            except FileNotFoundError:
                continue
            except ValueError as error:
                self.lies.append(f"half a file: {error}")
                continue
            self._compare(told)

    def _compare(self, told):
        tiles = told["tiles"]
        self.seen.append(told)
        if sum(tiles.values()) - tiles["outside"] != self.total:
            self.lies.append(f"tiles do not add up to {self.total}: {tiles}")
        # what it calls done was down before it was written, so the cube, read later, has at least as much
        done = int((statuses(self.output) == Status.DONE).sum())
        if tiles["done"] > done:
            self.lies.append(f"told {tiles['done']} done, the cube has {done}")

    def check(self):
        assert self.lies == []
        done = [told["tiles"]["done"] for told in self.seen]
        assert done == sorted(done)


def last_word(output):
    """The final progress.json."""
    return json.loads((Path(run_folder(str(output))) / "progress.json").read_text())


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and one node with two; tests may add and remove further nodes."""
    pytest.importorskip("ray")
    # AF_UNIX paths hold 107 bytes: pytest's own folders are too long
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    # workers find the tests' own package of networks as if it were installed
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    wanted = {"RAY_TMPDIR": folder, "PYTHONPATH": os.pathsep.join(paths)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    import ray
    from ray.cluster_utils import Cluster

    for module in (archive_server, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=2, object_store_memory=100_000_000)
    ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
    made.wait_for_nodes()
    made.folder = folder
    yield made
    ray.shutdown()
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def gone(pids, within=15.0):
    """True if these processes end soon."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def workers_of(folder):
    """Process ids of the Ray actors whose cluster lives in this folder; other clusters on the machine are not ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            ours = f"RAY_TMPDIR={folder}\0".encode() in (process / "environ").read_bytes()
        except OSError:
            continue
        if ours and title.startswith(b"ray::Worker"):
            found.append(int(process.name))
    return found


@pytest.fixture(scope="session")
def lab():
    """The helpers above, for tests (which cannot import this file)."""
    return SimpleNamespace(
        assert_equal_but=assert_equal_but,
        gone=gone,
        last_word=last_word,
        load=load,
        server=archive_server,
        statuses=statuses,
        tasks_of=tasks_of,
        watch=Watch,
        workers_of=workers_of,
    )


@pytest.fixture(params=["local", "ray"])
def runner(request):
    """Both runners: what is said of one must hold for the other."""
    if request.param == "local":
        return run_local
    request.getfixturevalue("cluster")
    from spacex.execution.ray_actors import run_ray

    return partial(run_ray, workers=2)
