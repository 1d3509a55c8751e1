"""What a run survives, on both runners alike: bad tiles, hanging reads, busy servers, expired links, a full disk."""

from __future__ import annotations

import errno
import os
import subprocess

import numpy as np
import pytest
from fakes import FakeNetworks, FakeSource, FaultInjection

from spacex.cube.store import Cube
from spacex.execution.tasks import TileTask
from spacex.mapping.pipeline import Pipeline

pytestmark = pytest.mark.ray
ONE = TileTask(0, -987, 958)
TILES = 21


def test_the_region_has_the_tiles_it_should(lab, request_of, undisturbed):
    assert len(lab.tasks_of(request_of())) == TILES
    lab.assert_equal_but(undisturbed, undisturbed)


def test_one_failing_tile_is_named_and_nothing_else_is_lost(lab, request_of, carry, undisturbed, runner, tmp_path):
    request, output = request_of(), tmp_path / "cube.zarr"
    with lab.watch(output, TILES):
        outcome = carry(request, output, runner, FaultInjection(fail=frozenset({ONE})))
    assert set(outcome.quarantined) == {ONE}
    assert "an injected failure" in outcome.quarantined[ONE]
    assert "3 tries" in outcome.quarantined[ONE]
    lab.assert_equal_but(output, undisturbed, missing=[ONE])
    assert "an injected failure" in Cube(str(output)).provenance(ONE)["reason"]
    told = lab.last_word(output)
    assert told["state"] == "incomplete"
    assert told["tiles"] == {"pending": 0, "done": TILES - 1, "no_data": 0, "outside": 4, "failed": 1}
    assert list(told["quarantined"]) == [str(ONE)]
    # the same command again, the fault mended: only that tile is done
    again = carry(request, output, runner)
    assert again.complete
    assert lab.last_word(output)["this_run"]["planned"] == 1
    lab.assert_equal_but(output, undisturbed)


def test_a_read_that_never_ends_costs_its_tile_and_no_more(lab, request_of, carry, undisturbed, runner, tmp_path):
    output = tmp_path / "cube.zarr"
    with lab.watch(output, TILES):
        outcome = carry(request_of(), output, runner, FaultInjection(hang=frozenset({ONE})), time_limit=1.5)
    assert set(outcome.quarantined) == {ONE}
    assert "no end after" in outcome.quarantined[ONE]
    assert outcome.seconds < 60
    lab.assert_equal_but(output, undisturbed, missing=[ONE])


class FullDisk:
    """A pipeline whose disk has room for some chunks and then for none, until it is given more."""

    def __init__(self, flag, room):
        self.flag, self.room = flag, room

    def __call__(self, job):
        sink = Cube(job.output)
        write, written = sink.write, []

        def limited(task, tile):
            written.append(task)
            if len(written) > self.room and not os.path.exists(self.flag):
                raise OSError(errno.ENOSPC, "No space left on device")
            write(task, tile)

        sink.write = limited
        return Pipeline(FakeSource(job.request).read, FakeNetworks(), sink, job.request.chips)


def test_a_disk_that_fills_up_leaves_a_list_and_a_run_to_resume(lab, request_of, carry, undisturbed, runner, tmp_path):
    output, flag = tmp_path / "cube.zarr", tmp_path / "more-room"
    with lab.watch(output, TILES):
        outcome = carry(request_of(), output, runner, make_pipeline=FullDisk(str(flag), 4))
    assert outcome.quarantined
    assert all("No space left" in reason for reason in outcome.quarantined.values())
    lab.assert_equal_but(output, undisturbed, missing=outcome.quarantined)
    flag.touch()
    assert carry(request_of(), output, runner, make_pipeline=FullDisk(str(flag), 4)).complete
    lab.assert_equal_but(output, undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(lab, request_of, carry, undisturbed, small_disk):
    """6 MB hold the metadata and some tiles: what cannot be written is known to be missing, and room brings it."""
    output = small_disk / "cube.zarr"
    try:
        outcome = carry(request_of(), output)
        assert outcome.quarantined
    except OSError as error:
        # not even the notes of the run fit: it says so and stops
        if error.errno != errno.ENOSPC:
            raise
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    half = lab.statuses(output)
    assert 0 < (half == 1).sum() < TILES
    assert carry(request_of(), output).complete
    lab.assert_equal_but(output, undisturbed)


def test_two_time_steps_of_a_failing_tile_fail_apart(lab, request_of, carry, runner, tmp_path):
    request = request_of(
        (23.9, 67.98, 24.1, 68.03), intervals=(("2020-07-01", "2020-07-31"), ("2020-08-01", "2020-08-31"))
    )
    bad = TileTask(1, -987, 957)
    outcome = carry(request, tmp_path / "cube.zarr", runner, FaultInjection(fail=frozenset({bad})))
    assert set(outcome.quarantined) == {bad}
    states = lab.statuses(tmp_path / "cube.zarr")
    assert states[0, 0, 0] == 1
    assert np.argwhere(states == 4).tolist() == [[1, 0, 0]]
