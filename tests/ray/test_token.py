"""A cluster with a token: third_party_networks are refused, and whoever holds the token maps a region to the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import requests

from spacex.cube.reader import open_cube

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "7" * 64
RAY = str(Path(sys.executable).with_name("ray"))


def environment(folder, token):
    hidden = {"RAY_ADDRESS", "RAY_AUTH_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    # jobs run the `python` that stood first when Ray was started
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PATH": path, "RAY_TMPDIR": str(folder), "HOME": str(folder), "RAY_AUTH_MODE": "token", "NO_COLOR": "1"}
    return {**kept, **ours, **({"RAY_AUTH_TOKEN": token} if token else {})}


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """One node started as the manifests and `cluster/local.md` do, with its dashboard and job API."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    port, gcs = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={gcs}", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-port={port}", "--disable-usage-stats", "--object-store-memory=200000000"]
    process = subprocess.Popen(
        command, env=environment(folder, TOKEN), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            if requests.get(f"{url}/api/jobs/", headers=bearer(TOKEN), timeout=2).status_code == 200:
                break
        except requests.RequestException:
            time.sleep(0.3)
    yield url, folder
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def submit(head, token, *command):
    url, folder = head
    line = [RAY, "job", "submit", "--address", url, "--", *command]
    return subprocess.run(line, env=environment(folder, token), capture_output=True, text=True, timeout=600)


def jobs(head):
    return requests.get(f"{head[0]}/api/jobs/", headers=bearer(TOKEN), timeout=5).json()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("headers", "status"), [({}, 401), (bearer("8" * 64), 403)])
def test_the_job_api_knows_no_strangers(head, method, headers, status):
    body = {"entrypoint": "touch /tmp/owned"} if method == "POST" else None
    assert requests.request(method, f"{head[0]}/api/jobs/", json=body, headers=headers, timeout=5).status_code == status


def test_a_submit_without_the_token_is_refused_and_leaves_no_trace(head):
    for token in (None, "8" * 64):
        done = submit(head, token, "touch", str(head[1] / "owned"))
        assert done.returncode != 0
        assert "token" in done.stderr.lower()
    assert jobs(head) == []
    assert not (head[1] / "owned").exists()


def test_with_the_token_the_mapping_job_runs_to_the_end(head, lab, tiny_checkpoint, tmp_path):
    """The very command of `cluster/local.md`, on two days of a small archive."""
    builder = lab.load("small_archive", ROOT / "tests" / "small_archive.py")
    folder = tmp_path / "files"
    folder.mkdir()
    items = [builder.write_scene(folder, f"a{day}", 32634, day=day, cloud_seed=50 + day) for day in (3, 9)]
    output = tmp_path / "cube.zarr"
    done = submit(
        head, TOKEN, "python", str(ROOT / "jobs" / "map_region.py"), "--catalogue", "demo", "--items",
        builder.list_items(items, tmp_path), "--bbox", "23.97", "67.97", "24.03", "67.99",
        "--datetime", "2020-07-01/2020-08-30", "--checkpoint", tiny_checkpoint.uri, "--output", str(output),
        "--tile-size", "512", "--workers", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    [job] = jobs(head)
    assert job["status"] == "SUCCEEDED"
    with open_cube(str(output)) as cube:
        assert set(cube.spacex.tiles.status.values.ravel()) <= {"done", "outside"}
        assert cube.attribution.notnull().any()
    assert TOKEN not in done.stdout + done.stderr


def test_a_submitted_job_refuses_a_relative_output(head):
    words = ["--catalogue", "demo", "--bbox", "24", "68", "24.1", "68.1", "--datetime", "2020", "--output", "rel.zarr"]
    done = submit(head, TOKEN, "python", str(ROOT / "jobs" / "map_region.py"), *words)
    assert done.returncode != 0
    assert "another place on every node" in done.stdout + done.stderr
    assert not (ROOT / "rel.zarr").exists()


def test_a_cluster_started_by_the_job_itself_has_a_token_that_others_cannot_read(tmp_path):
    """`connect()` with nothing set, as on a laptop: Ray makes a token, and only its owner may read it."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    plain = {n: v for n, v in environment(folder, None).items() if n != "RAY_AUTH_MODE"}
    script = (
        "from spacex.execution.ray_cluster import connect; connect(1); import os, ray;"
        "assert ray.get(ray.remote(lambda: 7).remote()) == 7; print(os.environ['RAY_AUTH_MODE'])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], env=plain, capture_output=True, text=True, timeout=120, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split()[-1] == "token"
        assert (folder / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
