"""A cache bounded in bytes that threads share: each value is computed once, however many threads ask for it.

Failures are not cached. If the computing thread raises or exceeds the timeout, each waiting thread computes the value
itself and raises its own exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TIMEOUT_S = 150.0
"""Seconds to wait for another thread; longer than `GDAL_HTTP_TIMEOUT`, after which a stalled transfer fails."""


class SingleFlightCache(Generic[K, V]):
    """Values by key, the least recently used evicted first. Safe to share between threads.

    Args:
        limit: bytes of all values kept.
        size: bytes of one value; larger ones than the limit are returned and not kept.
        timeout: seconds after which a value that another thread is computing is computed again.
    """

    def __init__(self, limit: int, size: Callable[[V], int], timeout: float = TIMEOUT_S) -> None:
        self._cache: LRUCache[K, V] = LRUCache(limit, size)
        self._pending: dict[K, tuple[Future[Mapping[K, V]], float]] = {}
        """Per key that is being computed: the future result, and when the computation started."""
        self._timeout = timeout
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """Bytes of all values kept."""
        return int(self._cache.currsize)

    def get(self, keys: Iterable[K], compute: Callable[[list[K]], Mapping[K, V]]) -> dict[K, V]:
        """The values of all keys.

        Those that are neither cached nor being computed come from one call of `compute`, whose exceptions are raised.
        """
        values: dict[K, V] = {}
        missing = list(dict.fromkeys(keys))
        while missing:
            own: list[K] = []
            others: set[Future[Mapping[K, V]]] = set()
            future: Future[Mapping[K, V]] = Future()
            now = time.monotonic()
            with self._lock:
                for key in missing:
                    if key in self._cache:
                        values[key] = self._cache[key]
                    elif key in self._pending and now - self._pending[key][1] < self._timeout:
                        others.add(self._pending[key][0])
                    else:
                        # nobody computes it, or whoever does has taken too long: from now on this thread does
                        self._pending[key] = future, now
                        own.append(key)
            # first this thread's own keys, then those of others: they are computed meanwhile
            if own:
                values |= self._compute(own, future, compute)
            for other in others:
                with suppress(Exception):  # it failed or timed out: the next round computes its keys here
                    computed = other.result(self._timeout)
                    values |= {key: computed[key] for key in missing if key in computed}
            missing = [key for key in missing if key not in values]
        return values

    def _compute(
        self, keys: list[K], future: Future[Mapping[K, V]], compute: Callable[[list[K]], Mapping[K, V]]
    ) -> dict[K, V]:
        computed: dict[K, V] = {}
        failure: BaseException | None = None
        try:
            computed = {**compute(keys)}
        except BaseException as error:
            failure = error
            raise
        finally:
            with self._lock:
                for key in keys:
                    # after a timeout the key may belong to another thread by now
                    if key in self._pending and self._pending[key][0] is future:
                        del self._pending[key]
                for key, value in computed.items():
                    with suppress(ValueError):  # larger than the whole cache
                        self._cache[key] = value
            # only now, so that a waiting thread finds the key cached or free
            future.set_exception(failure) if failure else future.set_result(computed)
        return computed
