"""The pipeline's threads: one for each read and write, none of which may hang the process or hoard its memory."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def share_arenas(most: int = 2) -> None:
    """Keep glibc from giving every reading thread an arena of its own, each of which hoards freed tiles.

    Measured over 145 tiles: resident memory levels off instead of creeping up. A no-op without glibc.
    """
    m_arena_max = -8  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(m_arena_max, most)


def in_daemon_thread(work: Callable[[], Result]) -> Future[Result]:
    """Run `work` in a thread of its own that never keeps the process alive.

    A read can hang in the network for good. A pool's threads are joined when Python exits, so one hanging
    read would hang the worker.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="read").start()
    return future
