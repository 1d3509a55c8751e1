from __future__ import annotations

from threading import Barrier, Event

import pytest

from spacex.sentinel2.submission import submit_round_robin


def test_results_come_in_the_order_of_the_items_while_groups_begin_round_robin() -> None:
    begun = []

    def work(item: str) -> str:
        begun.append(item)
        return item.upper()

    items = ["a1", "a2", "a3", "b1", "c1", "b2"]
    with submit_round_robin(1, work, items, lambda item: item[0]) as results:
        assert list(results) == [item.upper() for item in items]
    assert begun == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_it_begins_before_a_result_is_asked_for() -> None:
    begun = Event()
    with submit_round_robin(1, lambda item: begun.set(), [0], lambda item: item):
        assert begun.wait(10)


def test_as_many_as_there_are_threads_work_at_once() -> None:
    together = Barrier(3, timeout=10)
    with submit_round_robin(3, lambda item: together.wait(), range(3), lambda item: item) as results:
        assert sorted(results) == [0, 1, 2]


def test_a_fault_is_raised_and_what_has_not_begun_is_left() -> None:
    begun, go_on = [], Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError("the first")
        go_on.wait(10)

    with pytest.raises(ValueError, match="the first"):  # noqa: SIM117
        with submit_round_robin(1, work, range(20), lambda item: 0) as results:
            list(results)
    go_on.set()
    with submit_round_robin(1, lambda item: item, [0], lambda item: 0) as results:  # behind whatever had begun
        assert list(results) == [0]
    assert begun in ([0], [0, 1])
