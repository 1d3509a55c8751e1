"""Where a claim lies: one small file that is made, replaced and removed in one step, whoever else tries at once.

On a disk it is made by a hard link and replaced under a lock; on S3 by conditional PUTs (``If-None-Match``,
``If-Match``). File systems that know neither (some object stores behind fsspec) keep a smaller promise: two runs
started within the same second may both go on; they would then write the same bits.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import fsspec


class LockFile(Protocol):
    """Where a claim lies. `create` and `replace` say whether they did."""

    def read(self) -> tuple[bytes, Any] | None:
        """The claim and its version; None if there is none."""

    def create(self, data: bytes) -> bool:
        """Make it, unless there is one."""

    def replace(self, data: bytes, version: Any) -> bool:
        """Put another in its place, unless it is no longer of this version."""

    def remove(self) -> None:
        """Take it away."""


def lock_file(folder: str) -> LockFile:
    """Where the claim of a run folder lies: a path, or an address that fsspec knows."""
    fs, path = fsspec.core.url_to_fs(folder)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if "file" in protocols:
        return _OnDisk(Path(path))
    return _InStore(fs, f"{path}/claim.json", conditional="s3" in protocols)


class _OnDisk:
    """A claim on a local or mounted disk. A lock guards each look-and-change; the kernel frees it if we die."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / "claim.json"

    def read(self) -> tuple[bytes, bytes] | None:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return data, data

    def create(self, data: bytes) -> bool:
        with self._locked(), self._written(data) as part:
            try:
                os.link(part, self._file)
            except FileExistsError:
                return False
            except OSError:  # a disk without hard links
                if self._file.exists():
                    return False
                os.replace(part, self._file)
        return True

    def replace(self, data: bytes, version: bytes) -> bool:
        with self._locked(), self._written(data) as part:
            found = self.read()
            if found is None or found[1] != version:
                return False
            os.replace(part, self._file)
        return True

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        part = self._file.with_name(f"claim.{uuid4().hex}.part")
        try:
            part.write_bytes(data)
            yield part
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network disks have no locks
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


class _InStore:
    """A claim in an object store: a version is its ETag, where the store compares it."""

    def __init__(self, fs: Any, path: str, conditional: bool) -> None:
        self._fs, self._path, self._conditional = fs, path, conditional

    def read(self) -> tuple[bytes, Any] | None:
        self._fs.invalidate_cache(self._path.rsplit("/", 1)[0])
        try:
            version = self._fs.info(self._path).get("ETag")
            return self._fs.cat_file(self._path), version
        except FileNotFoundError:
            return None

    def create(self, data: bytes) -> bool:
        try:
            self._fs.pipe_file(self._path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, data: bytes, version: Any) -> bool:
        conditions = {"IfMatch": version} if self._conditional else {}
        try:
            self._fs.pipe_file(self._path, data, **conditions)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:  # how s3fs says that the condition does not hold
                raise
            return False
        return True

    def remove(self) -> None:
        self._fs.rm_file(self._path)
