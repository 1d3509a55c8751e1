"""What the pipeline's threads hold, they give back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from spacex.execution.threads import MemoryTrimmer

PIECE = 64 * 1024
"""Bytes: too few for a mapping of its own, which glibc would give back by itself."""


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; only glibc hoards")
def test_memory_freed_between_what_is_kept_goes_back(monkeypatch):
    pieces = [bytearray(PIECE) for _ in range(2048)]
    kept = pieces[::8]
    full = resident()
    del pieces
    trim = MemoryTrimmer()
    trim()  # too soon
    assert resident() > full - 2**25
    monkeypatch.setattr(MemoryTrimmer, "INTERVAL_S", 0.0)
    trim()
    assert resident() < full - 2**26
    assert len(kept) == 256
