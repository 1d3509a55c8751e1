"""Serves an archive of COGs and STAC items through a real STAC API on this machine, within a `with` block."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spacex.errors import CatalogueError, DataError


@contextmanager
def serve(folder: str | Path, timeout: float = 20.0) -> Iterator[str]:
    """Serve an archive made by ``build_archive`` through a STAC API on a free port of this machine; yields its URL.

    The server (rustac, in memory) ends with the block, and also if this process is killed. It answers a
    cloud-cover `query` with no items at all, so the caller filters clouds.

    Links become absolute paths to `folder`, so the archive may be moved before.

    Raises:
        DataError: if the folder holds no archive.
        CatalogueError: if the server does not come up.
    """
    root = Path(folder).resolve()
    if not (root / "items.json").is_file():
        raise DataError("no archive to serve", got=root, expected="items.json in it", do="Build it first.")
    with tempfile.TemporaryDirectory(prefix="spacex-stac-") as work:
        files = _with_absolute_links(root, Path(work))
        process, url = _start(files, timeout)
        try:
            yield url
        finally:
            _stop(process)


def _with_absolute_links(root: Path, work: Path) -> list[str]:
    """The archive's collection and items with absolute links, as files for the server."""
    items = json.loads((root / "items.json").read_text())
    for scene in items["features"]:
        for asset in scene["assets"].values():
            asset["href"] = str(root / asset["href"])
    (work / "collection.json").write_text((root / "collection.json").read_text())
    (work / "items.json").write_text(json.dumps(items))
    return [str(work / "collection.json"), str(work / "items.json")]


def _start(files: list[str], timeout: float) -> tuple[subprocess.Popen[bytes], str]:
    launcher = str(Path(__file__).with_name("stac_server.py"))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with socket.socket() as probe:  # the system picks a free port
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, launcher, "serve", "--addr", address, *files]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=pipe, stdout=null, stderr=null, start_new_session=True)
        if _responds(process, f"http://{address}/collections", deadline):
            return process, f"http://{address}"
        _stop(process)  # the port was taken in between, or the server is stuck: try another
    raise CatalogueError("the embedded STAC server does not answer", got=f"nothing for {timeout:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the launcher and the server it forked
    process.wait()


def _responds(process: subprocess.Popen[bytes], url: str, deadline: float) -> bool:
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.02)
    return False
