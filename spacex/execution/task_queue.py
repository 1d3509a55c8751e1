"""Which tiles are still to do, how often each was tried, and which are given up: the policy of all runners.

Two kinds of failure never mix. A *fault* is the tile's own (a truncated file, a missing asset): three tries,
then quarantine. A *loss* is the machinery's (a worker died with tiles in hand): it costs the tile no try, but
a tile that was in hand when a worker died is from then on handed out alone, and one whose workers keep dying
(`MAX_LOSSES`) is quarantined as well.

Several workers do not share one queue tile by tile, or each would read what all read. A worker *claims* the next
`CLAIM` tiles, neighbours of each other, and is handed those; when nothing is left to claim, it takes half of the
longest claim. A claim is a promise of order and nothing else: its tiles are still to do, whoever dies.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from spacex.execution.tasks import Status, TileReport, TileTask

MAX_TRIES = 3
"""Faults after which a tile is quarantined."""
MAX_LOSSES = 7
"""Workers that may die with a tile in hand before one more, with the tile alone, has it quarantined.

Not three: where workers are killed every five seconds, an innocent tile meets one such death in five tries, and
two of 2,037 were given up. Eight in a row happen once in a few hundred such runs.
"""
CLAIM = 64
"""Tiles a worker claims at a time: a square of 8 x 8."""


@dataclass
class TaskQueue:
    """The book of one run. Not thread-safe: only the driver's loop writes in it."""

    todo: deque[TileTask]
    """Tiles to hand out that nobody has claimed, in order."""
    claims: dict[Hashable, deque[TileTask]] = field(default_factory=dict)
    """Tiles to hand out, by the worker that claimed them."""
    quarantined: dict[TileTask, str] = field(default_factory=dict)
    """Tiles given up, with the reason."""
    settled: Counter[Status] = field(default_factory=Counter)
    """Tiles finished in this run, by status."""
    faults: Counter[TileTask] = field(default_factory=Counter)
    """Failed tries per tile."""
    losses: Counter[TileTask] = field(default_factory=Counter)
    """Workers lost while the tile was in their hands."""
    in_hand: set[TileTask] = field(default_factory=set)
    """Tiles handed out and not yet reported."""

    @classmethod
    def of(cls, tasks: Iterable[TileTask]) -> TaskQueue:
        """A fresh book over these tiles."""
        return cls(deque(tasks))

    @property
    def finished(self) -> bool:
        """True if nothing is left to hand out or to wait for."""
        return not self.waiting and not self.in_hand

    @property
    def waiting(self) -> int:
        """Tiles nobody has in hand yet."""
        return len(self.todo) + sum(map(len, self.claims.values()))

    def is_suspect(self, task: TileTask) -> bool:
        """True if a worker has died with this tile in hand: it is handed out alone."""
        return self.losses[task] > 0

    def take(self, *, idle_worker: bool = True, worker: Hashable = None) -> TileTask | None:
        """The next tile for a worker, or None if there is none that it may have now.

        Args:
            idle_worker: the worker holds no other tile, so that it may be trusted with a suspect.
            worker: who asks; None if there is only one.
        """
        queues = [self.todo] if worker is None else [self._claim(worker), self.todo]
        for queue in queues:
            for _ in range(len(queue)):
                task = queue.popleft()
                if idle_worker or not self.is_suspect(task):
                    self.in_hand.add(task)
                    return task
                queue.append(task)
        return None

    def _claim(self, worker: Hashable) -> deque[TileTask]:
        """The worker's claim, a new one if it has come to its end."""
        claim = self.claims.setdefault(worker, deque())
        if claim:
            return claim
        # the last tiles are shared out in smaller claims, so that workers end together
        fair = -(-len(self.todo) // (2 * len(self.claims)))
        claim.extend(self.todo.popleft() for _ in range(min(CLAIM, fair)))
        longest = max(self.claims.values(), key=len)
        if not claim:
            claim.extendleft(longest.pop() for _ in range(-(-len(longest) // 2)))
        return claim

    def settle(self, report: TileReport) -> bool:
        """Book a report. True if the tile is finished or given up, False if it will be tried again."""
        task = report.task
        self.in_hand.discard(task)
        if report.status is not Status.FAILED:
            self.settled[report.status] += 1
            return True
        self.faults[task] += 1
        if self.faults[task] >= MAX_TRIES:
            self._give_up(task, f"{report.reason} ({self.faults[task]} tries)")
            return True
        self.todo.append(task)
        return False

    def lose(self, tasks: Iterable[TileTask]) -> list[TileTask]:
        """A worker died with these tiles in hand. Gives those quarantined by it."""
        tasks = list(tasks)
        given_up = []
        for task in tasks:
            self.in_hand.discard(task)
            self.losses[task] += 1
            alone = len(tasks) == 1
            if alone and self.losses[task] > MAX_LOSSES:
                self._give_up(task, f"its worker died {self.losses[task]} times, the last time with this tile alone")
                given_up.append(task)
            else:
                self.todo.append(task)
        return given_up

    def _give_up(self, task: TileTask, reason: str) -> None:
        self.quarantined[task] = reason
        self.settled[Status.FAILED] += 1
