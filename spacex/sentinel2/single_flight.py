"""A bounded memory that threads share: what several of them want is made once, and kept while there is room.

Nothing that went wrong is remembered. Who waits for a value that another thread then fails to make, or does not
finish in time, makes it himself and meets the fault, if it is one, under his own name.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PATIENCE = 150.0
"""Seconds to wait for another thread; a transfer that stalls is given up after less (`GDAL_HTTP_TIMEOUT`)."""


class SingleFlightCache(Generic[K, V]):
    """Values by key, the least recently wanted forgotten first.

    Args:
        limit: bytes of all values kept; values in use may add to them.
        size: bytes of one value.
        patience: seconds after which a value another thread is making is made again.
    """

    def __init__(self, limit: int, size: Callable[[V], int], patience: float = PATIENCE) -> None:
        self._limit, self._size, self._patience = limit, size, patience
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, tuple[Future[Mapping[K, V]], float]] = {}
        self._lock = Lock()
        self.bytes = 0

    def get(self, keys: Iterable[K], make: Callable[[list[K]], Mapping[K, V]]) -> dict[K, V]:
        """The values of all keys.

        Args:
            keys: what is wanted.
            make: makes those of the given keys that are neither kept nor being made, all in one call; what it raises
                is raised here.
        """
        found: dict[K, V] = {}
        missing = list(dict.fromkeys(keys))
        while missing:
            mine, promise, theirs = self._look_up(missing, found)
            if mine:
                found |= self._make(mine, promise, make)
            for future in theirs:
                with suppress(Exception):  # another's fault: the next round makes it here
                    made = future.result(self._patience)
                    found |= {key: made[key] for key in missing if key in made}
            missing = [key for key in missing if key not in found]
        return found

    def _look_up(
        self, keys: list[K], found: dict[K, V]
    ) -> tuple[list[K], Future[Mapping[K, V]], set[Future[Mapping[K, V]]]]:
        """Adds what is kept to `found`; gives the keys to make here, the promise for them, and others' promises."""
        mine, theirs, now = [], set(), time.monotonic()
        promise: Future[Mapping[K, V]] = Future()
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key]
                elif key in self._making and now - self._making[key][1] < self._patience:
                    theirs.add(self._making[key][0])
                else:
                    self._making[key] = promise, now
                    mine.append(key)
        return mine, promise, theirs

    def _make(
        self, keys: list[K], promise: Future[Mapping[K, V]], make: Callable[[list[K]], Mapping[K, V]]
    ) -> dict[K, V]:
        try:
            made = {**make(keys)}
        except BaseException as error:
            self._settle(keys, promise, {})
            promise.set_exception(error)
            raise
        self._settle(keys, promise, made)
        promise.set_result(made)
        return made

    def _settle(self, keys: list[K], promise: Future[Mapping[K, V]], made: Mapping[K, V]) -> None:
        with self._lock:
            for key in keys:
                if key in self._making and self._making[key][0] is promise:
                    del self._making[key]
            for key, value in made.items():
                self._drop(key)
                self._kept[key] = value
                self.bytes += self._size(value)
            while self.bytes > self._limit:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: K) -> None:
        if key in self._kept:
            self.bytes -= self._size(self._kept.pop(key))
