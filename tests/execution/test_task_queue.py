"""Failures of tiles and deaths of workers are counted apart, and every tile ends somewhere."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from spacex.execution.task_queue import MAX_TRIES, MAX_WORKER_DEATHS, TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask

TILES = [TileTask(0, 0, col) for col in range(3)]


def failed(task):
    return TileReport(task, Status.FAILED, "read: truncated")


def test_a_failure_is_tried_three_times_then_quarantined_with_its_reason():
    queue = TaskQueue(TILES[:1])
    outcomes = []
    while (task := queue.take()) is not None:
        outcomes.append(queue.complete(failed(task)))
    assert outcomes == [False] * (MAX_TRIES - 1) + [True]
    assert "truncated" in queue.stats.quarantined[TILES[0]]
    assert queue.finished


def test_a_lost_worker_costs_no_try_and_its_tiles_go_out_alone():
    queue = TaskQueue(TILES)
    held = [queue.take(), queue.take()]
    assert queue.worker_lost(held) == []
    assert queue.stats.failures.total() == 0
    # a worker that holds a tile may have the innocent one only
    assert queue.take(idle_worker=False) == TILES[2]
    assert queue.take(idle_worker=False) is None
    assert queue.take(idle_worker=True) == TILES[0]


def test_a_tile_that_kills_worker_after_worker_is_quarantined_and_its_neighbour_is_not():
    queue = TaskQueue(TILES[:2])
    queue.worker_lost([queue.take(), queue.take()])
    for _ in range(MAX_WORKER_DEATHS):
        bad = queue.take()
        if bad == TILES[1]:
            queue.complete(TileReport(bad, Status.DONE))
            bad = queue.take()
        queue.worker_lost([bad])
    assert set(queue.stats.quarantined) == {TILES[0]}
    assert queue.stats.tiles[Status.DONE] == 1
    assert queue.finished


def test_workers_get_neighbours_and_end_together():
    tiles = [TileTask(0, 0, col) for col in range(400)]
    queue, had = TaskQueue(tiles), {"a": [], "b": []}
    for turn in range(400):
        worker = "ab"[turn % 2]
        task = queue.take(worker=worker)
        had[worker].append(task.col)
        queue.complete(TileReport(task, Status.DONE))
    assert queue.finished
    assert sorted(had["a"] + had["b"]) == list(range(400))
    for cols in had.values():
        follows = sum(after == before + 1 for before, after in itertools.pairwise(cols))
        assert follows > 0.93 * len(cols)


@given(
    st.lists(st.tuples(st.sampled_from(["done", "fail", "lose"]), st.sampled_from([None, *"abc"])), max_size=200),
    st.integers(1, 90),
)
def test_no_tile_is_ever_lost_or_counted_twice(events, count):
    tiles = [TileTask(0, 0, col) for col in range(count)]
    queue = TaskQueue(tiles)
    for event, worker in events:
        task = queue.take(worker=worker)
        if task is None:
            break
        if event == "lose":
            queue.worker_lost([task])
        else:
            queue.complete(TileReport(task, Status.DONE) if event == "done" else failed(task))
        waiting = [*queue.todo, *(task for assigned in queue.assignments.values() for task in assigned)]
        assert queue.waiting == len(waiting)
        assert len(waiting) + len(queue.in_progress) + sum(queue.stats.tiles.values()) == count
        assert len(set(waiting)) == len(waiting)
    assert queue.stats.tiles[Status.FAILED] == len(queue.stats.quarantined)
