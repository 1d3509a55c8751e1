"""The store makes once, forgets the oldest, and remembers no fault."""

from __future__ import annotations

import threading
import time

import pytest

from spacex.sentinel2.single_flight import SingleFlightCache


def store(limit: int = 100, timeout: float = 10.0) -> SingleFlightCache[int, bytes]:
    return SingleFlightCache(limit, len, timeout)


def test_what_is_kept_is_not_made_again_and_the_oldest_goes_first() -> None:
    asked: list[list[int]] = []

    def make(keys: list[int]) -> dict[int, bytes]:
        asked.append(keys)
        return {key: bytes(40) for key in keys}

    kept = store()
    kept.get([1, 2, 1], make)
    kept.get([1], make)  # now 2 is the oldest
    kept.get([3], make)
    assert kept.bytes == 80
    assert sorted(kept.get([1, 2, 3], make)) == [1, 2, 3]
    assert asked == [[1, 2], [3], [2]]


def test_a_value_larger_than_the_store_is_given_and_not_kept() -> None:
    kept = store()
    assert len(kept.get([1], lambda keys: {1: bytes(500)})[1]) == 500
    assert kept.bytes == 0


def test_threads_that_want_the_same_make_it_once() -> None:
    kept, made, both = store(), [], threading.Barrier(2)

    def make(keys: list[int]) -> dict[int, bytes]:
        made.append(keys)
        time.sleep(0.1)
        return {key: b"x" for key in keys}

    def want(keys: list[int]) -> None:
        both.wait()
        kept.get(keys, make)

    threads = [threading.Thread(target=want, args=(keys,)) for keys in ([1, 2, 3], [3, 2, 4])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(key for keys in made for key in keys) == [1, 2, 3, 4]


def test_a_fault_is_its_makers_and_is_not_remembered() -> None:
    kept, begun = store(), threading.Event()

    def fail(keys: list[int]) -> dict[int, bytes]:
        begun.set()
        time.sleep(0.1)
        raise OSError("damaged")

    faults = []

    def first() -> None:
        with pytest.raises(OSError, match="damaged") as caught:
            kept.get([1, 2], fail)
        faults.append(caught)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(5)
    assert kept.get([2], lambda keys: {2: b"mine"}) == {2: b"mine"}  # waits, then makes it itself
    thread.join(5)
    assert len(faults) == 1
    assert kept.get([1], lambda keys: {1: b"again"}) == {1: b"again"}


def test_nobody_waits_for_ever_for_a_thread_that_hangs() -> None:
    kept, hang, begun = store(timeout=0.1), threading.Event(), threading.Event()

    def stall(keys: list[int]) -> dict[int, bytes]:
        begun.set()
        hang.wait(10)
        return {1: b"late"}

    thread = threading.Thread(target=kept.get, args=([1], stall), daemon=True)
    thread.start()
    begun.wait(5)
    assert kept.get([1], lambda keys: {1: b"own"}) == {1: b"own"}
    hang.set()
    thread.join(5)
    assert kept.bytes in (3, 4)  # the late value took the place of the other, or not: never both
    assert len(kept.get([1], lambda keys: {})[1]) == kept.bytes
