"""The claim on a cube: of all runs that would write one, only one does.

A claim is a small file beside the cube, `lapland.run/claim.json`, made in one step that fails where there is one
already (`spacex.execution.lock_file`). Its holder renews it every `HEARTBEAT_S` seconds and removes it at the end.
The claim
of a dead holder is taken over: on the same machine as soon as its process is gone, from elsewhere once nothing has been
heard for `STALE_AFTER_S` seconds and nothing is while we look on. Taking over replaces the claim that was read and
no other, so that of two who find a dead one, one gets it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from spacex.errors import CubeError
from spacex.execution.lock_file import LockFile, lock_file

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
"""Seconds between two renewals."""
STALE_AFTER_S = 60.0
"""Seconds without renewal after which a holder elsewhere may be dead."""
CONFIRM_S = 2.5 * HEARTBEAT_S
"""Seconds we then look on, since clocks of two machines may differ."""


@dataclass(frozen=True)
class LockOwner:
    """Who holds a cube."""

    host: str
    pid: int
    since: str
    """UTC, ISO 8601."""
    machine: str
    """The machine, its last start and its container: equal only where `pid` means the same."""
    born: str
    """When the process started, in the kernel's ticks: a process id alone is used again."""
    token: str
    beat: float
    """Unix time of the last renewal."""

    @classmethod
    def me(cls) -> LockOwner:
        """This process, now."""
        now = time.time()
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return cls(socket.gethostname(), os.getpid(), since, _machine(), _born(os.getpid()) or "", uuid4().hex, now)

    def to_json(self, beat: float | None = None) -> bytes:
        """The claim's file."""
        return json.dumps({**asdict(self), **({} if beat is None else {"beat": beat})}, indent=1).encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class OutputLock:
    """A claim that is held."""

    def __init__(self, place: LockFile, me: LockOwner) -> None:
        self._place, self._me, self._over = place, me, threading.Event()
        self.lost: LockOwner | None = None
        self._thread = threading.Thread(target=self._renew, name="spacex-claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if another run has taken the cube over, as after this machine has slept.

        Raises:
            CubeError: naming the other.
        """
        if self.lost is not None:
            raise CubeError("another run has taken over this output", got=self.lost, do="Let it finish.")

    def release(self) -> None:
        """Give the cube free."""
        self._over.set()
        self._thread.join()
        with suppress(Exception):  # a claim that stays behind is taken over by itself
            if _held_by(self._place, self._me):
                self._place.remove()

    def _renew(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                found = self._place.read()
                holder = _parse(found[0]) if found else None
                if found is None or holder is None or holder.token != self._me.token:
                    self.lost = holder or self._me
                    return
                self._place.replace(self._me.to_json(time.time()), found[1])
            except Exception as error:  # a full disk or a store out of reach is told by those who write data
                log.debug("the claim could not be renewed: %s", error)


@contextmanager
def output_lock(folder: str) -> Iterator[OutputLock]:
    """Holds the cube whose run folder this is, for as long as the block lasts.

    Raises:
        CubeError: if a living run holds it, or the folder cannot be written.
    """
    claim = take(folder)
    try:
        yield claim
    finally:
        claim.release()


def take(folder: str) -> OutputLock:
    """Claims a cube; see `output_lock`."""
    try:
        return _take(lock_file(folder))
    except CubeError:
        raise
    except Exception as error:  # every store has its own errors for "not allowed"
        got = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CubeError(f"cannot write {folder}", got=got, do="Check the output and the keys of its store.") from error


def _take(place: LockFile) -> OutputLock:
    me = LockOwner.me()
    while True:
        # a store may have done what it was asked and its answer be lost, so what lies there decides
        if place.create(me.to_json()) or _held_by(place, me):
            return OutputLock(place, me)
        found = place.read()
        if found is None:
            continue  # just released
        holder = _parse(found[0])
        if holder is not None and _lives(holder, place):
            raise CubeError("another run holds this output", got=holder, do="Wait for it to end, or stop it.")
        place.replace(me.to_json(), found[1])
        if _held_by(place, me):
            log.warning("took over the output from %s, which is gone", holder or "a run that left half a claim")
            return OutputLock(place, me)


def _lives(holder: LockOwner, place: LockFile) -> bool:
    if holder.machine == _machine():
        return _born(holder.pid) == holder.born
    if time.time() - holder.beat < STALE_AFTER_S:
        return True
    log.warning("%s holds this output and is silent; waiting %.0f s for a sign of life", holder, CONFIRM_S)
    until = time.monotonic() + CONFIRM_S
    while time.monotonic() < until:
        time.sleep(min(1.0, CONFIRM_S))
        found = place.read()
        if found is None or _parse(found[0]) != holder:
            return found is not None
    return False


def _held_by(place: LockFile, me: LockOwner) -> bool:
    found = place.read()
    holder = _parse(found[0]) if found else None
    return holder is not None and holder.token == me.token


def _parse(data: bytes) -> LockOwner | None:
    try:
        return LockOwner(**json.loads(data))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    names = [socket.gethostname()]
    with suppress(OSError):
        names.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        names.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(names)


def _born(pid: int) -> str | None:
    """When a process of this machine started; None if it is gone (or dead and not yet buried)."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "unknown" if not Path("/proc/self").exists() and _answers(pid) else None
    return None if state in "ZX" else rest[18]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
