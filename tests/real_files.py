"""Real files that nobody on this project made: a few in `tests/data`, more beside the checkout where they are."""

from __future__ import annotations

import os
from pathlib import Path

SMALL = Path(__file__).parent / "data"
"""What every clone has; NOTICE says what it is."""
LARGE = Path(os.environ.get("SPACEX_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
"""What some machines have besides."""


def find(path: str) -> Path | None:
    """A file or folder of the larger set, else of the small one; None where it is in neither."""
    return next((folder / path for folder in (LARGE, SMALL) if (folder / path).exists()), None)
