"""What a run survives of the network: busy servers, links that expire, transfers that stop, a slow object store."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from fakes import FakeNetworks, FakePipeline
from urllib3.util import Retry

from spacex.cube.store import Cube
from spacex.errors import CatalogueError
from spacex.execution.tasks import Status
from spacex.mapping.pipeline import Pipeline
from spacex.mapping.worker import SceneSource
from spacex.sentinel2.catalogue_profiles import CatalogueProfile, get_catalogue
from spacex.sentinel2.scene_list import load_scenes
from spacex.sentinel2.scene_search import search

pytestmark = pytest.mark.ray
BOX = (23.95, 67.965, 24.05, 67.99)
BANDS = ("B02", "B03", "B04")


def stamped(catalogue, href):
    """A signature as Planetary Computer's: it tells when it was made."""
    return f"{href}?signed={time.time():.3f}"


class OverHttp:
    """Real reading of real files, a fake network; links are signed when they are opened."""

    def __init__(self, patience="120"):
        self.patience = patience

    def __call__(self, job):
        os.environ["GDAL_HTTP_TIMEOUT"] = self.patience
        os.environ["GDAL_HTTP_MAX_RETRY"] = "4" if float(self.patience) > 1 else "0"
        os.environ["GDAL_HTTP_RETRY_DELAY"] = "0.05"
        CatalogueProfile.sign = stamped
        source = SceneSource(job.request, BANDS, load_scenes(job.scenes))
        return Pipeline(
            source.read, FakeNetworks(), Cube(job.output), job.request.chips,
            time_limit=job.time_limit,
        )  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def restored():
    """What `OverHttp` changes in this process is put back; before the module's other fixtures use it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GDAL_HTTP_TIMEOUT", "GDAL_HTTP_RETRY_DELAY", "GDAL_HTTP_MAX_RETRY"):
            patch.setenv(name, "1")
            patch.delenv(name)
        patch.setattr(CatalogueProfile, "sign", CatalogueProfile.sign)
        yield


@pytest.fixture(scope="module")
def archive(lab, tmp_path_factory):
    """Two days of one place, served over HTTP."""
    builder = lab.load("small_archive", Path(__file__).parents[1] / "small_archive.py")
    folder = tmp_path_factory.mktemp("files")
    items = [
        builder.write_scene(folder, "a34", 32634, day=3, cloud_seed=50),
        builder.write_scene(folder, "b34", 32634, day=9, cloud_seed=51),
    ]
    with lab.server.serve(lab.server.Archive(folder, items)) as served:
        for item in items:
            for asset in item["assets"].values():
                asset["href"] = f"{served.url}/files/{Path(asset['href']).name}"
        yield served


@pytest.fixture
def calm(archive):
    """The archive, and calm again afterwards."""
    yield archive
    archive.busy.clear()
    archive.stalled.clear()
    archive.valid_for = None
    archive.served.clear()


@pytest.fixture(scope="module")
def scenes(archive, request_of):
    request = request_of(BOX)
    return search(get_catalogue("demo", archive.url), request.region.area, "2020-07-01/2020-08-30", bands=BANDS)


@pytest.fixture(scope="module")
def peace(archive, scenes, request_of, carry, tmp_path_factory):
    output = tmp_path_factory.mktemp("calm") / "calm.zarr"
    assert carry(request_of(BOX), output, scenes=scenes, make_pipeline=OverHttp()).complete
    return output


def test_a_busy_catalogue_is_asked_again(calm, scenes, request_of):
    calm.busy.update({"/search": 2, "/collections": 1})
    again = search(get_catalogue("demo", calm.url), request_of(BOX).region.area, "2020-07-01/2020-08-30", bands=BANDS)
    assert [scene.id for scene in again] == [scene.id for scene in scenes]
    assert calm.served[429] == 3


def test_a_catalogue_that_stays_busy_is_named(calm, request_of):
    calm.busy["/"] = 1000
    catalogue, area = get_catalogue("demo", calm.url), request_of(BOX).region.area
    impatient = Retry(total=2, backoff_factor=0.01, status_forcelist=(429,), allowed_methods=None)
    with pytest.raises(CatalogueError, match=calm.url):
        search(catalogue, area, "2020-07-01/2020-08-30", bands=BANDS, retries=impatient)


def test_busy_file_servers_and_short_lived_links(lab, calm, peace, scenes, request_of, carry, runner, tmp_path):
    """Every file's server turns requests away, and a link is good for two seconds after it was made."""
    calm.busy["/files/"], calm.valid_for = 12, 2.0
    output = tmp_path / "cube.zarr"
    outcome = carry(request_of(BOX), output, runner, scenes=scenes, make_pipeline=OverHttp())
    assert outcome.complete
    lab.assert_equal_but(output, peace)
    assert calm.served[503] == 12
    assert calm.served[403] == 0  # no link was older than that when it was used
    assert all("signed" not in str(scene.to_json()) for scene in scenes)


