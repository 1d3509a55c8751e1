"""The Slurm script: sound everywhere, and run for real where Slurm is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "slurm" / "spacex.sbatch"
TEXT = SCRIPT.read_text()
KNOWN = {
    "job-name", "nodes", "ntasks-per-node", "cpus-per-task", "time", "signal", "requeue", "open-mode", "output",
}  # fmt: skip


def directives():
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", TEXT, re.M))


def test_bash_reads_it():
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    found = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_slurm_reads_all_its_directives():
    lines = TEXT.splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    stated = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert len(stated) == len(directives())  # each has the form that the pattern knows
    assert max(stated) < first_command  # sbatch stops reading at the first command
    assert set(directives()) == KNOWN


def test_one_ray_node_per_slurm_node_and_time_to_stop():
    assert directives()["ntasks-per-node"] == "1"
    kind, before = directives()["signal"].split("@")
    assert kind == "B:USR1"  # to the script, which passes it on to the driver alone
    assert int(before) >= 120
    assert "trap" in TEXT
    assert "USR1" in TEXT.split("trap", 1)[1]


def test_no_ray_without_a_token_and_no_dashboard_for_others():
    before_start = TEXT.split("ray start", 1)[0]
    assert "export RAY_AUTH_TOKEN RAY_AUTH_MODE=token" in before_start
    assert "--dashboard-host=127.0.0.1" in TEXT
    assert "0.0.0.0" not in TEXT


def test_without_a_job_it_says_how_to_give_one():
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no job given")
