"""Lock on an output: of all runs that would write it, only one does.

The lock is a small file, `lapland.run/claim.json`, that its owner renews every `HEARTBEAT_S` seconds and removes at the
end. A stale lock is taken over: at once if its process has ended on this machine, otherwise after `STALE_AFTER_S`
seconds without a heartbeat and `CONFIRM_S` of watching, since clocks differ. Creating and taking over are the same
compare-and-swap on the file's version, so exactly one contender wins.

On a disk the swap is a hard link or a rename under `flock`; on S3 it is a conditional PUT (``If-None-Match``,
``If-Match``). File systems that know neither (some object stores behind fsspec) promise less: two runs started within
the same second may both go on, and would then write the same bits.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import subprocess
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec

from spacex.errors import CubeError
from spacex.storage import atomic_path, local_path, split_protocol

log = logging.getLogger(__name__)

HEARTBEAT_S, STALE_AFTER_S, CONFIRM_S = 10.0, 60.0, 25.0


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock."""

    host: str
    pid: int
    since: str
    machine: str
    """Host, boot and container: `pid` means the same process only where this is equal."""
    process_start: str
    """In the kernel's ticks, since process ids are used again."""
    token: str
    """Random, so that locks of one process differ."""
    heartbeat: float = field(compare=False)
    """Unix time of the last renewal."""

    @classmethod
    def this_process(cls) -> LockOwner:
        """This process, now."""
        pid, since = os.getpid(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return cls(socket.gethostname(), pid, since, _machine(), _process_start(pid) or "", uuid4().hex, time.time())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_alive(self, file: LockFile) -> bool:
        """Whether the process still runs, as far as can be told from here."""
        if self.machine == _machine():
            return _process_start(self.pid) == self.process_start
        if time.time() - self.heartbeat < STALE_AFTER_S:
            return True
        log.warning("%s holds this output without a heartbeat; watching it for %.0f s", self, CONFIRM_S)
        until = time.monotonic() + CONFIRM_S
        while time.monotonic() < until:
            time.sleep(min(1.0, CONFIRM_S))
            current, version = file.read()
            if current is None or current.heartbeat != self.heartbeat:
                return version is not None
        return False


class LockFile:
    """The file of a lock, on a disk or in an object store."""

    def __init__(self, folder: str) -> None:
        self._on_disk, self._on_s3 = local_path(folder), split_protocol(folder)[0] in ("s3", "s3a")
        self.fs, path = fsspec.core.url_to_fs(folder)
        self.path = f"{path}/claim.json"
        if self._on_disk is not None:
            self._on_disk.mkdir(parents=True, exist_ok=True)

    def read(self) -> tuple[LockOwner | None, Any]:
        """The owner, None if it is unreadable, and the file's version, None if there is no file."""
        try:
            self.fs.invalidate_cache(self.path.rpartition("/")[0])
            info, data = self.fs.info(self.path), self.fs.cat_file(self.path)
        except FileNotFoundError:
            return None, None
        try:
            owner = LockOwner(**json.loads(data))
        except (ValueError, TypeError):
            owner = None
        return owner, data if self._on_disk else info.get("ETag", "unknown")

    def swap(self, owner: LockOwner, version: Any) -> None:
        """Write the owner if the file still has this version (None: if there is no file); otherwise do nothing."""
        data = json.dumps(asdict(owner), indent=1).encode()
        condition = {"mode": "create"} if version is None else {"IfMatch": version} if self._on_s3 else {}
        with suppress(FileExistsError):
            if self._on_disk:
                self._swap_on_disk(data, version)
                return
            try:
                self.fs.pipe_file(self.path, data, **condition)
            except OSError as error:
                if error.errno != errno.EINVAL:  # how s3fs says that the version is another
                    raise

    def _swap_on_disk(self, data: bytes, version: Any) -> None:
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            with suppress(OSError):  # some network disks have no flock
                fcntl.flock(folder, fcntl.LOCK_EX)
            with atomic_path(Path(self.path)) as part:
                part.write_bytes(data)
                if self.read()[1] != version:
                    raise FileExistsError
                if version is None:
                    try:  # a link fails where there is a file, also without flock; the rename then changes nothing
                        os.link(part, self.path)
                    except OSError as error:
                        if isinstance(error, FileExistsError):
                            raise  # otherwise the disk has no hard links
        finally:
            os.close(folder)


class OutputLock(AbstractContextManager["OutputLock"]):
    """Holds the output whose run folder this is until it is released, also at the end of a `with` block.

    Raises:
        CubeError: if a live run holds it, or the folder cannot be written.
    """

    def __init__(self, folder: str) -> None:
        self._owner = LockOwner.this_process()
        self._lost_to: LockOwner | None = None
        try:
            self._file = LockFile(folder)
            self._acquire()
        except CubeError:
            raise
        except Exception as error:  # every store has its own errors for "not allowed"
            got = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CubeError(f"cannot write {folder}", got=got, do="Check the output and its store's keys.") from error
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="spacex-lock", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _acquire(self) -> None:
        while True:
            holder, version = self._file.read()
            if holder is not None and holder.is_alive(self._file):
                raise CubeError("another run holds this output", got=holder, do="Wait for it to end, or stop it.")
            self._file.swap(self._owner, version)
            # what the file says now decides: a store may have written it although its answer was lost
            if self._file.read()[0] == self._owner:
                if version is not None:
                    log.warning("took over the output from %s, which is gone", holder or "a run that left half a lock")
                return

    def check(self) -> None:
        """Raise a `CubeError` if another run has taken the output over, as after this machine has slept."""
        if self._lost_to is not None:
            raise CubeError("another run has taken over this output", got=self._lost_to, do="Let it finish.")

    def release(self) -> None:
        """Let others have the output."""
        self._released.set()
        self._thread.join()
        with suppress(Exception):  # a lock that stays behind is taken over
            if self._file.read()[0] == self._owner:
                self._file.fs.rm_file(self._file.path)

    def _renew(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            try:
                holder, version = self._file.read()
                if holder != self._owner:
                    self._lost_to = holder or self._owner
                    return
                self._file.swap(replace(self._owner, heartbeat=time.time()), version)
            except Exception as error:  # a full disk or an unreachable store: the run's own writes will raise
                log.debug("the lock could not be renewed: %s", error)


def _machine() -> str:
    with suppress(OSError):  # no /proc on macOS
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _process_start(pid: int) -> str | None:
    """When a process of this machine started; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]  # a zombie has ended too
    except OSError:
        if Path("/proc/self").exists():
            return None
    listed = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip() or None
