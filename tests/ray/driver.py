"""A driver to be killed: maps fake scenes in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import FakePipeline, FaultInjection, with_pipeline

from spacex import load_checkpoint
from spacex.mapping.plan import make_plan
from spacex.mapping.request import MapRequest
from spacex.mapping.run import execute


def main(request_json: str, output: str, checkpoint: str, runner: str, seconds: str) -> None:
    request, networks = MapRequest.model_validate_json(request_json), load_checkpoint(checkpoint)
    plan = make_plan(request, output, networks, scenes=[[]])
    if runner == "ray":
        from spacex.execution.ray_actors import run_ray
        from spacex.execution.ray_cluster import connect

        connect()
        run = partial(run_ray, workers=2)
    else:
        from spacex.execution.local import run_local as run
    run = with_pipeline(run, FakePipeline(FaultInjection(seconds=float(seconds))))
    outcome = execute(plan, run, threads=1)
    print(json.dumps({"complete": outcome.complete}))


main(*sys.argv[1:])
