"""Metrics of runs: told apart by a label, and at rest when a run has ended."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from spacex.execution import ray_metrics
from spacex.execution.ray_metrics import RunMetrics, WorkerMetrics
from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status


@pytest.fixture
def exported(monkeypatch):
    """Values by name and labels, as Prometheus would have them."""
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    class Metric:
        def __init__(self, name, description, tag_keys=()):
            self.name, self.keys, self.default = name, tag_keys, {}

        def set_default_tags(self, tags):
            self.default = tags

        def set(self, value, tags=None):
            labels = {**self.default, **(tags or {})}
            assert set(labels) == set(self.keys)  # Ray refuses others
            values[self.name, tuple(sorted(labels.items()))] = value

        def inc(self, value, tags=None):
            labels = tuple(sorted({**self.default, **(tags or {})}.items()))
            self.set(values.get((self.name, labels), 0) + value, tags)

    monkeypatch.setattr(ray_metrics, "Counter", Metric)
    monkeypatch.setattr(ray_metrics, "Gauge", Metric)
    return values


def test_two_runs_are_told_apart_and_one_that_ended_has_no_workers(exported):
    stats = RunStats()
    stats.tiles[Status.DONE] = 3
    runs = [RunMetrics("s3://bucket/a.zarr"), RunMetrics("s3://bucket/b.zarr")]
    for run, alive in zip(runs, (2, 5), strict=True):
        run.update(stats, alive)
    a, b = (("run", "s3://bucket/a.zarr"),), (("run", "s3://bucket/b.zarr"),)
    assert (exported["spacex_workers_alive", a], exported["spacex_workers_alive", b]) == (2, 5)
    assert exported["spacex_tiles", (*b, ("status", "done"))] == 3
    runs[0].close()
    assert (exported["spacex_workers_alive", a], exported["spacex_workers_alive", b]) == (0, 5)
    assert exported["spacex_compute_share", a] == 0


def test_a_worker_s_bytes_belong_to_its_run(exported, monkeypatch):
    worker = WorkerMetrics("a.zarr")
    monkeypatch.setattr(ray_metrics.READ_STATS, "total", ray_metrics.READ_STATS.total + 7)
    worker.update()
    assert exported == {("spacex_bytes_read", (("run", "a.zarr"),)): 7}


def test_the_dashboard_draws_every_metric_there_is_and_no_other():
    dashboard = json.loads((Path(__file__).parents[2] / "cluster" / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    drawn = {name for line in expressions for name in re.findall(r"ray_spacex_\w+", line)}
    assert drawn == set(re.findall(r"^``(ray_spacex_\w+)``", ray_metrics.__doc__, re.M))
    assert all('run=~"$run"' in line for line in expressions)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "run"}
