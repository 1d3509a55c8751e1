"""The source files that decide a pixel's value, and their digest, which is part of every fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import spacex

PIXEL_CODE = (
    "grid.py",
    "attribution/inference.py",
    "attribution/lift.py",
    "attribution/attributor.py",
    "models",
    "mapping/chip_batcher.py",
    "mapping/chips.py",
    "mapping/halves.py",
    "mapping/tile.py",
    "sentinel2",
)
"""Files and folders below `spacex/`."""


def code_digest(*more: str) -> str:
    """Version and a digest of the sources in `PIXEL_CODE` and of `more`: changed code makes another cube."""
    root = Path(spacex.__file__).parent
    digest = hashlib.sha256()
    for source in (root / name for name in (*PIXEL_CODE, *more)):
        # a folder's modules, or the file itself, which must be there
        for file in sorted(source.rglob("*.py")) or [source]:
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return f"{spacex.__version__}+{digest.hexdigest()[:8]}"
