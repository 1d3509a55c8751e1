"""Mapping on a Ray cluster: long-lived actors that each hold a whole pipeline.

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
from spacex.mapping.cube import TileTask
from spacex.mapping.ledger import Ledger
from spacex.mapping.tile import Pipeline, TileReport
from spacex.mapping.worker import Job, open_pipeline

log = logging.getLogger(__name__)

INFRASTRUCTURE = (RayActorError, ActorUnavailableError, ObjectLostError)
"""A worker or its node is gone or out of reach: weather."""
IN_HAND = 4
"""Tiles an actor holds: one written, one computed, two read."""
PATIENCE = 0.5
"""Seconds an actor works before it answers, if no tile is finished: the driver's pulse."""
ALL_PARKED_LIMIT = 600.0
"""Seconds without any live worker after which the run stops."""


class Worker:
    """The actor: a pipeline behind two methods. Serial, so that nothing in it needs a lock."""

    def __init__(self, job: Job, make: Callable[[Job], Pipeline]) -> None:
        self._pipeline = make(job)

    def ping(self) -> str:
        """The node this actor lives on; answers once the networks are loaded."""
        return str(ray.get_runtime_context().get_node_id())

    def work(self, tasks: list[TileTask]) -> list[TileReport]:
        """Take on more tiles and work until one is finished or the driver's pulse is due."""
        for task in tasks:
            self._pipeline.add(task)
        return self._pipeline.advance(PATIENCE)


@dataclass(eq=False)
class _Hand:
    """The driver's view of one actor."""

    actor: Any
    ready: Any
    """Reference to a ping while the actor is parked, else to the work call in flight, else None."""
    parked: bool = True
    tasks: set[TileTask] = field(default_factory=set)
    """Tiles the actor holds."""


def run_ray(
    job: Job,
    ledger: Ledger,
    *,
    on_report: Callable[[TileReport, bool], None],
    on_quarantine: Callable[[TileTask, str], None],
    on_tick: Callable[[int], None],
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    open_pipeline: Callable[[Job], Pipeline] = open_pipeline,
) -> None:
    """Work through the ledger's tiles on the connected cluster.

    Args:
        job: what to do; travels to the workers.
        ledger: the tiles to do; filled in as they are settled.
        on_report: called with every report, and whether its tile is settled.
        on_quarantine: called when a tile is given up, with the reason.
        on_tick: called a few times a second with the number of workers alive.
        workers: actors; None takes what the cluster's CPUs (or GPUs) allow.
        cpus: CPUs an actor reserves.
        gpus: GPUs an actor reserves; above 0 the networks run there.
        open_pipeline: makes the pipeline in the worker; tests pass one with a fake source or network.

    Raises:
        SpacexError: if no worker was alive for `ALL_PARKED_LIMIT` seconds, or the network itself fails.
    """
    count = workers or _affordable(cpus, gpus)
    count = max(1, min(count, len(ledger.todo)))
    threads = job.threads or max(1, int(cpus))
    job = job.model_copy(update={"device": "cuda" if gpus else job.device, "threads": threads})
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0}
    make = ray.remote(Worker).options(**options, scheduling_strategy="SPREAD")
    hands = [_start(make.remote(job, open_pipeline)) for _ in range(count)]
    alive_at = time.monotonic()
    try:
        while not ledger.finished:
            # near the end tiles are spread thin, so that no worker idles while another holds several
            depth = IN_HAND if len(ledger.todo) > count * IN_HAND else 2
            for hand in hands:
                _hand_out(hand, ledger, depth)
            ready, _ = ray.wait([hand.ready for hand in hands], num_returns=1, timeout=PATIENCE)
            for hand in [hand for hand in hands if hand.ready in ready]:
                _collect(hand, ledger, on_report, on_quarantine)
            alive = sum(not hand.parked for hand in hands)
            alive_at = time.monotonic() if alive else alive_at
            if time.monotonic() - alive_at > ALL_PARKED_LIMIT:
                raise SpacexError(
                    "no worker has been alive",
                    got=f"{ALL_PARKED_LIMIT:.0f} s without one",
                    do="Look at `ray status`; the same command resumes.",
                )
            on_tick(alive)
    finally:
        for hand in hands:
            ray.kill(hand.actor, no_restart=True)


def _start(actor: Any) -> _Hand:
    return _Hand(actor, actor.ping.remote())


def _hand_out(hand: _Hand, ledger: Ledger, depth: int) -> None:
    """Give an idle actor its next call: new tiles if it may have any, and time to work on those it holds."""
    if hand.ready is not None:
        return
    fresh: list[TileTask] = []
    while len(hand.tasks) < depth and not any(ledger.is_suspect(task) for task in hand.tasks):
        task = ledger.take(idle_worker=not hand.tasks)
        if task is None:
            break
        fresh.append(task)
        hand.tasks.add(task)
    hand.ready = hand.actor.work.remote(fresh) if hand.tasks else hand.actor.ping.remote()


def _collect(
    hand: _Hand,
    ledger: Ledger,
    on_report: Callable[[TileReport, bool], None],
    on_quarantine: Callable[[TileTask, str], None],
) -> None:
    """Book what an actor's finished call gave: reports, a ping, or its death."""
    reference, hand.ready = hand.ready, None
    try:
        answer = ray.get(reference)
    except INFRASTRUCTURE as error:
        log.info("a worker was lost with %d tiles in hand: %s", len(hand.tasks), error)
        for task in ledger.lose(sorted(hand.tasks)):
            on_quarantine(task, ledger.quarantined[task])
        hand.tasks.clear()
        hand.parked, hand.ready = True, hand.actor.ping.remote()
        return
    except RayTaskError as error:
        # tiles' faults come back as reports: what is raised is the network's or the loading's
        cause = error.cause if isinstance(error.cause, SpacexError) else None
        raise cause or SpacexError("a worker is broken", got=str(error).strip().splitlines()[-1]) from error
    hand.parked = False
    for report in answer if isinstance(answer, list) else []:
        if report.task not in hand.tasks:
            continue  # from before a lapse in which the tile was given to another worker
        hand.tasks.remove(report.task)
        settled = ledger.settle(report)
        if report.task in ledger.quarantined:
            on_quarantine(report.task, ledger.quarantined[report.task])
        on_report(report, settled)


def _affordable(cpus: float, gpus: float) -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    limits = [resources.get(name, 0.0) / need for name, need in (("CPU", cpus), ("GPU", gpus)) if need > 0]
    count = int(min(limits, default=1))
    if count < 1:
        raise RequestError(
            "the cluster cannot hold a single worker",
            got=f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs",
            expected=f"{cpus:g} CPUs and {gpus:g} GPUs per worker",
        )
    return count


def connect(local_cpus: int | None = None) -> None:
    """Join the cluster this job runs in, or start one on this machine.

    A cluster started here has token authentication, which Ray switches on by itself; one that is already running
    keeps its own mode. (Setting RAY_AUTH_MODE here would come too late: Ray reads it when it is imported.)
    Must be called before signal handlers are installed, since Ray installs its own.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    inside = "RAY_ADDRESS" in os.environ or "RAY_JOB_ID" in os.environ
    start = {} if inside else {"num_cpus": local_cpus, "include_dashboard": False}
    ray.init(logging_level="ERROR", log_to_driver=False, **start)
    token = Path.home() / ".ray" / "auth_token"
    if not inside and token.exists():
        token.chmod(0o600)  # Ray writes it readable for everybody
