"""Two runs of one cube: one works, the other says who does; the dead hold nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from spacex.errors import CubeError
from spacex.execution import lock as claim
from spacex.execution.lock import LockOwner, output_lock, take
from spacex.execution.lock_file import lock_file

HOLDS = """
import sys, time
from spacex.execution.lock import take
take(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path):
    """A run folder, on a disk and in an object store."""
    if request.param == "disk":
        return str(tmp_path / "lapland.run")
    return f"{request.getfixturevalue('object_store')}/{tmp_path.name}/lapland.run"


def leave(folder, **changes):
    """A claim as some other holder would have left it."""
    holder = replace(LockOwner.me(), **changes)
    assert lock_file(folder).create(holder.to_json())
    return holder


def test_the_second_is_told_who_holds_it_and_the_third_may(folder):
    with output_lock(folder):
        with pytest.raises(CubeError) as caught:
            take(folder)
        assert f"process {os.getpid()} on {LockOwner.me().host} since 20" in str(caught.value)
        assert "\n" not in str(caught.value)
    with output_lock(folder):
        pass
    assert lock_file(folder).read() is None


def test_it_is_given_free_on_interruption(folder):
    with pytest.raises(KeyboardInterrupt), output_lock(folder):
        raise KeyboardInterrupt
    assert lock_file(folder).read() is None


def test_of_many_at_once_exactly_one_gets_it(folder):
    held, refused, start = [], [], threading.Barrier(8)

    def run():
        start.wait()
        try:
            held.append(take(folder))
        except CubeError:
            refused.append(1)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].release()


def test_of_many_who_find_a_dead_one_exactly_one_gets_it(folder):
    leave(folder, born="1", pid=os.getpid())
    test_of_many_at_once_exactly_one_gets_it(folder)


def test_a_killed_holder_of_this_machine_holds_nothing(tmp_path):
    folder = str(tmp_path / "lapland.run")
    process = subprocess.Popen([sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(CubeError, match=f"process {process.pid} "):
        take(folder)
    process.send_signal(signal.SIGKILL)
    until = Path(f"/proc/{process.pid}/stat")
    while ") Z" not in until.read_text():  # dead, though its parent (this test) has not looked after it
        pass
    take(folder).release()
    process.wait()
    process.stdout.close()


def test_a_process_id_used_again_is_not_the_holder(folder):
    leave(folder, pid=1, born="not when process 1 started")
    take(folder).release()


def test_a_holder_elsewhere_holds_as_long_as_it_is_heard(folder, monkeypatch):
    monkeypatch.setattr(claim, "CONFIRM_S", 0.2)
    leave(folder, machine="elsewhere", host="node7")
    with pytest.raises(CubeError, match="on node7"):
        take(folder)


def test_a_holder_elsewhere_that_has_fallen_silent_is_succeeded(folder, monkeypatch, caplog):
    monkeypatch.setattr(claim, "CONFIRM_S", 0.2)
    leave(folder, machine="elsewhere", host="node7", beat=0.0)
    take(folder).release()
    assert "took over the output from" in caplog.text
    assert "node7" in caplog.text


def test_a_clock_that_is_wrong_does_not_kill_a_holder(folder, monkeypatch):
    """Its beat looks old, but it changes while we look on."""
    monkeypatch.setattr(claim, "CONFIRM_S", 3.0)
    holder = leave(folder, machine="elsewhere", beat=1000.0)
    place = lock_file(folder)
    timer = threading.Timer(0.3, lambda: place.replace(holder.to_json(1010.0), place.read()[1]))
    timer.start()
    with pytest.raises(CubeError, match="another run holds"):
        take(folder)
    timer.join()


def test_a_holder_renews_it_and_notices_when_it_is_lost(folder, monkeypatch):
    monkeypatch.setattr(claim, "HEARTBEAT_S", 0.05)
    held = take(folder)
    place, first = lock_file(folder), held._me.beat
    until = threading.Event()
    for _ in range(100):
        if json.loads(place.read()[0])["beat"] > first:
            break
        until.wait(0.05)
    assert json.loads(place.read()[0])["beat"] > first
    held.check()
    other = replace(LockOwner.me(), host="node7")
    while not place.replace(other.to_json(), place.read()[1]):
        pass
    held._thread.join(10)
    with pytest.raises(CubeError, match=r"taken over.*node7"):
        held.check()
    held.release()
    assert json.loads(place.read()[0])["host"] == "node7"  # what is another's is not removed


def test_half_a_claim_is_nobodys(tmp_path):
    folder = tmp_path / "lapland.run"
    folder.mkdir()
    (folder / "claim.json").write_text('{"host": "no')
    take(str(folder)).release()


def test_a_place_that_cannot_be_written_is_one_line():
    with pytest.raises(CubeError, match=r"cannot write /proc/nowhere\.run") as caught:
        take("/proc/nowhere.run")
    assert "\n" not in str(caught.value)


def test_a_run_claims_before_it_writes(map_offline, make_request, tmp_path):
    """A run that is refused leaves nothing behind, and one that is given the cube leaves no claim."""
    output, seen = tmp_path / "small.zarr", []

    def runner(job, ledger, **hooks):
        with pytest.raises(CubeError, match="another run holds this output"):
            map_offline(make_request(), output, runner=None)
        seen.append(sorted(p.name for p in (tmp_path / "small.run").iterdir()))
        ledger.todo.clear()

    with output_lock(str(tmp_path / "small.run")), pytest.raises(CubeError, match="another run holds"):
        map_offline(make_request(), output, runner=None)
    assert not output.exists()
    map_offline(make_request(), output, runner=runner)
    assert seen == [["claim.json", "progress.json", "scenes.gz"]]
    assert not (tmp_path / "small.run" / "claim.json").exists()
