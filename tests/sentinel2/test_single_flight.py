"""The cache computes once, evicts the least recently used, and keeps no failure."""

from __future__ import annotations

import threading
import time

import pytest

from spacex.sentinel2.single_flight import SingleFlightCache


def make_cache(limit: int = 100, timeout: float = 10.0) -> SingleFlightCache[int, bytes]:
    return SingleFlightCache(limit, len, timeout)


def test_what_is_kept_is_not_made_again_and_the_oldest_goes_first() -> None:
    asked: list[list[int]] = []

    def make(keys: list[int]) -> dict[int, bytes]:
        asked.append(keys)
        return {key: bytes(40) for key in keys}

    cache = make_cache()
    cache.get([1, 2, 1], make)
    cache.get([1], make)  # now 2 is the oldest
    cache.get([3], make)
    assert cache.bytes == 80
    assert sorted(cache.get([1, 2, 3], make)) == [1, 2, 3]
    assert asked == [[1, 2], [3], [2]]


def test_a_value_larger_than_the_cache_is_given_and_not_kept() -> None:
    cache = make_cache()
    assert len(cache.get([1], lambda keys: {1: bytes(500)})[1]) == 500
    assert cache.bytes == 0


def test_threads_that_want_the_same_make_it_once() -> None:
    cache, made, both = make_cache(), [], threading.Barrier(2)

    def make(keys: list[int]) -> dict[int, bytes]:
        made.append(keys)
        time.sleep(0.1)
        return {key: b"x" for key in keys}

    def want(keys: list[int]) -> None:
        both.wait()
        cache.get(keys, make)

    threads = [threading.Thread(target=want, args=(keys,)) for keys in ([1, 2, 3], [3, 2, 4])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(key for keys in made for key in keys) == [1, 2, 3, 4]


def test_a_fault_is_its_makers_and_is_not_remembered() -> None:
    cache, begun = make_cache(), threading.Event()

    def fail(keys: list[int]) -> dict[int, bytes]:
        begun.set()
        time.sleep(0.1)
        raise OSError("damaged")

    faults = []

    def first() -> None:
        with pytest.raises(OSError, match="damaged") as caught:
            cache.get([1, 2], fail)
        faults.append(caught)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(5)
    assert cache.get([2], lambda keys: {2: b"mine"}) == {2: b"mine"}  # waits, then makes it itself
    thread.join(5)
    assert len(faults) == 1
    assert cache.get([1], lambda keys: {1: b"again"}) == {1: b"again"}


def test_nobody_waits_for_ever_for_a_thread_that_hangs() -> None:
    cache, hang, begun = make_cache(timeout=0.1), threading.Event(), threading.Event()

    def stall(keys: list[int]) -> dict[int, bytes]:
        begun.set()
        hang.wait(10)
        return {1: b"late"}

    thread = threading.Thread(target=cache.get, args=([1], stall), daemon=True)
    thread.start()
    begun.wait(5)
    assert cache.get([1], lambda keys: {1: b"own"}) == {1: b"own"}
    hang.set()
    thread.join(5)
    assert cache.bytes in (3, 4)  # the late value took the place of the other, or not: never both
    assert len(cache.get([1], lambda keys: {})[1]) == cache.bytes
