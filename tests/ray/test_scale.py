"""Large runs in small: a short soak, the driver's cost per tile, and what Prometheus is told."""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_short_soak_loses_nothing(lab, cluster, tiny_checkpoint, tmp_path):
    soak = lab.load("soak", BENCHMARKS / "soak.py")
    found = soak.soak(40, 4.0, 2, tiny_checkpoint, str(tmp_path))
    assert found["tiles"] >= 40
    assert found["killed"] >= 1
    assert found["lost"] == 0
    assert found["quarantined"] == 0
    assert found["part_equal"] is True


def test_a_short_soak_against_a_hostile_archive(lab, cluster, tiny_checkpoint, tmp_path):
    """Kills, 429, 503, truncation, slow answers and links that expire, at once."""
    import ray

    hostile = lab.load("hostile_soak", BENCHMARKS / "hostile_soak.py")
    for name in ("hostile_soak", "soak", "archive_server"):
        ray.cloudpickle.register_pickle_by_value(sys.modules[name])
    found = hostile.hostile_soak(16, 5.0, 0.05, 2, tiny_checkpoint, str(tmp_path))
    assert hostile.good(found), found
    assert found["tiles"] >= 16
    assert found["killed"] >= 1
    # some thousand answers, one in twenty of them bad: not every kind need occur in so short a run
    assert len({"429", "503", "truncated", "slow"} & set(found["answers"])) >= 3


def test_the_drivers_cost_per_tile_does_not_grow(lab, cluster, tiny_checkpoint, tmp_path):
    driver = lab.load("driver", BENCHMARKS / "driver.py")
    driver.drive(50, tiny_checkpoint.card, str(tmp_path))
    few = driver.drive(250, tiny_checkpoint.card, str(tmp_path))
    many = driver.drive(4000, tiny_checkpoint.card, str(tmp_path))
    assert many["driver_ms_per_tile"] < 2 * few["driver_ms_per_tile"]
    assert many["driver_mb"] - few["driver_mb"] < 50


def test_prometheus_is_told(cluster):
    """After the runs above, the node's agent exports what they counted."""
    import ray

    ports = [node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]]
    wanted = {"spacex_tiles_total", "spacex_worker_seconds_total", "spacex_workers_alive", "spacex_compute_share"}
    told, done, until = "", 0.0, time.monotonic() + 60
    while time.monotonic() < until and (done < 4000 or not all(name in told for name in wanted)):
        time.sleep(1)  # Ray exports every ten seconds
        told = "".join(urllib.request.urlopen(f"http://127.0.0.1:{p}/metrics").read().decode() for p in ports)
        counts = re.findall(r'^ray_spacex_tiles_total\{[^}]*status="done"[^}]*\} ([\d.e+]+)', told, re.M)
        done = sum(map(float, counts))
    assert all(f"ray_{name}" in told for name in wanted)
    assert done >= 4000
    assert re.search(r'^ray_spacex_workers_alive\{[^}]*run="[^"]', told, re.M)
    assert "RAY_AUTH_TOKEN" not in told
    assert os.environ["RAY_AUTH_TOKEN"] not in told
