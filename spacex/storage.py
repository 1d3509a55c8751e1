"""Files on local disks and object stores: whether a URI is local, and writes that are atomic.

A URI is a path or anything that fsspec knows (`s3://bucket/name`, `memory://name`). One PUT of an object store is
atomic by itself; on a disk only a rename is, so what is written there is written beside its place first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from spacex.errors import RequestError

LOCAL_PROTOCOLS = ("file", "local")
"""fsspec's names of the local file system."""
SHA256 = "1220"
"""How a multihash begins that is 32 bytes of SHA-256."""


def split_protocol(uri: str | Path) -> tuple[str, str]:
    """The protocol and the path: `s3://bucket/x` is ("s3", "bucket/x"), a bare path is ("file", path)."""
    protocol, separator, path = str(uri).partition("://")
    return (protocol, path) if separator else ("file", str(uri))


def local_path(uri: str | Path) -> Path | None:
    """The absolute path behind a local URI, or None for object stores and memory."""
    protocol, path = split_protocol(uri)
    return Path(os.path.abspath(os.path.expanduser(path))) if protocol in LOCAL_PROTOCOLS else None


def multihash(file: Path) -> str:
    """A digest of a file's content as a multihash in hexadecimal digits; empty if it is gone or cannot be read."""
    try:
        with file.open("rb") as content:
            return SHA256 + hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def exists(path: Path) -> bool:
    """Whether a file or folder is there; unlike `Path.exists` it also answers for names that no disk takes."""
    return os.path.exists(path)


def absolute_uri(uri: str | Path) -> str:
    """A local path in full, so that every process means the same one; other URIs as they are."""
    path = local_path(uri)
    return str(uri) if path is None else str(path)


def resolve_link(uri: str) -> str:
    """What a symbolic link on a local disk points to; other URIs as they are."""
    path = local_path(uri)
    return str(path.resolve()) if path is not None and path.is_symlink() else uri


def real_uri(uri: str) -> str:
    """A URI of which there is one for a place: a local path in full, without symbolic links; others without a slash."""
    path = local_path(uri)
    return uri.rstrip("/") if path is None else os.path.realpath(path)


def check_visible(uris: Iterable[str]) -> None:
    """Refuse local files and folders that this machine does not see, as a worker on another node may not.

    Raises:
        RequestError: naming the first, and this machine.
    """
    for path in filter(None, map(local_path, uris)):
        if not exists(path):
            raise RequestError(
                f"{socket.gethostname()}, a node of the cluster, does not see {path}",
                do="Give a path on a disk that all nodes share, or an object store, e.g. s3://bucket/name.",
            )


def write_text(uri: str | Path, text: str) -> None:
    """Replace a text file as `write_bytes` does; UTF-8."""
    write_bytes(uri, text.encode())


def write_bytes(uri: str | Path, data: bytes, *, durable: bool = False) -> None:
    """Replace a file so that no reader ever sees half of it; its folder is created.

    With `durable` it returns only after a local disk has the file, which then also survives a power failure.
    """
    import fsspec

    path = local_path(uri)
    if path is None:
        fs, key = fsspec.core.url_to_fs(str(uri))
        fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(key, data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, part.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` for a file or folder to be made, and renames it to `path` once the block succeeds.

    If the block raises, what it made is removed. A killed process leaves `.*.part` behind, which no reader takes for
    the result.
    """
    part = path.with_name(f".{path.name}-{uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def publish_file(file: str | Path, uri: str | Path) -> None:
    """Move a finished file to its place in one step; `file` is on the same disk as `uri`, where that is local."""
    import fsspec

    path = local_path(uri)
    if path is not None:
        os.replace(file, path)
        return
    fs, key = fsspec.core.url_to_fs(str(uri))
    fs.put_file(str(file), key)


def run_folder(output: str) -> str:
    """Folder of a run's logs and reports: `lapland.run/` beside `lapland.zarr`."""
    return output.rstrip("/").removesuffix(".zarr") + ".run"
