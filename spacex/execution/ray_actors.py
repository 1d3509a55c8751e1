"""Working on a Ray cluster: long-lived actors that each hold a whole pipeline.

Only tile names go out and small reports come back. The driver keeps every actor a few tiles ahead; the actor's
own threads read and write while its one Ray thread runs the network. All retries are the driver's: a Ray task
retry would restart a tile that crashes its worker for ever.

Failures of the machinery (`INFRASTRUCTURE`) never count as a tile's fault. The actor is *parked* behind a ping
until Ray has restarted it (anywhere in the cluster), and its tiles go back to the ledger.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayTaskError

from spacex.errors import RequestError, SpacexError
from spacex.execution.jobs import AnyJob, TileWorker, opened
from spacex.execution.ray_metrics import RunMetrics, WorkerMetrics
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import TileReport, TileTask

log = logging.getLogger(__name__)

INFRASTRUCTURE = (RayActorError, ActorUnavailableError, ObjectLostError)
"""A worker or its node is gone or out of reach: weather."""
PATIENCE = 0.5
"""Seconds an actor works before it answers, if no tile is finished: the driver's pulse."""
ALL_PARKED_LIMIT = 600.0
"""Seconds without any live worker after which the run stops."""
GROW_SECONDS = 5.0
"""Seconds between two looks at whether the cluster has become larger."""
MAX_BREAKS = 3
"""Errors of the network or of loading it, per worker and without any tile finished between, that end the run."""


class Worker:
    """The actor: a pipeline behind two methods. Serial, so that nothing in it needs a lock."""

    def __init__(self, job: AnyJob, make: Callable[[Any], TileWorker]) -> None:
        # opened by the first ping: Ray never restarts an actor whose constructor raised
        self._job, self._make = job, make
        self._pipeline: TileWorker | None = None
        self._metrics = WorkerMetrics()

    def ping(self) -> str:
        """The node this actor lives on; answers once the networks are loaded."""
        self._opened()
        return str(ray.get_runtime_context().get_node_id())

    def work(self, tasks: list[TileTask]) -> list[TileReport]:
        """Take on more tiles and work until one is finished or the driver's pulse is due."""
        pipeline = self._opened()
        for task in tasks:
            pipeline.add(task)
        reports = pipeline.advance(PATIENCE)
        self._metrics.update()
        return reports

    def _opened(self) -> TileWorker:
        if self._pipeline is None:
            self._pipeline = self._make(self._job)
        return self._pipeline


@dataclass(eq=False)
class _Hand:
    """The driver's view of one actor."""

    actor: Any
    ready: Any
    """Reference to a ping while the actor is parked, else to the work call in flight, else None."""
    parked: bool = True
    since: float = field(default_factory=time.monotonic)
    """When the call in flight was made."""
    tasks: set[TileTask] = field(default_factory=set)
    """Tiles the actor holds."""

    def call(self, reference: Any, *, parked: bool) -> None:
        """Note the call just made."""
        self.ready, self.parked, self.since = reference, parked, time.monotonic()


def run_ray(
    job: Any,
    ledger: TaskQueue,
    *,
    on_report: Callable[[TileReport, bool], None],
    on_quarantine: Callable[[TileTask, str], None],
    on_tick: Callable[[int], None],
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    open_pipeline: Callable[[Any], TileWorker] = opened,
) -> None:
    """Work through the ledger's tiles on the connected cluster.

    Args:
        job: what to do, an `AnyJob`; travels to the workers.
        ledger: the tiles to do; filled in as they are settled.
        on_report: called with every report, and whether its tile is settled.
        on_quarantine: called when a tile is given up, with the reason.
        on_tick: called a few times a second with the number of workers alive.
        workers: actors; None takes what the cluster's CPUs (or GPUs) allow, also of nodes that join later.
        cpus: CPUs an actor reserves.
        gpus: GPUs an actor reserves; above 0 the networks run there.
        open_pipeline: makes the pipeline in the worker; tests pass one with a fake source or network.

    Raises:
        SpacexError: if no worker was alive for `ALL_PARKED_LIMIT` seconds, or the network itself fails on all.
    """
    threads = job.threads or max(1, int(cpus))
    job = job.model_copy(update={"device": "cuda" if gpus else job.device, "threads": threads})
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0}
    make = ray.remote(Worker).options(**options, scheduling_strategy="SPREAD")
    crew = ActorPool(ledger, job, lambda: make.remote(job, open_pipeline), on_report, on_quarantine)
    crew.grow(workers or _affordable(cpus, gpus))
    looked = time.monotonic()
    try:
        while not ledger.finished:
            crew.turn()
            if workers is None and time.monotonic() - looked > GROW_SECONDS:
                crew.grow(_affordable(cpus, gpus, at_least=0))
                looked = time.monotonic()
            on_tick(crew.alive)
    finally:
        crew.dismiss()


