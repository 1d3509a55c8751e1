"""What a run says while it goes on: estimates only once they mean something, and what happens after a loss."""

from __future__ import annotations

import io
import logging
from collections import Counter
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorUnavailableError

from spacex.commands.execution import announce
from spacex.execution import progress, ray_actors
from spacex.execution.progress import ProgressLog
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_no_time_is_left_before_it_can_be_known_and_then_the_right_one(clock, tmp_path):
    """Four tiles in hand, 10 s each after a start of 100 s: 100 tiles take 250 s from the first."""
    queue = TaskQueue([TileTask(0, 0, col) for col in range(100)])
    log = ProgressLog(str(tmp_path / "progress.json"), queue, Counter(), "mapping", stream=io.StringIO())
    held = [queue.take(worker=0) for _ in range(4)]
    clock.seconds += 100
    for number in range(1, 41):
        queue.complete(TileReport(task=held.pop(0), status=Status.DONE))
        held.append(queue.take(worker=0))
        log.tick(workers=1)
        note = log._note()
        assert ("left" in note) == (number > 8), note
        if number > 8:
            assert note == f"0.40 tiles/s, {progress.format_duration(round((100 - number) * 2.5))} left"
        else:
            assert note == "4 tiles in hand"
        clock.seconds += 2.5


def test_nothing_is_estimated_while_all_workers_are_gone(clock, tmp_path):
    queue = TaskQueue([TileTask(0, 0, col) for col in range(10)])
    log = ProgressLog(str(tmp_path / "progress.json"), queue, Counter(), "mapping", stream=io.StringIO())
    queue.complete(TileReport(task=queue.take(worker=0), status=Status.DONE))
    log.tick(workers=1)
    clock.seconds += 100
    assert not queue.in_progress
    log.tick(workers=0)
    assert "left" not in log._note()


def test_a_lost_worker_is_one_short_line_that_says_what_happens_next(monkeypatch, caplog):
    monkeypatch.setattr(ray_actors, "RunMetrics", lambda run: None)
    task, actor = TileTask(0, 0, 0), SimpleNamespace(ping=SimpleNamespace(remote=lambda: "call"))
    queue = TaskQueue([task])
    pool = ray_actors.ActorPool(queue, SimpleNamespace(output="a.zarr"), lambda: actor)
    handle = ray_actors.ActorHandle(actor, restarting=False, tasks={queue.take()})
    with caplog.at_level(logging.WARNING):
        pool._on_worker_lost(handle, ActorUnavailableError("connection reset by peer " * 40, None))
    [line] = caplog.messages
    assert line.startswith("a worker was lost; its 1 tiles go to other workers, and it is started again")
    assert len(line) < 250
    assert queue.waiting == 1


def test_a_run_on_a_cluster_says_at_once_what_it_does(capsys):
    asked = {"local": False, "plan": False}
    announce(asked)
    assert capsys.readouterr().err.startswith("planning: looking for scenes")
    for quiet in ({"plan": True}, {"local": True}):
        announce({**asked, **quiet})
        assert capsys.readouterr().err == ""
