"""What a run survives of a cluster's failures: workers, nodes and drivers that die, crashing tiles, new machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from fakes import FakePipeline, FaultInjection

from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.errors import SpacexError
from spacex.execution.local import run_local
from spacex.execution.tasks import Status, TileTask

pytestmark = pytest.mark.ray
TILES = 21


@pytest.fixture
def run_ray(cluster):
    from spacex.execution.ray_actors import run_ray

    return run_ray


def done(output):
    folder = Path(output) / "tiles" / "status" / "c" / "0"
    return sum(1 for _ in folder.glob("*/*")) - 4 if folder.is_dir() else 0  # four tiles are outside


def when(condition, action, limit=90.0):
    """Do something in a thread as soon as a condition holds."""

    def wait():
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if condition():
                return action()
            time.sleep(0.05)
        return None

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


class UntilThree:
    """A pipeline whose worker reads four tiles, and more only once three workers have come to read one.

    So two workers cannot finish the run between them, however late the third comes.
    """

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def __call__(self, job):
        pipeline = FakePipeline()(job)
        read, begun = pipeline._read, []

        def waiting(task):
            (self.folder / str(os.getpid())).touch()
            begun.append(task)
            while len(begun) > 4 and len(list(self.folder.iterdir())) < 3:
                time.sleep(0.05)
            return read(task)

        pipeline._read = waiting
        return pipeline


def gated(folder):
    """What `carry` needs for it; few tiles in hand, so that some are left for the third."""
    return {"make_pipeline": UntilThree(folder / "came"), "readers": 1, "time_limit": 120.0}


def makers(output):
    """The workers whose tiles a cube holds."""
    if done(output) == 0:
        return set()
    cube = Cube(str(output))
    made = tasks_where(cube.statuses() == Status.DONE, cube.spec.tiling)
    return {cube.provenance(task)["worker"] for task in made}


def test_killed_workers_cost_nothing_but_time(lab, cluster, request_of, carry, undisturbed, run_ray, tmp_path):
    output, killed = tmp_path / "cube.zarr", []

    def kill():
        for pid in lab.workers_of(cluster.folder):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = when(lambda: len(makers(output)) == 2, kill)
    with lab.watch(output, TILES):
        outcome = carry(request_of(), output, partial(run_ray, workers=2), **gated(tmp_path))
    killer.join()
    assert len(killed) >= 2
    assert outcome.complete
    lab.assert_equal_but(output, undisturbed)
    assert lab.last_word(output)["this_run"]["retries"] == 0  # a lost worker is no fault of its tiles
    assert lab.gone(killed)
    assert lab.gone(lab.workers_of(cluster.folder))


def test_a_tile_that_kills_its_workers_is_found_out(lab, request_of, carry, undisturbed, run_ray, tmp_path):
    output, crashing = tmp_path / "cube.zarr", TileTask(0, -986, 959)
    with lab.watch(output, TILES):
        outcome = carry(request_of(), output, partial(run_ray, workers=2), FaultInjection(crash=frozenset({crashing})))
    assert set(outcome.quarantined) == {crashing}
    assert "its worker died" in outcome.quarantined[crashing]
    lab.assert_equal_but(output, undisturbed, missing=[crashing])
    told = lab.last_word(output)
    assert told["tiles"]["failed"] == 1
    assert told["tiles"]["pending"] == 0


def test_a_node_lost_and_a_node_gained(lab, cluster, request_of, carry, undisturbed, run_ray, tmp_path):
    """The second node dies in mid-run with its worker; a third joins and takes part."""
    output = tmp_path / "cube.zarr"
    second = cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    result = []
    runner = partial(run_ray, cpus=2.0)  # one worker fills a node, so two nodes are two workers
    work = threading.Thread(target=lambda: result.append(carry(request_of(), output, runner, **gated(tmp_path))))
    with lab.watch(output, TILES):
        work.start()
        until = time.monotonic() + 90
        while len(makers(output)) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        both = makers(output)
        cluster.remove_node(second, allow_graceful=False)
        third = cluster.add_node(num_cpus=2, object_store_memory=100_000_000)  # only the main thread may add one
        work.join(timeout=180)
    assert not work.is_alive()
    assert result[0].complete
    lab.assert_equal_but(output, undisturbed)
    cluster.remove_node(third, allow_graceful=False)
    assert len(both) == 2
    assert len(makers(output)) >= 3  # first node's, lost node's, and the one that joined


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_a_killed_driver_is_taken_up_where_it_was(
    kind, lab, request, request_of, carry, undisturbed, tiny_checkpoint, tmp_path
):
    output, environment = tmp_path / "cube.zarr", dict(os.environ)
    runner = run_local
    if kind == "ray":
        cluster, runner = request.getfixturevalue("cluster"), partial(request.getfixturevalue("run_ray"), workers=2)
        environment["RAY_ADDRESS"] = cluster.address
    script = [sys.executable, str(Path(__file__).with_name("driver.py"))]
    arguments = [request_of().model_dump_json(), str(output), tiny_checkpoint.uri, kind, "0.4"]
    driver = subprocess.Popen([*script, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while done(output) < 5 and time.monotonic() < until and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, driver.stderr.read()
    before = lab.statuses(output)
    kept = int((before == Status.DONE).sum())
    assert 5 <= kept < TILES
    assert lab.last_word(output)["state"] == "running"  # it could not say more
    if kind == "ray":
        assert lab.gone(lab.workers_of(cluster.folder), within=30)  # a dead driver leaves no workers behind
    assert carry(request_of(), output, runner).complete
    assert lab.last_word(output)["this_run"]["planned"] <= TILES - kept
    lab.assert_equal_but(output, undisturbed)


class BreaksOnce:
    """A pipeline maker that fails the first time, as when a store has a bad moment while weights are loaded."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self, job):
        if not os.path.exists(self.flag):
            open(self.flag, "w").close()
            raise RuntimeError("the store had a bad moment")
        return FakePipeline()(job)


def broken(job):
    raise RuntimeError("no such network")


def test_a_bad_start_is_tried_again_and_a_broken_network_ends_the_run(
    lab, request_of, carry, undisturbed, run_ray, tmp_path
):
    output = tmp_path / "cube.zarr"
    runner = partial(run_ray, workers=1)
    with pytest.raises(SpacexError, match="no such network"):
        carry(request_of(), output, runner, make_pipeline=broken)
    assert lab.last_word(output)["state"] == "failed"
    assert carry(request_of(), output, runner, make_pipeline=BreaksOnce(str(tmp_path / "flag"))).complete
    lab.assert_equal_but(output, undisturbed)


class Hangs:
    """A pipeline whose network never returns the first time."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self, job):
        pipeline = FakePipeline()(job)
        if not os.path.exists(self.flag):
            pipeline._network = lambda pixels: (open(self.flag, "w").close(), time.sleep(1e9))
        return pipeline


def test_a_worker_that_hangs_is_started_anew(lab, request_of, carry, undisturbed, run_ray, tmp_path):
    output = tmp_path / "cube.zarr"
    hangs = Hangs(str(tmp_path / "flag"))
    assert carry(request_of(), output, partial(run_ray, workers=1), make_pipeline=hangs, time_limit=6.0).complete
    lab.assert_equal_but(output, undisturbed)
