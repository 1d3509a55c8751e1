"""The thread pools that read files, and the order in which work is submitted to them."""

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
def submit_round_robin(
    threads: int, work: Callable[[T], R], items: Sequence[T], group: Callable[[T], Hashable]
) -> Iterator[Iterator[R]]:
    """Run `work` on every item, started at once, in a pool of threads that callers with the same number share.

    Items are submitted round-robin over `group`. Members of a group share a resampling table, and all but the first
    would block until it is built.

    Yields:
        The results in the order of `items`, each as soon as it is there; the first exception among them is raised.
        What has not started when the block ends is cancelled.
    """
    seen: Counter[Hashable] = Counter()
    rounds = []  # per item: how many of its group come before it
    for item in items:
        rounds.append(seen[group(item)])
        seen[group(item)] += 1
    order = sorted(range(len(items)), key=rounds.__getitem__)  # stable: within a round the order of the items
    futures = {i: _pool(threads).submit(work, items[i]) for i in order}
    try:
        yield (futures[i].result() for i in range(len(items)))
    finally:
        for future in futures.values():
            future.cancel()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    # kept for the life of the process: GDAL's connections belong to threads, and new threads would reconnect
    return ThreadPoolExecutor(threads, thread_name_prefix="spacex-read")
