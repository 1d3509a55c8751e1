"""A driver to be killed: maps fake scenes in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import FakePipeline, FaultInjection, with_pipeline

from spacex import load_checkpoint
from spacex.execution.tasks import Status, TileTask
from spacex.mapping.plan import Plan, new_statuses
from spacex.mapping.request import MapRequest
from spacex.mapping.run import execute


def main(request_json: str, output: str, checkpoint: str, runner: str, seconds: str) -> None:
    request, networks = MapRequest.model_validate_json(request_json), load_checkpoint(checkpoint)
    states = new_statuses(request)
    tasks = tuple(TileTask(0, r, c) for _, r, c in zip(*(states != Status.OUTSIDE).nonzero(), strict=True))
    plan = Plan(request, [[]], tasks, states)
    if runner == "ray":
        from spacex.execution.ray_actors import connect, run_ray

        connect()
        run = partial(run_ray, workers=2)
    else:
        from spacex.execution.local import run_local as run
    run = with_pipeline(run, FakePipeline(FaultInjection(seconds=float(seconds))))
    outcome = execute(plan, request.fingerprint(networks), output, networks, run, threads=1)
    print(json.dumps({"complete": outcome.complete}))


main(*sys.argv[1:])