def test_an_expired_link_is_refused_by_the_server_these_tests_use(calm):
    import requests

    calm.valid_for = 2.0
    name = next(calm.folder.glob("*.tif")).name
    old = f"{calm.url}/files/{name}?signed={time.time() - 3:.3f}"
    assert requests.get(old, timeout=5).status_code == 403
    assert requests.get(stamped(None, f"{calm.url}/files/{name}"), timeout=5).status_code == 200


def test_a_transfer_that_stops_halfway_is_given_up_and_named(
    lab, calm, peace, scenes, request_of, carry, runner, tmp_path
):
    calm.stalled.add("b34_red.tif")
    output = tmp_path / "cube.zarr"
    outcome = carry(request_of(BOX), output, runner, scenes=scenes, make_pipeline=OverHttp(patience="1"))
    assert outcome.quarantined
    assert all("asset red of b34" in reason for reason in outcome.quarantined.values())
    lab.assert_equal_but(output, peace, missing=outcome.quarantined)
    calm.stalled.clear()
    assert carry(request_of(BOX), output, runner, scenes=scenes, make_pipeline=OverHttp()).complete
    lab.assert_equal_but(output, peace)


@pytest.fixture(scope="module")
def slow_store():
    """An S3 service that takes its time, and now and then says it is too busy."""
    pytest.importorskip("moto")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app, calls = DomainDispatcherApplication(create_backend_app), []

    def slow(environ, start_response):
        calls.append(environ["REQUEST_METHOD"])
        time.sleep(0.02)
        if environ["REQUEST_METHOD"] == "PUT" and len(calls) % 15 == 0:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, slow, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", calls
    server.shutdown()


class WithKeys:
    """A fake pipeline whose workers know the object store."""

    def __init__(self, keys):
        self.keys = keys

    def __call__(self, job):
        os.environ.update(self.keys)
        return FakePipeline()(job)


def test_a_slow_object_store(lab, slow_store, request_of, carry, runner, tmp_path, monkeypatch, request):
    import boto3
    import fsspec

    url, calls = slow_store
    keys = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    bucket = f"b{abs(hash(request.node.name)):x}"
    boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    small = request_of((23.98, 67.98, 24.02, 68.0))
    assert carry(small, f"s3://{bucket}/cube.zarr", runner, make_pipeline=WithKeys(keys)).complete
    assert carry(small, tmp_path / "cube.zarr").complete
    there, here = (zarr.open_group(uri, mode="r") for uri in (f"s3://{bucket}/cube.zarr", str(tmp_path / "cube.zarr")))
    assert (here["tiles/status"][...] == Status.DONE).sum() >= 1
    for name in ("0/attribution", "0/naturalness", "1/composite", "tiles/status"):
        np.testing.assert_array_equal(there[name][...], here[name][...], err_msg=name)
    assert calls.count("PUT") > 30
    assert set(Cube(f"s3://{bucket}/cube.zarr").statuses().ravel()) <= {1, 3}
