"""Runner on a Ray cluster: long-lived actors, each of which holds a whole pipeline.

Only tile names go out and small reports come back. The driver keeps every actor a few tiles ahead; the actor's own
threads read and write while its one Ray thread runs the network. All retries are the driver's, since a Ray task retry
would repeat a tile that crashes its worker for ever.

A system failure never counts as a failure of a tile. The tiles go back to the queue, and the actor gets no others
until it answers a ping, after Ray has restarted it (anywhere in the cluster).
"""

from __future__ import annotations

import logging
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayTaskError

from spacex.attribution.inference import choose_precision
from spacex.attribution.names import Precision
from spacex.errors import RequestError, SpacexError
from spacex.execution.jobs import TileJob
from spacex.execution.pipeline import TilePipeline
from spacex.execution.ray_cluster import inside_cluster
from spacex.execution.ray_metrics import RunMetrics, WorkerMetrics
from spacex.execution.task_queue import TaskQueue
from spacex.execution.tasks import TileReport, TileTask
from spacex.storage import check_visible

log = logging.getLogger(__name__)

SYSTEM_FAILURES = (RayActorError, ActorUnavailableError, ObjectLostError)
"""What Ray raises if a worker or its node is gone or out of reach."""
POLL_S = 0.5
"""Seconds after which an actor answers even if no tile is finished, and the driver looks around."""
NO_WORKER_LIMIT_S = 600.0
"""Seconds without any live worker after which the run stops."""
RESIZE_S = 5.0
"""Seconds between two looks at whether the cluster has become larger."""
MAX_WORKER_ERRORS = 3
"""Errors of the network or of loading it, per worker and without any tile finished between, that end the run."""


class Worker:
    """Actor that holds a pipeline. Ray calls it from one thread, so it needs no lock."""

    def __init__(self, job: TileJob) -> None:
        # opened by the first ping: Ray never restarts an actor whose constructor raised
        self._job = job
        self._pipeline: TilePipeline[Any, Any] | None = None
        self._metrics = WorkerMetrics(job.output)

    def ping(self) -> None:
        """Answers once the pipeline is open."""
        self._open()

    def work(self, tasks: list[TileTask]) -> list[TileReport]:
        """Take on more tiles, work until one is finished or `POLL_S` have passed, and return the reports."""
        pipeline = self._open()
        for task in tasks:
            pipeline.add(task)
        reports = pipeline.advance(POLL_S)
        self._metrics.update()
        return reports

    def _open(self) -> TilePipeline[Any, Any]:
        if self._pipeline is None:
            check_visible(self._job.paths)
            self._pipeline = self._job.open()
        return self._pipeline


@dataclass(eq=False)
class ActorHandle:
    """The driver's view of one actor."""

    actor: Any
    call: Any = None
    """Reference to the call under way: a ping while the actor restarts, otherwise `work`; None if it is idle."""
    restarting: bool = True
    """Whether the actor has not answered since it was started or lost."""
    called_at: float = 0.0
    tasks: set[TileTask] = field(default_factory=set)

    def ping(self) -> None:
        """Ask the actor to answer once it is ready; it gets no tiles before."""
        self.call, self.restarting, self.called_at = self.actor.ping.remote(), True, time.monotonic()

    def work(self, tasks: list[TileTask]) -> None:
        """Give the actor more tiles, and time to work on those it holds."""
        self.tasks.update(tasks)
        self.call, self.called_at = self.actor.work.remote(tasks), time.monotonic()


def run_ray(
    job: TileJob,
    queue: TaskQueue,
    on_tick: Callable[[int], None],
    *,
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> None:
    """Work through the queue's tiles on the connected cluster.

    Args:
        job: what to do; travels to the workers.
        queue: the tiles; told what becomes of them.
        on_tick: called a few times a second with the number of workers alive.
        workers: actors; None takes what the cluster's CPUs (or GPUs) allow, also of nodes that join later.
        cpus: CPUs an actor reserves.
        gpus: GPUs an actor reserves; above 0 the networks run there.

    Raises:
        SpacexError: if no worker was alive for `NO_WORKER_LIMIT_S` seconds, or the network itself fails on all.
    """
    threads = job.threads or max(1, int(cpus))
    job = job.model_copy(update={"device": "cuda" if gpus else job.device, "threads": threads})
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0}
    actor_class = ray.remote(Worker).options(**options, scheduling_strategy="SPREAD")
    pool = ActorPool(queue, job, lambda: actor_class.remote(job))
    pool.grow(workers or _max_workers(cpus, gpus))
    resized = time.monotonic()
    try:
        while not queue.finished:
            pool.step()
            if workers is None and time.monotonic() - resized > RESIZE_S:
                pool.grow(_max_workers(cpus, gpus, at_least=0))
                resized = time.monotonic()
            on_tick(pool.alive)
    finally:
        pool.shutdown()


