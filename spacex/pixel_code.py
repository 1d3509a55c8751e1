"""The sources that decide a pixel's value, and the digest that names them in every fingerprint."""

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
    "mapping/tile.py",
    "sentinel2",
)
"""Sources that decide a pixel's value; their digest is part of the fingerprint."""


def code_digest(*more: str) -> str:
    """Version and a digest of the sources in `PIXEL_CODE`: changed code makes another cube.

    Args:
        more: further files or folders, for what is made by more than those.
    """
    root = Path(spacex.__file__).parent
    found = hashlib.sha256()
    for name in (*PIXEL_CODE, *more):
        place = root / name
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            found.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return f"{spacex.__version__}+{found.hexdigest()[:8]}"
