"""Two runs of one cube: one works, the other says who does; dead processes hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from spacex.errors import CubeError
from spacex.execution import lock as lock_module
from spacex.execution.lock import LockFile, LockOwner, OutputLock

HOLDS = """
import sys, time
from spacex.execution.lock import OutputLock
OutputLock(sys.argv[1])
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
    """A lock as some other owner would have left it."""
    holder = replace(LockOwner.this_process(), **changes)
    file = LockFile(folder)
    file.swap(holder, None)
    assert file.read()[0] == holder
    return holder


def test_the_second_is_told_who_holds_it_and_the_third_may(folder):
    with OutputLock(folder):
        with pytest.raises(CubeError) as caught:
            OutputLock(folder)
        assert f"process {os.getpid()} on {LockOwner.this_process().host} since 20" in str(caught.value)
        assert "\n" not in str(caught.value)
    with OutputLock(folder):
        pass
    assert LockFile(folder).read() == (None, None)


def test_it_is_given_free_on_interruption(folder):
    with pytest.raises(KeyboardInterrupt), OutputLock(folder):
        raise KeyboardInterrupt
    assert LockFile(folder).read() == (None, None)


def test_of_many_at_once_exactly_one_gets_it(folder):
    held, refused, start = [], [], threading.Barrier(8)

    def run():
        start.wait()
        try:
            held.append(OutputLock(folder))
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
    leave(folder, process_start="1", pid=os.getpid())
    test_of_many_at_once_exactly_one_gets_it(folder)


def test_a_killed_holder_of_this_machine_holds_nothing(tmp_path):
    folder = str(tmp_path / "lapland.run")
    process = subprocess.Popen([sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(CubeError, match=f"process {process.pid} "):
        OutputLock(folder)
    process.send_signal(signal.SIGKILL)
    until = Path(f"/proc/{process.pid}/stat")
    while ") Z" not in until.read_text():  # dead, though its parent (this test) has not looked after it
        pass
    OutputLock(folder).release()
    process.wait()
    process.stdout.close()


def test_a_process_id_used_again_is_not_the_holder(folder):
    leave(folder, pid=1, process_start="not when process 1 started")
    OutputLock(folder).release()


def test_a_holder_elsewhere_holds_as_long_as_it_is_heard(folder, monkeypatch):
    monkeypatch.setattr(lock_module, "CONFIRM_S", 0.2)
    leave(folder, machine="elsewhere", host="node7")
    with pytest.raises(CubeError, match="on node7"):
        OutputLock(folder)


def test_a_holder_elsewhere_that_has_fallen_silent_is_succeeded(folder, monkeypatch, caplog):
    monkeypatch.setattr(lock_module, "CONFIRM_S", 0.2)
    leave(folder, machine="elsewhere", host="node7", heartbeat=0.0)
    OutputLock(folder).release()
    assert "took over the output from" in caplog.text
    assert "node7" in caplog.text


def test_a_clock_that_is_wrong_does_not_kill_a_holder(folder, monkeypatch):
    """Its beat looks old, but it changes while we look on."""
    monkeypatch.setattr(lock_module, "CONFIRM_S", 3.0)
    holder = leave(folder, machine="elsewhere", heartbeat=1000.0)
    file = LockFile(folder)
    timer = threading.Timer(0.3, lambda: file.swap(replace(holder, heartbeat=1010.0), file.read()[1]))
    timer.start()
    with pytest.raises(CubeError, match="another run holds"):
        OutputLock(folder)
    timer.join()


def test_a_holder_renews_it_and_notices_when_it_is_lost(folder, monkeypatch):
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.05)
    held = OutputLock(folder)
    file, first = LockFile(folder), held._owner.heartbeat
    until = threading.Event()
    for _ in range(100):
        if file.read()[0].heartbeat > first:
            break
        until.wait(0.05)
    assert file.read()[0].heartbeat > first
    held.check()
    other = replace(LockOwner.this_process(), host="node7")
    while file.read()[0] != other:
        file.swap(other, file.read()[1])
    held._thread.join(10)
    with pytest.raises(CubeError, match=r"taken over.*node7"):
        held.check()
    held.release()
    assert file.read()[0].host == "node7"  # what is another's is not removed


def test_half_a_lock_is_nobodys(tmp_path):
    folder = tmp_path / "lapland.run"
    folder.mkdir()
    (folder / "claim.json").write_text('{"host": "no')
    OutputLock(str(folder)).release()


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(CubeError, match=r"cannot write /proc/nowhere\.run") as caught:
        OutputLock("/proc/nowhere.run")
    assert "\n" not in str(caught.value)


def test_a_run_locks_before_it_writes(map_offline, make_request, tmp_path):
    """A run that is refused leaves nothing behind, and one that is given the cube leaves no lock."""
    output, seen = tmp_path / "small.zarr", []

    def runner(job, queue, on_tick):
        with pytest.raises(CubeError, match="another run holds this output"):
            map_offline(make_request(), output, runner=None)
        seen.append(sorted(p.name for p in (tmp_path / "small.run").iterdir()))
        queue.todo.clear()

    with OutputLock(str(tmp_path / "small.run")), pytest.raises(CubeError, match="another run holds"):
        map_offline(make_request(), output, runner=None)
    assert not output.exists()
    map_offline(make_request(), output, runner=runner)
    assert seen == [["claim.json", "progress.json", "scenes.gz"]]
    assert not (tmp_path / "small.run" / "claim.json").exists()
