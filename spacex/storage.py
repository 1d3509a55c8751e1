"""Files on local disks and object stores: small pieces that every package shares."""

from __future__ import annotations

from pathlib import Path

import fsspec


def write_text(uri: str, text: str) -> None:
    """Replace a small text file so that no reader ever sees half of it."""
    fs, path = fsspec.core.url_to_fs(uri)
    fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    if "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol):
        fs.pipe_file(f"{path}.part", text.encode())
        fs.mv(f"{path}.part", path)
    else:
        fs.pipe_file(path, text.encode())  # one PUT is atomic by itself


def local_path(uri: str) -> Path | None:
    """The folder behind a local URI, or None for object stores and memory."""
    fs, path = fsspec.core.url_to_fs(uri)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return Path(path) if "file" in protocols else None


def run_folder(output: str) -> str:
    """Where a run keeps its papers: `lapland.run/` beside `lapland.zarr`."""
    return output.rstrip("/").removesuffix(".zarr") + ".run"
