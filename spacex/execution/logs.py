"""Logs of tiles as JSON lines, for whatever collects a cluster's logs.

The records always go to the logger `spacex.tiles` at level INFO; `json_logs` makes them visible.
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
STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
ITEM = re.compile(r"\basset \S+ of ([\w-]+(?:\.[\w-]+)*)")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, and what `extra` held."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        extra = {name: value for name, value in record.__dict__.items() if name not in STANDARD_FIELDS}
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **extra}, default=str)


def json_logs(stream: TextIO | None = None) -> logging.Handler:
    """Write all log records of SpacEX as JSON lines. Returns the handler, which the caller may remove again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("spacex")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


def log_tile(report: TileReport, attempt: int, finished: bool) -> None:
    """Log what became of a try of a tile, the first being attempt 1; not `finished` if it will be tried again."""
    item = ITEM.search(report.reason)
    fields = {
        "tile": str(report.task),
        "status": report.status.label,
        "attempt": attempt,
        "finished": finished,
        "item": item[1] if item else None,
        "reason": report.reason or None,
    }
    fields |= {name: getattr(report, name) for name in ("seconds", "scenes", "chips", "worker")}
    log.info("tile %s %s", report.task, report.status.label, extra=fields)
