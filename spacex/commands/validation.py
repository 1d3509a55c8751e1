"""What options refuse by themselves, before anything heavy is loaded and before anything is written.

Each check takes an option's words as typed and gives them back, perhaps in another form, or raises `RequestError`.
Numbers have their limits where they are declared (`spacex.commands.options`); what needs a catalogue, a checkpoint
or a data set to be judged is judged where that is opened.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from spacex.errors import RequestError
from spacex.storage import LOCAL_PROTOCOLS, split_protocol

WRITABLE = ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "sftp", "smb")
"""Stores a cube, a run or a file may be written to, by fsspec's names."""

LONGEST_NAME = 200
"""Bytes of a file's name; disks take 255, and some names get an ending on the way."""


def cube_name(uri: str) -> str:
    """The name of a cube: it must end in .zarr."""
    if not uri.rstrip("/").endswith(".zarr"):
        raise RequestError("the output's name", got=uri, expected="a path or URI ending in .zarr")
    return uri


def png_name(uri: str | None) -> str | None:
    """The name of a picture: it must end in .png."""
    if uri is not None and not uri.lower().endswith(".png"):
        raise RequestError("the quicklook's name", got=uri, expected="a path or URI ending in .png")
    return uri


def check_folder(option: str, uri: str) -> None:
    """Refuse a folder that cannot be made or filled; leaves nothing behind.

    Raises:
        RequestError: if the store is unknown, out of reach or closed to us, or the path leads through a file.
    """
    protocol, path = split_protocol(uri)
    if protocol in LOCAL_PROTOCOLS:
        _check_local_folder(option, uri, os.path.abspath(path))
    else:
        _check_store(option, uri, protocol)


def check_file(option: str, uri: str) -> None:
    """Refuse a file that cannot be written, in a folder that must be there already; leaves nothing behind.

    Raises:
        RequestError: as `check_folder`.
    """
    protocol, path = split_protocol(uri)
    if protocol not in LOCAL_PROTOCOLS:
        _check_store(option, uri, protocol)
        return
    path = os.path.abspath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise RequestError(f"{option}: no folder {os.path.dirname(path)}", got=uri, do="Make it first.")
    _check_names(option, path)
    if os.path.isdir(path) or uri.endswith("/"):
        raise RequestError(f"{option} is a folder", got=uri, expected="the name of a file")
    _check_open(option, uri, os.path.dirname(path))


def _check_local_folder(option: str, uri: str, path: str) -> None:
    _check_names(option, path)
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise RequestError(f"{option} leads through a file", got=uri, expected=f"{there} to be a folder")
    _check_open(option, uri, there)


def _check_names(option: str, path: str) -> None:
    if any(len(os.fsencode(name)) > LONGEST_NAME for name in path.split(os.sep)):
        raise RequestError(f"{option} has a name no disk takes", expected=f"at most {LONGEST_NAME} bytes each")


def _check_open(option: str, uri: str, folder: str) -> None:
    try:
        # a nameless file: permissions alone do not tell, neither for root nor in /proc
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(f"{option} cannot be written", got=f"{uri} ({error.strerror})") from error


def _check_store(option: str, uri: str, protocol: str) -> None:
    """Ask a remote store whether it knows the place: that takes its package, credentials and network."""
    if protocol not in WRITABLE:
        stores = ", ".join(f"{name}://" for name in WRITABLE[2:])
        raise RequestError(f"{option} is no place to write to", got=uri, expected=f"a path, or one of {stores}")
    if not split_protocol(uri)[1].strip("/"):
        raise RequestError(f"{option} names a store but no place in it", got=uri, expected="e.g. s3://bucket/name")
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
        fs.exists(path)
    except Exception as error:  # every store has its own errors for a missing package, key, bucket or network
        got = f"{uri} ({type(error).__name__}: {error})"
        raise RequestError(f"{option} cannot be reached", got=got, do="Check its name and your credentials.") from error


def check_changes(changes: Sequence[str]) -> None:
    """Refuse a `--set` of what has an option of its own, with checks of its own."""
    for change in changes:
        if change.partition("=")[0].strip() == "output":
            raise RequestError("--set cannot move the run", got=change, do="Give --output.")


def check_data(root: str) -> None:
    """Refuse a data set that is neither a folder nor ``demo``."""
    if root != "demo" and not os.path.isdir(root):
        raise RequestError(f"no folder {root}", do="Give the data set's folder, or 'demo'.")


def check_there(option: str, uri: str | None) -> None:
    """Refuse a local file or folder that is not there; those of remote stores are looked for when opened."""
    protocol, path = split_protocol(uri or ".")
    if protocol == "file" and not os.path.exists(path):
        raise RequestError(f"{option}: there is no {uri}")


def check_checkpoint(uri: str | None) -> None:
    """Refuse a local folder that holds no checkpoint; those of remote stores are looked for when opened."""
    protocol, path = split_protocol(uri or "")
    if uri is not None and protocol == "file" and not os.path.isfile(os.path.join(path, "card.json")):
        do = "Give the folder that `spacex train-gan` or `spacex import-checkpoint` printed."
        raise RequestError(f"no checkpoint at {uri}", got="no card.json", do=do)


def parse_names(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Some of the known names from words separated by commas.

    Raises:
        RequestError: if one is unknown or given twice.
    """
    found = tuple(part.strip() for part in text.split(","))
    if wrong := [name for name in found if name not in known]:
        raise RequestError(f"{option}: unknown name", got=", ".join(map(repr, wrong)), expected=", ".join(known))
    if len(set(found)) < len(found):
        raise RequestError(f"{option} names one twice", got=text)
    return found
