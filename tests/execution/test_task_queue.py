"""Faults and losses are booked apart, and every tile ends somewhere."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from spacex.execution.task_queue import MAX_LOSSES, MAX_TRIES, TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask

TILES = [TileTask(0, 0, col) for col in range(3)]


def failed(task):
    return TileReport(task, Status.FAILED, "read: truncated")


def test_a_fault_is_tried_three_times_then_quarantined_with_its_reason():
    ledger = TaskQueue.of(TILES[:1])
    outcomes = []
    while (task := ledger.take()) is not None:
        outcomes.append(ledger.settle(failed(task)))
    assert outcomes == [False] * (MAX_TRIES - 1) + [True]
    assert "truncated" in ledger.quarantined[TILES[0]]
    assert ledger.finished


def test_a_lost_worker_costs_no_try_and_its_tiles_go_out_alone():
    ledger = TaskQueue.of(TILES)
    held = [ledger.take(), ledger.take()]
    assert ledger.lose(held) == []
    assert ledger.faults.total() == 0
    # a worker that holds a tile may have the innocent one only
    assert ledger.take(idle_worker=False) == TILES[2]
    assert ledger.take(idle_worker=False) is None
    assert ledger.take(idle_worker=True) == TILES[0]


def test_a_tile_that_kills_worker_after_worker_is_given_up_and_its_neighbour_is_not():
    ledger = TaskQueue.of(TILES[:2])
    ledger.lose([ledger.take(), ledger.take()])
    for _ in range(MAX_LOSSES):
        bad = ledger.take()
        if bad == TILES[1]:
            ledger.settle(TileReport(bad, Status.DONE))
            bad = ledger.take()
        ledger.lose([bad])
    assert set(ledger.quarantined) == {TILES[0]}
    assert ledger.settled[Status.DONE] == 1
    assert ledger.finished


def test_workers_get_neighbours_and_end_together():
    tiles = [TileTask(0, 0, col) for col in range(400)]
    ledger, had = TaskQueue.of(tiles), {"a": [], "b": []}
    for turn in range(400):
        worker = "ab"[turn % 2]
        task = ledger.take(worker=worker)
        had[worker].append(task.col)
        ledger.settle(TileReport(task, Status.DONE))
    assert ledger.finished
    assert sorted(had["a"] + had["b"]) == list(range(400))
    for cols in had.values():
        follows = sum(after == before + 1 for before, after in itertools.pairwise(cols))
        assert follows > 0.93 * len(cols)


@given(
    st.lists(st.tuples(st.sampled_from(["done", "fault", "lose"]), st.sampled_from([None, *"abc"])), max_size=200),
    st.integers(1, 90),
)
def test_no_tile_is_ever_lost_or_booked_twice(events, count):
    tiles = [TileTask(0, 0, col) for col in range(count)]
    ledger = TaskQueue.of(tiles)
    for event, worker in events:
        task = ledger.take(worker=worker)
        if task is None:
            break
        if event == "lose":
            ledger.lose([task])
        else:
            ledger.settle(TileReport(task, Status.DONE) if event == "done" else failed(task))
        waiting = [*ledger.todo, *(task for claim in ledger.claims.values() for task in claim)]
        assert ledger.waiting == len(waiting)
        assert len(waiting) + len(ledger.in_hand) + sum(ledger.settled.values()) == count
        assert len(set(waiting)) == len(waiting)
    assert ledger.settled[Status.FAILED] == len(ledger.quarantined)
