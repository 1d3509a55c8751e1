"""Where files lie that nobody on this project made: beside the checkout, never in it. Elsewhere their tests skip."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("SPACEX_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def find(path: str) -> Path | None:
    """A file or folder of `FOLDER`, None where there is none."""
    return FOLDER / path if (FOLDER / path).exists() else None