class ActorPool:
    """The actors of one run."""

    def __init__(
        self,
        ledger: TaskQueue,
        job: AnyJob,
        make: Callable[[], Any],
        on_report: Callable[[TileReport, bool], None],
        on_quarantine: Callable[[TileTask, str], None],
    ) -> None:
        self._ledger, self._make, self._time_limit, self._in_hand = ledger, make, job.time_limit, job.in_hand
        self._on_report, self._on_quarantine = on_report, on_quarantine
        self._hands: list[_Hand] = []
        self._metrics = RunMetrics()
        self._breaks = 0
        self._alive_at = time.monotonic()

    @property
    def alive(self) -> int:
        """Workers that have answered since they were last lost."""
        return sum(not hand.parked for hand in self._hands)

    def grow(self, count: int) -> None:
        """Start workers until there are `count`, but no more than there are tiles for."""
        wanted = min(count, len(self._hands) + self._ledger.waiting)
        for _ in range(len(self._hands), max(wanted, 1)):
            actor = self._make()
            self._hands.append(_Hand(actor, actor.ping.remote()))

    def turn(self) -> None:
        """Hand out tiles, wait for an answer or the pulse, and book what came back."""
        # near the end tiles are spread thin, so that no worker idles while another holds several
        depth = self._in_hand if self._ledger.waiting > len(self._hands) * self._in_hand else 2
        for hand in self._hands:
            self._hand_out(hand, depth)
        calls = [hand.ready for hand in self._hands if hand.ready is not None]
        ready = set(ray.wait(calls, num_returns=1, timeout=PATIENCE)[0]) if calls else set()
        for hand in [hand for hand in self._hands if hand.ready in ready]:
            self._collect(hand)
        self._check()
        self._metrics.tick(self.alive)

    def dismiss(self) -> None:
        """End all actors."""
        for hand in self._hands:
            ray.kill(hand.actor, no_restart=True)

    def _hand_out(self, hand: _Hand, depth: int) -> None:
        """Give an idle actor its next call: new tiles if it may have any, and time to work on what it holds."""
        if hand.ready is not None:
            return
        fresh: list[TileTask] = []
        while len(hand.tasks) < depth and not any(self._ledger.is_suspect(task) for task in hand.tasks):
            task = self._ledger.take(idle_worker=not hand.tasks, worker=id(hand))
            if task is None:
                break
            fresh.append(task)
            hand.tasks.add(task)
        if hand.tasks:
            hand.call(hand.actor.work.remote(fresh), parked=False)

    def _collect(self, hand: _Hand) -> None:
        """Book what an actor's finished call gave: reports, a ping, an error of its network, or its death."""
        reference, hand.ready = hand.ready, None
        try:
            answer = ray.get(reference)
        except INFRASTRUCTURE as error:
            self._lose(hand, error)
            return
        except RayTaskError as error:
            self._broken(hand, error)
            return
        hand.parked = False
        for report in answer if isinstance(answer, list) else []:
            self._book(hand, report)

    def _book(self, hand: _Hand, report: TileReport) -> None:
        if report.task not in hand.tasks:
            return  # from before a lapse in which the tile was given to another worker
        hand.tasks.remove(report.task)
        self._breaks = 0
        settled = self._ledger.settle(report)
        if report.task in self._ledger.quarantined:
            self._on_quarantine(report.task, self._ledger.quarantined[report.task])
        self._metrics.report(report, settled)
        self._on_report(report, settled)

    def _lose(self, hand: _Hand, error: Exception) -> None:
        if not hand.parked:
            self._metrics.lose()
            # while it restarts, every ping fails; once is enough to know
            log.warning("a worker was lost with %d tiles in hand: %s", len(hand.tasks), str(error).split("\n", 1)[0])
        for task in self._ledger.lose(sorted(hand.tasks)):
            self._metrics.give_up()
            self._on_quarantine(task, self._ledger.quarantined[task])
        hand.tasks.clear()
        hand.call(hand.actor.ping.remote(), parked=True)

    def _broken(self, hand: _Hand, error: RayTaskError) -> None:
        # tiles' faults come back as reports: what is raised is the network's or the loading's. It may be this
        # one GPU or one bad moment of the store, so the worker is made anew; if all workers break, the run ends
        self._breaks += 1
        cause = error.cause if isinstance(error.cause, SpacexError) else None
        if isinstance(cause, RequestError) or self._breaks >= MAX_BREAKS * len(self._hands):
            raise cause or SpacexError("workers are broken", got=str(error).strip().splitlines()[-1]) from error
        ray.kill(hand.actor, no_restart=False)
        self._lose(hand, error)

    def _check(self) -> None:
        """Restart actors that hang, and stop if there is no live one for long."""
        now = time.monotonic()
        for hand in self._hands:
            # a call comes back after `PATIENCE` and one batch, so this one is stuck in the network or the driver
            if hand.ready is not None and not hand.parked and now - hand.since > self._time_limit:
                log.warning("a worker did not answer for %.0f s and is started anew", self._time_limit)
                hand.since = now
                ray.kill(hand.actor, no_restart=False)
        self._alive_at = now if self.alive else self._alive_at
        if now - self._alive_at > ALL_PARKED_LIMIT:
            raise SpacexError(
                "no worker has been alive",
                got=f"{ALL_PARKED_LIMIT:.0f} s without one",
                do="Look at `ray status`; the same command resumes.",
            )