class ActorPool:
    """The actors of one run, each started by `make_actor`."""

    def __init__(self, queue: TaskQueue, job: TileJob, make_actor: Callable[[], Any]) -> None:
        self._queue, self._job, self._make_actor, self._metrics = queue, job, make_actor, RunMetrics(job.output)
        self._handles: list[ActorHandle] = []
        self._errors = 0  # of workers, since the last report
        self._alive_at = time.monotonic()

    @property
    def alive(self) -> int:
        """Workers that have answered since they were started or lost."""
        return sum(not handle.restarting for handle in self._handles)

    def grow(self, count: int) -> None:
        """Start actors until there are `count`, but no more than there are tiles for."""
        useful = min(count, len(self._handles) + self._queue.waiting)
        for _ in range(len(self._handles), max(useful, 1)):
            handle = ActorHandle(self._make_actor())
            handle.ping()
            self._handles.append(handle)

    def step(self) -> None:
        """Hand out tiles, wait up to `POLL_S` for an answer, and take in what came back."""
        depth = self._job.tiles_per_worker
        if self._queue.waiting <= len(self._handles) * depth:
            depth = 2  # near the end, so that no worker idles while another holds several
        for handle in self._handles:
            if handle.call is None:
                self._hand_out(handle, depth)
        calls = [handle.call for handle in self._handles if handle.call is not None]
        answered = set(ray.wait(calls, num_returns=1, timeout=POLL_S)[0]) if calls else set()
        for handle in [handle for handle in self._handles if handle.call in answered]:
            self._collect(handle)
        self._check_alive()
        self._metrics.update(self._queue.stats, self.alive)

    def shutdown(self) -> None:
        """End all actors."""
        for handle in self._handles:
            ray.kill(handle.actor, no_restart=True)
        self._metrics.close()

    def _hand_out(self, handle: ActorHandle, depth: int) -> None:
        """Give an idle actor new tiles up to `depth`, or time for those it holds."""
        tasks: list[TileTask] = []
        while len(handle.tasks) + len(tasks) < depth:
            held = [*handle.tasks, *tasks]
            # a suspect is worked on alone, so that it is known what kills the worker
            suspect = any(self._queue.is_suspect(task) for task in held)
            if suspect or (task := self._queue.take(idle_worker=not held, worker=id(handle))) is None:
                break
            tasks.append(task)
        if handle.tasks or tasks:
            handle.work(tasks)

    def _collect(self, handle: ActorHandle) -> None:
        """Take in how a call ended: with reports, a ping, an error of the network, or the actor's death."""
        call, handle.call = handle.call, None
        try:
            reports = ray.get(call) or []
        except SYSTEM_FAILURES as error:
            self._on_worker_lost(handle, error)
            return
        except RayTaskError as error:
            self._on_task_error(handle, error)
            return
        handle.restarting = False
        for report in reports:
            # one from before the actor was thought lost has been given to another worker
            if report.task in handle.tasks:
                handle.tasks.remove(report.task)
                self._errors = 0
                self._queue.complete(report)

    def _on_worker_lost(self, handle: ActorHandle, error: Exception) -> None:
        # while an actor restarts every ping fails, which says nothing new
        if not handle.restarting:
            # Ray's own account has a thousand characters; its first words say what happened
            reason = textwrap.shorten(str(error).split("\n", 1)[0], 100, placeholder=" …")
            again = "its %d tiles go to other workers, and it is started again"
            log.warning(f"a worker was lost; {again} (%s: %s)", len(handle.tasks), type(error).__name__, reason)
            self._queue.worker_lost(handle.tasks)
            handle.tasks.clear()
        handle.ping()

    def _on_task_error(self, handle: ActorHandle, error: RayTaskError) -> None:
        # A failing tile comes back as a report, so this is raised by the network or by loading it. The reason may be
        # this one GPU, or a store that could not be reached, so the worker is restarted. The run ends if all fail.
        self._errors += 1
        cause = error.cause if isinstance(error.cause, SpacexError) else None
        if isinstance(cause, RequestError) or self._errors >= MAX_WORKER_ERRORS * len(self._handles):
            raise cause or SpacexError("workers are broken", got=str(error).strip().splitlines()[-1]) from error
        ray.kill(handle.actor, no_restart=False)
        self._on_worker_lost(handle, error)

    def _check_alive(self) -> None:
        """Restart actors that hang, and stop if there has been no live one for long."""
        now, limit = time.monotonic(), self._job.time_limit
        for handle in self._handles:
            # a call takes `POLL_S` and one batch, so one that takes this long hangs in the network or the GPU's driver
            if handle.call is not None and not handle.restarting and now - handle.called_at > limit:
                log.warning("a worker did not answer for %.0f s and is restarted", limit)
                handle.called_at = now
                ray.kill(handle.actor, no_restart=False)
        self._alive_at = now if self.alive else self._alive_at
        if now - self._alive_at > NO_WORKER_LIMIT_S:
            got, do = f"{NO_WORKER_LIMIT_S:.0f} s without one", "Look at `ray status`; the same command resumes."
            raise SpacexError("no worker has been alive", got=got, do=do)


def _max_workers(cpus: float, gpus: float, at_least: int = 1) -> int:
    """How many workers the cluster holds."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    limits = [resources.get(name, 0.0) / need for name, need in (("CPU", cpus), ("GPU", gpus)) if need > 0]
    count = int(min(limits, default=1))
    if count < at_least:
        got = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
        expected = f"{cpus:g} CPUs and {gpus:g} GPUs per worker"
        do = "On a cluster that starts its nodes when they are needed, give --workers."
        raise RequestError("the cluster cannot hold a single worker", got=got, expected=expected, do=do)
    return count


def worker_precision(cpus: float, gpus: float) -> Precision:
    """What the precision `auto` means on the workers' machines: one of them is asked, which may have to be started."""
    ask: Any = ray.remote(choose_precision).options(num_cpus=cpus, num_gpus=gpus)
    answer: Precision = ray.get(ask.remote("auto", "cuda" if gpus else "cpu"))
    return answer


def check_resources(workers: int | None, cpus: float, gpus: float) -> None:
    """Refuse workers, described as for `run_ray`, of which the connected cluster cannot hold a single one.

    Raises:
        RequestError: naming what there is and what a worker needs.
    """
    # with a number, a running cluster may yet start the nodes they need
    if workers is None or not inside_cluster():
        _max_workers(cpus, gpus)
