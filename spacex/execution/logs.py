"""One JSON object per line and tile, for whatever collects a cluster's logs.

The records are there in any case, on the logger `spacex.tiles` at level INFO; `json_logs` makes them visible.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

from spacex.execution.tasks import TileReport

log = logging.getLogger("spacex.tiles")
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_ITEM = re.compile(r"\basset \S+ of ([\w-]+(?:\.[\w-]+)*)")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, and whatever `extra` held."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        extra = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **extra}, default=str)


def json_logs(stream: TextIO | None = None) -> logging.Handler:
    """Show all of SpacEX's records as JSON lines; gives the handler, to be removed again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("spacex")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


def log_tile(report: TileReport, attempt: int, finished: bool) -> None:
    """Record what became of one try of a tile.

    Args:
        report: the worker's.
        attempt: 1 for the first try.
        finished: False if the tile will be tried again.
    """
    found = _ITEM.search(report.reason)
    log.info(
        "tile %s %s",
        report.task,
        report.status.name.lower(),
        extra={
            "tile": str(report.task),
            "status": report.status.name.lower(),
            "attempt": attempt,
            "finished": finished,
            "item": found[1] if found else None,
            "reason": report.reason or None,
            "seconds": report.seconds,
            "scenes": report.scenes,
            "chips": report.chips,
            "worker": report.worker,
        },
    )
