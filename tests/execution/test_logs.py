"""Log lines are JSON with tile, item and attempt."""

from __future__ import annotations

import io
import json
import logging

import pytest

from spacex.errors import TileError
from spacex.execution.logs import json_logs, log_tile
from spacex.execution.tasks import Status, TileReport, TileTask


@pytest.fixture
def lines():
    stream = io.StringIO()
    handler = json_logs(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger("spacex").removeHandler(handler)
    logging.getLogger("spacex").setLevel(logging.NOTSET)


def test_a_failed_try_names_tile_item_and_attempt(lines):
    error = TileError("cannot read asset red of S2B_34WED_20200709_0_L2A", got="HTTP 503")
    report = TileReport(TileTask(0, 3, 4), Status.FAILED, f"read: TileError: {error}", worker="host:7")
    log_tile(report, attempt=2, finished=False)
    [line] = lines()
    assert line["tile"] == "t0-s3-e4"
    assert line["item"] == "S2B_34WED_20200709_0_L2A"
    assert line["attempt"] == 2
    assert line["finished"] is False
    assert "HTTP 503" in line["reason"]
    assert line["time"].endswith("Z")


def test_a_finished_tile_tells_its_seconds(lines):
    log_tile(TileReport(TileTask(1, 0, 0), Status.DONE, seconds={"reading": 1.5}, chips=9, scenes=3), 1, True)
    [line] = lines()
    assert (line["status"], line["seconds"], line["chips"], line["item"]) == ("done", {"reading": 1.5}, 9, None)


def test_other_records_become_lines_too(lines):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("spacex.mapping.run").exception("it failed")
    [line] = lines()
    assert line["message"] == "it failed"
    assert "ValueError" in line["error"]
