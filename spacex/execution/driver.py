"""One run of a runner, as every driver conducts it: ledger, progress, logs, reports, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spacex.errors import RequestError, SpacexError
from spacex.execution.jobs import AnyJob, Runner
from spacex.execution.lock import OutputLock
from spacex.execution.logs import log_tile
from spacex.execution.progress import ProgressLog
from spacex.execution.run_stats import RunStats
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import Status, TileReport, TileTask


@dataclass(frozen=True)
class RunDriver:
    """What differs between drivers: where a run stands, and what is done at its turns."""

    folder: str
    """The run's folder (`spacex.storage.run_folder`)."""
    claim: OutputLock
    """The claim on the output, held."""
    on_quarantine: Callable[[TileTask, str, int], None]
    """Called when a tile is given up, with the reason and the number of tries."""
    on_end: Callable[[ProgressLog], None]
    """Called with the progress log when nothing is left to do, before the run counts as ended."""
    write_papers: Callable[[TaskQueue, RunStats, str], None]
    """Called at the end, also on interruption, with the state; must not raise."""
    on_start: Callable[[ProgressLog], None] = lambda log: None
    """Called with the progress log before the first tile."""
    doing: str = "mapping"
    """What the bar says is being done."""
    bands: int = 3
    """Bands read."""

    def run(
        self, job: AnyJob, todo: Iterable[TileTask], already: Counter[Status], runner: Runner
    ) -> tuple[TaskQueue, RunStats]:
        """Work through tiles.

        Args:
            job: what to do.
            todo: the tiles, in order.
            already: tiles that earlier runs finished, by status.
            runner: who does the work.

        Raises:
            SpacexError: if the work itself cannot go on; the finished tiles are safe.
        """
        ledger, notes = TaskQueue.of(todo), RunStats(self.bands)
        log = ProgressLog(f"{self.folder}/progress.json", ledger, already, doing=self.doing)
        self.on_start(log)

        def on_report(report: TileReport, finished: bool) -> None:
            log.report(report, finished)
            notes.add(report, finished)
            log_tile(report, ledger.faults[report.task] + (report.status is not Status.FAILED), finished)

        def on_quarantine(task: TileTask, reason: str) -> None:
            self.on_quarantine(task, reason, ledger.faults[task])

        def on_tick(workers: int) -> None:
            self.claim.check()
            log.tick(workers)

        state = "failed"
        try:
            runner(job, ledger, on_report=on_report, on_quarantine=on_quarantine, on_tick=on_tick)
            self.on_end(log)
            state = "incomplete" if ledger.quarantined else "complete"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except RequestError as error:
            # a worker's: by now something has been written, so this is no refusal any more
            raise SpacexError("the run cannot go on", got=error, do="Finished tiles are safe.") from error
        finally:
            log.close(state)
            self.write_papers(ledger, notes, state)
        return ledger, notes
