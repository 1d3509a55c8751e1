"""Telling how far a run is: a bar on a terminal or in a notebook, a line now and then in a log, `progress.json`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport
from spacex.storage import write_text

LOG_SECONDS = 10.0
"""Seconds between two lines in a log that is not a terminal."""
SHOW_SECONDS = 0.5
"""Seconds between two pictures of the bar in a notebook."""
FILE_SECONDS = 2.0
"""Seconds between two writings of progress.json."""


@dataclass
class ProgressLog:
    """The driver's view of a run.

    Args:
        uri: where progress.json goes (any fsspec URI).
        ledger: the book of the run.
        already: tiles of the cube that earlier runs finished, by status.
        doing: what the bar says is being done.
        stream: where lines and the bar go; the bar only if it is a terminal or a notebook's.
    """

    uri: str
    ledger: TaskQueue
    already: Counter[Status] = field(default_factory=Counter)
    doing: str = "mapping"
    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._started = _now()
        self._logged = self._written = 0.0
        self._total = len(self.ledger.todo)
        self._chips = self._retries = 0
        self._seconds: Counter[str] = Counter()
        self._workers = 0
        self._stage = ""
        self._bar = self._task = self._shown = None
        notebook = self.stream is sys.stderr and Console().is_jupyter
        if notebook or self.stream.isatty():
            columns = (
                TextColumn(self.doing),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, TimeElapsedColumn(), console=Console(file=self.stream))
            self._task = self._bar.add_task("tiles", total=self._total, note="opening")
            if notebook:
                self._shown = _display(self._bar)
            else:
                self._bar.start()
        self.write("running")

    def report(self, report: TileReport, finished: bool) -> None:
        """Book one worker report."""
        self._retries += not finished
        self._chips += report.chips
        self._seconds.update(report.seconds)
        if report.status is Status.FAILED:
            fate = "quarantined" if finished else "will be tried again"
            self.say(f"tile {report.task} failed, {fate}: {report.reason}")
        self.tick()

    @property
    def _finished(self) -> int:
        # the ledger's, not a count of reports: a tile whose workers died is given up without one
        return self.ledger.settled.total()

    def tick(self, workers: int | None = None) -> None:
        """Refresh whatever is due; call it a few times a second."""
        self._workers = self._workers if workers is None else workers
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._finished, note=self._note())  # type: ignore[arg-type]
            if self._shown is not None and now - self._logged >= SHOW_SECONDS:
                self._logged = now
                self._shown.update(self._bar)
        elif now - self._logged >= LOG_SECONDS:
            self._logged = now
            self.say(f"{self._finished} of {self._total} tiles, {self._note()}")
        if now - self._written >= FILE_SECONDS:
            self.write("running")

    def finishing(self, stage: str) -> None:
        """Say how far the work after the last tile is."""
        self._stage = stage
        self.tick()

    def say(self, line: str) -> None:
        """One line for the reader of the log."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(f"{_now()} {line}", file=self.stream, flush=True)

    def close(self, state: str) -> None:
        """Write the last word: ``complete``, ``incomplete``, ``interrupted`` or ``failed``."""
        if self._shown is not None:
            self._shown.update(self._bar)
        elif self._bar is not None:
            self._bar.stop()
        self.write(state)

    def rate(self) -> float:
        """Tiles finished per second since the start."""
        return self._finished / max(1e-9, time.monotonic() - self._begun)

    def _note(self) -> str:
        if self._stage:
            return self._stage
        left, rate = self._total - self._finished, self.rate()
        if not self._finished:
            return self._first_steps()
        remaining = f"{_clock(left / rate)} left" if left else "done"
        failed = f", {len(self.ledger.quarantined)} quarantined" if self.ledger.quarantined else ""
        return f"{rate:.2f} tiles/s, {remaining}{failed}"

    def _first_steps(self) -> str:
        """What is going on while no tile is finished, which takes minutes: a tile is read and computed as a whole."""
        if not self._total:
            return "nothing to do"
        if not self._workers:
            return "waiting for workers"
        return f"{len(self.ledger.in_hand)} tiles in hand: reading their scenes, then computing; none is finished yet"

    def state(self, state: str) -> dict[str, Any]:
        """The content of progress.json."""
        tiles = {status.name.lower(): self.already[status] + self.ledger.settled[status] for status in Status}
        tiles["failed"] = len(self.ledger.quarantined)
        tiles["not_yet"] = self._total - self._finished
        return {
            "state": state,
            "started": self._started,
            "updated": _now(),
            "tiles": tiles,
            "this_run": {
                "planned": self._total,
                "finished": self._finished,
                "in_hand": len(self.ledger.in_hand),
                "retries": self._retries,
                "chips": self._chips,
                "workers": self._workers,
                "seconds": {name: round(value, 1) for name, value in self._seconds.items()},
                "elapsed": round(time.monotonic() - self._begun, 1),
                "tiles_per_second": round(self.rate(), 4),
            },
            "quarantined": {str(task): reason for task, reason in self.ledger.quarantined.items()},
        }

    def write(self, state: str) -> None:
        """Replace progress.json, in one step where the file system can."""
        self._written = time.monotonic()
        write_text(self.uri, json.dumps(self.state(state), indent=1))


def _display(bar: Progress) -> Any:
    """Show a bar below a notebook's cell; gives the handle that draws it anew. Needs no widgets."""
    from IPython.display import display

    return display(bar, display_id=True)  # type: ignore[no-untyped-call]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
