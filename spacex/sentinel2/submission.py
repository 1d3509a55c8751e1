"""The threads that read files, and in which order they begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def reading(
    threads: int, work: Callable[[T], R], items: Sequence[T], kind: Callable[[T], Hashable]
) -> Iterator[Iterator[R]]:
    """Has something done to each item, from now on, beside the thread that calls.

    Args:
        threads: how many do it; callers with the same number share them.
        work: what to do.
        items: to what.
        kind: items of different kinds are begun in turns, because those of one kind wait for what only the first of
            them makes.

    Yields:
        The results in the order of `items`, each as soon as it is there; the first fault among them is raised. What
        has not begun when the block ends is not begun any more.
    """
    seen: Counter[Hashable] = Counter()
    turns = []
    for item in items:
        turns.append(seen[kind(item)])
        seen[kind(item)] += 1
    futures = {i: _pool(threads).submit(work, items[i]) for i in sorted(range(len(items)), key=turns.__getitem__)}
    try:
        yield (futures[i].result() for i in range(len(items)))
    finally:
        for future in futures.values():
            future.cancel()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    # kept for the life of the process: GDAL's connections belong to threads, and new threads would reconnect
    return ThreadPoolExecutor(threads, thread_name_prefix="spacex-read")
