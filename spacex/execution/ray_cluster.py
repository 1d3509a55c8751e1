"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import ray

from spacex.errors import RequestError


def connect(local_cpus: int | None = None, *, print_output: bool = False) -> None:
    """Join the cluster this job runs in, or start one on this machine; once per process.

    A cluster started here has token authentication, which Ray switches on by itself; one that is already running
    keeps its own mode. (Setting RAY_AUTH_MODE here would come too late: Ray reads it when it is imported.)
    Must be called before signal handlers are installed, since Ray installs its own.

    Args:
        local_cpus: of a cluster that is started here; None for the machine's.
        print_output: whether what Ray's processes print appears here.

    Raises:
        RequestError: if `RAY_ADDRESS` names no cluster that can be joined.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith(("http://", "https://")):
        do = "Submit the command with `ray job submit -- …`, or unset RAY_ADDRESS to run it on this machine."
        raise RequestError("RAY_ADDRESS is where jobs are submitted, not a cluster to join", got=address, do=do)
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    inside = inside_cluster()
    start: dict[str, Any] = {} if inside else {"num_cpus": local_cpus, "include_dashboard": False}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=print_output, **start)
    except (ValueError, ConnectionError) as error:
        if not inside:
            raise
        do = "Start Ray there, or unset RAY_ADDRESS to run on this machine."
        raise RequestError("no Ray cluster answers at RAY_ADDRESS", got=f"{address} ({error})", do=do) from error
    token = Path.home() / ".ray" / "auth_token"
    if not inside and token.exists():
        token.chmod(0o600)  # Ray writes it readable for everybody


def inside_cluster() -> bool:
    """True if this process was started in a running cluster, or told where one is."""
    return "RAY_ADDRESS" in os.environ or "RAY_JOB_ID" in os.environ