def _affordable(cpus: float, gpus: float, at_least: int = 1) -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    limits = [resources.get(name, 0.0) / need for name, need in (("CPU", cpus), ("GPU", gpus)) if need > 0]
    count = int(min(limits, default=1))
    if count < at_least:
        raise RequestError(
            "the cluster cannot hold a single worker",
            got=f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs",
            expected=f"{cpus:g} CPUs and {gpus:g} GPUs per worker",
            do="On a cluster that starts its nodes when they are needed, give --workers.",
        )
    return count


def connect(local_cpus: int | None = None) -> None:
    """Join the cluster this job runs in, or start one on this machine.

    A cluster started here has token authentication, which Ray switches on by itself; one that is already running
    keeps its own mode. (Setting RAY_AUTH_MODE here would come too late: Ray reads it when it is imported.)
    Must be called before signal handlers are installed, since Ray installs its own.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    inside = inside_cluster()
    start: dict[str, Any] = {} if inside else {"num_cpus": local_cpus, "include_dashboard": False}
    ray.init(logging_level=logging.ERROR, log_to_driver=False, **start)
    token = Path.home() / ".ray" / "auth_token"
    if not inside and token.exists():
        token.chmod(0o600)  # Ray writes it readable for everybody


def inside_cluster() -> bool:
    """True if this process was started in a running cluster, or told where one is."""
    return "RAY_ADDRESS" in os.environ or "RAY_JOB_ID" in os.environ


def check_room(workers: int | None, cpus: float, gpus: float) -> None:
    """Refuse workers of which the connected cluster cannot hold a single one.

    Args:
        workers: as for `run_ray`; with a number, a running cluster may yet start the nodes they need.
        cpus: CPUs a worker will reserve.
        gpus: GPUs a worker will reserve.

    Raises:
        RequestError: naming what there is and what a worker needs.
    """
    if workers is None or not inside_cluster():
        _affordable(cpus, gpus)
