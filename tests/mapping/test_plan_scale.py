"""All of Fennoscandia, 15,000 items: planned within a gigabyte; the benchmark tells how long it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "plan.py"


@pytest.mark.slow
def test_fennoscandia_is_planned_in_a_gigabyte():
    done = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["driver_mb"] < 1000
    assert found["scenes"] > 14_000  # all but those that lie beyond the borders
    assert 11_000 < found["tiles"] < 12_500  # 1.1 million km² in squares of 10.24 km, those of the edges included
    assert 300_000 < found["chips"] < 330_000  # one in 192 x 192 pixels, and those of the edges
    assert 0.2e12 < found["plan"]["bytes_to_read"] < 1e12  # eight of some sixty observations of each pixel
