"""Progress of a run: a bar on a terminal or in a notebook, a line now and then in a log, and `progress.json`."""

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

LOG_S, NOTEBOOK_S, FILE_S = 10.0, 0.5, 2.0
"""Seconds between two lines in a log, updates of the bar in a notebook, and updates of progress.json."""


@dataclass
class ProgressLog:
    """Shows how far a run is.

    Args:
        uri: where progress.json goes (any fsspec URI).
        queue: of the run.
        earlier: tiles that earlier runs finished, by status.
        activity: what the bar says is being done.
        stream: where lines and the bar go; the bar only if it is a terminal or a notebook's.
    """

    uri: str
    queue: TaskQueue
    earlier: Counter[Status]
    activity: str
    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        self._begun, self._started = time.monotonic(), _now()
        self._shown = self._written = 0.0
        self._total = len(self.queue.todo)
        self._workers, self._stage = 0, ""
        self._first: tuple[float, int] | None = None  # when the first tile was finished, and how many were then
        self._bar: Progress | None = None
        self._notebook_cell: Any = None
        notebook = self.stream is sys.stderr and Console().is_jupyter
        if notebook or self.stream.isatty():
            columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn()
            self._bar = Progress(TextColumn(self.activity), *columns, console=Console(file=self.stream))
            self._task = self._bar.add_task("tiles", total=self._total, note="opening")
            if notebook:
                from IPython.display import display

                # needs no widgets: the handle's `update` draws the bar again
                self._notebook_cell = display(self._bar, display_id=True)  # type: ignore[no-untyped-call]
            else:
                self._bar.start()
        self.write("running")

    def report(self, report: TileReport, finished: bool) -> None:
        """Show a failure, and refresh."""
        if report.status is Status.FAILED:
            consequence = "quarantined" if finished else "will be tried again"
            self.print_line(f"tile {report.task} failed, {consequence}: {report.reason}")
        self.tick()

    def tick(self, workers: int | None = None) -> None:
        """Refresh whatever is due; call it a few times a second."""
        self._workers = self._workers if workers is None else workers
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.queue.stats.finished, note=self._note())
            if self._notebook_cell is not None and now - self._shown >= NOTEBOOK_S:
                self._shown = now
                self._notebook_cell.update(self._bar)
        elif now - self._shown >= LOG_S:
            self._shown = now
            self.print_line(f"{self.queue.stats.finished} of {self._total} tiles, {self._note()}")
        if now - self._written >= FILE_S:
            self.write("running")

    def set_stage(self, stage: str) -> None:
        """Show how far the work after the last tile is."""
        self._stage = stage
        self.tick()

    def print_line(self, line: str) -> None:
        """Print a line above the bar, or with the time into the log."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(f"{_now()} {line}", file=self.stream, flush=True)

    def close(self, state: str) -> None:
        """End with the state ``complete``, ``incomplete``, ``interrupted`` or ``failed``."""
        if self._notebook_cell is not None:
            self._notebook_cell.update(self._bar)
        elif self._bar is not None:
            self._bar.stop()
        self.write(state)

    def _note(self) -> str:
        """What the bar says besides the number of tiles."""
        finished, quarantined = self.queue.stats.finished, len(self.queue.stats.quarantined)
        if self._stage:
            return self._stage
        if finished:
            parts = [self._estimate(finished), f"{quarantined} quarantined" if quarantined else ""]
            return ", ".join(filter(None, parts)) or f"{len(self.queue.in_progress)} tiles in hand"
        # the first tile takes minutes, since a tile is read and computed as a whole
        if not self._total:
            return "nothing to do"
        if not self._workers:
            return "waiting for workers"
        tiles = len(self.queue.in_progress)
        return f"{tiles} tiles in hand: reading their scenes, then computing; none is finished yet"

    def _estimate(self, finished: int) -> str:
        """Rate and time left, once they mean something."""
        if finished == self._total:
            return "done"
        now, in_hand = time.monotonic(), len(self.queue.in_progress)
        if self._first is None:
            self._first = (now, finished)
        # The first tiles come late, since networks are loaded and catalogues asked before them, and then nearly at the
        # same time, since all workers began together. So the clock starts with the first, and two rounds are awaited.
        begun, counted = self._first
        # while dead workers are replaced nothing is in hand, and nothing may have been finished since either
        if finished - counted < max(2 * in_hand, 1) or now - begun < LOG_S:
            return ""
        rate = (finished - counted) / (now - begun)
        return f"{rate:.2f} tiles/s, {format_duration(round((self._total - finished) / rate))} left"

    def state(self, state: str) -> dict[str, Any]:
        """Content of progress.json."""
        stats, elapsed = self.queue.stats, time.monotonic() - self._begun
        tiles = {status.label: self.earlier[status] + stats.tiles[status] for status in Status}
        # of earlier runs' failed tiles, this run tries all again
        tiles |= {"pending": self._total - stats.finished, "failed": stats.tiles[Status.FAILED]}
        return {
            "state": state,
            "started": self._started,
            "updated": _now(),
            "tiles": tiles,
            "this_run": {
                "planned": self._total,
                "finished": stats.finished,
                "in_hand": len(self.queue.in_progress),
                "retries": stats.retries,
                "chips": stats.chips,
                "workers": self._workers,
                "seconds": {name: round(value, 1) for name, value in stats.seconds.items()},
                "elapsed": round(elapsed, 1),
                "tiles_per_second": round(stats.finished / max(1e-9, elapsed), 4),
            },
            "quarantined": {str(task): reason for task, reason in stats.quarantined.items()},
        }

    def write(self, state: str) -> None:
        """Replace progress.json."""
        self._written = time.monotonic()
        write_text(self.uri, json.dumps(self.state(state), indent=1))


def format_duration(seconds: int) -> str:
    """Hours, minutes and seconds, as in 26:03:59."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
