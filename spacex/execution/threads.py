"""Threads of the pipeline, one for each read and write, and the memory that they free."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def share_arenas(most: int = 2) -> None:
    """Keep glibc from giving every reading thread a malloc arena of its own, which never returns what was freed.

    Measured over 145 tiles: resident memory levels off instead of creeping up. Does nothing without glibc.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, most)  # M_ARENA_MAX of malloc.h


class MemoryTrimmer:
    """Returns freed memory to the operating system every `INTERVAL_S` seconds, when called.

    Cached blocks lie between the tiles that come and go, so glibc cannot return by itself what is freed.
    Measured over 338 tiles on two cores: 1.2 GiB instead of 1.7 GiB, for 50 ms every time. Does nothing without glibc.
    """

    INTERVAL_S = 5.0

    def __init__(self) -> None:
        self._trim, self._last = None, time.monotonic()
        with contextlib.suppress(OSError, TypeError):
            self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def __call__(self) -> None:
        """Trim if it is time."""
        if self._trim is not None and time.monotonic() - self._last > self.INTERVAL_S:
            self._trim(0)
            self._last = time.monotonic()


def run_in_daemon_thread(work: Callable[[], Result]) -> Future[Result]:
    """Run `work` in a thread of its own that never keeps the process alive.

    A read can hang in the network for ever. Python joins the threads of a `ThreadPoolExecutor` when it exits, so
    one hanging read would keep the worker from ending.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="spacex-tile-io").start()
    return future
