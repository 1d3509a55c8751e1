"""Queue of one run: hands tiles to workers, tries failed ones again and quarantines those that keep failing.

Two kinds of failure are kept apart. A tile's own *failure* (a truncated file, a missing asset) is tried three times,
then the tile is quarantined. A *worker's death* costs its tiles no try, but a tile that was in progress then is a
*suspect*: from then on it is handed out alone, and quarantined too if its workers keep dying.

Workers do not take tiles from the common queue one by one, since each would then read what all read. A worker is
*assigned* the next `ASSIGNMENT` tiles, neighbours of each other. When none are left to assign, it takes half of the
longest assignment. An assignment only fixes an order: its tiles are still to do, whoever dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable

from spacex.execution.run_stats import RunStats
from spacex.execution.tasks import Status, TileReport, TileTask

MAX_TRIES = 3
"""Failures after which a tile is quarantined."""
MAX_WORKER_DEATHS = 7
"""Workers that may die with a tile in progress before one more, which held it alone, has it quarantined.

Not three: where workers are killed every five seconds, an innocent tile meets such a death in one of five tries, and
two of 2,037 were quarantined. Eight in a row happen once in a few hundred such runs.
"""
ASSIGNMENT = 64
"""Tiles assigned to a worker at a time: a square of 8 x 8."""


class TaskQueue:
    """The tiles of one run. Not thread-safe: only the driver's loop calls it.

    Args:
        tasks: the tiles, in order.
        on_report: called with every report, and whether its tile is finished or quarantined.
        on_quarantine: called before that when a tile is quarantined, with the reason and its failed tries.
    """

    def __init__(
        self,
        tasks: Iterable[TileTask],
        on_report: Callable[[TileReport, bool], None] = lambda report, finished: None,
        on_quarantine: Callable[[TileTask, str, int], None] = lambda task, reason, tries: None,
    ) -> None:
        self.stats = RunStats()
        self.on_report, self.on_quarantine = on_report, on_quarantine
        self.todo = deque(tasks)
        """Tiles to hand out that are assigned to nobody, in order."""
        self.assignments: dict[Hashable, deque[TileTask]] = {}
        """Tiles to hand out, by the worker they are assigned to."""
        self.in_progress: set[TileTask] = set()
        """Tiles handed out and not yet reported."""

    @property
    def finished(self) -> bool:
        """True if nothing is left to hand out or to wait for."""
        return not self.waiting and not self.in_progress

    @property
    def waiting(self) -> int:
        """Tiles that are not handed out."""
        return len(self.todo) + sum(map(len, self.assignments.values()))

    def is_suspect(self, task: TileTask) -> bool:
        """True if a worker has died with this tile in progress."""
        return self.stats.worker_deaths[task] > 0

    def take(self, *, idle_worker: bool = True, worker: Hashable = None) -> TileTask | None:
        """The next tile for a worker, or None if there is none that it may have now.

        Args:
            idle_worker: whether the worker holds no other tile, so that it may have a suspect.
            worker: who asks; None if there is only one.
        """
        queues = [self.todo] if worker is None else [self._assigned(worker), self.todo]
        for queue in queues:
            # once around the queue: suspects that this worker may not have go to its end
            for _ in range(len(queue)):
                task = queue.popleft()
                if idle_worker or not self.is_suspect(task):
                    self.in_progress.add(task)
                    return task
                queue.append(task)
        return None

    def _assigned(self, worker: Hashable) -> deque[TileTask]:
        """What is assigned to the worker, filled up if it is empty."""
        assigned = self.assignments.setdefault(worker, deque())
        if assigned:
            return assigned
        # the last tiles are shared out in smaller numbers, so that workers end together
        share = -(-len(self.todo) // (2 * len(self.assignments)))
        assigned.extend(self.todo.popleft() for _ in range(min(ASSIGNMENT, share)))
        if not assigned:
            # from the end of the longest, which its worker will not reach for a while
            longest = max(self.assignments.values(), key=len)
            assigned.extendleft(longest.pop() for _ in range(-(-len(longest) // 2)))
        return assigned

    def complete(self, report: TileReport) -> bool:
        """Take in a report. True if the tile is finished or quarantined, False if it will be tried again."""
        task, failed = report.task, report.status is Status.FAILED
        self.in_progress.discard(task)
        tries = self.stats.failures[task] + 1
        finished = not failed or tries >= MAX_TRIES
        self.stats.add(report, finished)
        if failed and finished:
            self._quarantine(task, f"{report.reason} ({tries} tries)")
        elif failed:
            self.todo.append(task)
        self.on_report(report, finished)
        return finished

    def worker_lost(self, tasks: Iterable[TileTask]) -> list[TileTask]:
        """Take back the tiles that a lost worker held. Returns those that are quarantined for it."""
        tasks = sorted(tasks)
        self.stats.add_worker_death(tasks)
        for task in tasks:
            self.in_progress.discard(task)
            deaths = self.stats.worker_deaths[task]
            if len(tasks) == 1 and deaths > MAX_WORKER_DEATHS:
                self._quarantine(task, f"its worker died {deaths} times, the last time with this tile alone")
            else:
                self.todo.append(task)
        return [task for task in tasks if task in self.stats.quarantined]

    def _quarantine(self, task: TileTask, reason: str) -> None:
        self.stats.quarantine(task, reason)
        self.on_quarantine(task, reason, self.stats.failures[task])
