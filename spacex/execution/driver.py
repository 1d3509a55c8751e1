"""Driver loop of one run: hands out tiles, reports progress, logs, and ends with a report."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import fsspec

from spacex.errors import RequestError, SpacexError
from spacex.execution.jobs import Runner, TileJob
from spacex.execution.lock import OutputLock
from spacex.execution.logs import log_tile
from spacex.execution.progress import ProgressLog
from spacex.execution.run_stats import RunStats
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask
from spacex.storage import write_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to; base of the outcomes of maps and of data sets."""

    stats: RunStats
    seconds: float
    """Wall-clock seconds of the run."""
    items_left_out: dict[str, str]
    """Ids of the catalogue's items that were not used, with reasons."""
    unwritten: dict[str, str]
    """Outputs besides the tiles that could not be written, with reasons."""

    @property
    def quarantined(self) -> dict[TileTask, str]:
        """Tiles given up, with reasons; the same command tries them again."""
        return self.stats.quarantined

    @property
    def doubtful_scenes(self) -> dict[str, str]:
        """Ids of scenes whose pixels contradict their offset, and how."""
        return self.stats.doubtful_scenes

    @property
    def complete(self) -> bool:
        """True if every tile is done or has no data, and every output was written."""
        return not self.quarantined and not self.unwritten


def run_tiles(
    job: TileJob,
    todo: Iterable[TileTask],
    runner: Runner,
    *,
    folder: str,
    lock: OutputLock,
    earlier: Counter[Status],
    items_left_out: dict[str, str],
    activity: str,
    on_start: Callable[[ProgressLog], None],
    on_quarantine: Callable[[TileTask, str, int], None],
    on_end: Callable[[ProgressLog], None],
    write_reports: Callable[[RunStats, str], dict[str, str]],
) -> RunOutcome:
    """Work through the tiles of a job.

    Args:
        job: what to do.
        todo: the tiles, in order.
        runner: who does the work.
        folder: the run's folder (`spacex.storage.run_folder`).
        lock: on the output, held.
        earlier: tiles that earlier runs finished, by status.
        items_left_out: ids of the catalogue's items that are not used, with reasons.
        activity: what the progress bar says is being done.
        on_start: called with the progress log before the first tile.
        on_quarantine: called when a tile is quarantined, with the reason and the number of failed tries.
        on_end: called with the progress log when no tile is left, before the run counts as ended.
        write_reports: called at the end, also on interruption, with the run's state; gives the outputs that it could
            not write, with reasons, and must not raise.

    Raises:
        SpacexError: if the work itself cannot go on; the finished tiles are safe.
    """

    def on_report(report: TileReport, finished: bool) -> None:
        log_tile(report, queue.stats.failures[report.task] + (report.status is not Status.FAILED), finished)
        progress.report(report, finished)

    def on_tick(workers: int) -> None:
        lock.check()
        progress.tick(workers)

    begun = time.monotonic()
    queue = TaskQueue(todo, on_report, on_quarantine)
    progress = ProgressLog(f"{folder}/progress.json", queue, earlier, activity=activity)
    on_start(progress)
    state = "failed"
    try:
        runner(job, queue, on_tick)
        on_end(progress)
        state = "incomplete" if queue.stats.quarantined else "complete"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    except RequestError as error:
        # raised by a worker: by now something has been written, so it does not refuse the request any more
        raise SpacexError("the run cannot go on", got=error, do="Finished tiles are safe.") from error
    finally:
        progress.close(state)
        queue.stats.doubtful_scenes = _with_earlier(f"{folder}/doubtful-scenes.json", queue.stats.doubtful_scenes)
        unwritten = write_reports(queue.stats, state)
    return RunOutcome(queue.stats, time.monotonic() - begun, items_left_out, unwritten)


def _with_earlier(file: str, doubtful: dict[str, str]) -> dict[str, str]:
    """The doubtful scenes of this run and of earlier ones of this output, which `file` keeps."""
    fs, path = fsspec.core.url_to_fs(file)
    try:
        earlier = dict(json.loads(fs.cat_file(path))) if fs.exists(path) else {}
        if doubtful.keys() - earlier.keys():
            write_text(file, json.dumps(earlier | doubtful, indent=1))
    except (OSError, ValueError) as error:  # this must not hide how the run ended
        log.warning("%s cannot be read or written: %s", file, error)
        return doubtful
    return earlier | doubtful
