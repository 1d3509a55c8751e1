"""Paths in a job on a cluster: every node must mean the same place by them, and it must outlive the job."""

from __future__ import annotations

import pytest

from spacex.api.dataset_settings import MakeDatasetSettings
from spacex.api.declaration import declared
from spacex.api.evaluation_settings import EvaluateSettings
from spacex.api.map_settings import MapSettings
from spacex.api.training_settings import ClassifierSettings, GanSettings
from spacex.errors import RequestError
from spacex.execution import ray_cluster
from spacex.storage import check_visible


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The folder in which a submitted job begins: Ray's copy of the code, here with data and a checkpoint in it."""
    folder = tmp_path / "working_dir_files" / "_ray_pkg_1"
    (folder / "runs" / "classifier").mkdir(parents=True)
    (folder / "runs" / "classifier" / "card.json").touch()
    (folder / "pictures").mkdir()
    (folder / "cover.tif").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    return folder


SHARED = [
    (MapSettings, "output", "rel.zarr"),
    (MapSettings, "checkpoint", "runs/classifier"),
    (MapSettings, "quicklook", "rel.png"),
    (MakeDatasetSettings, "output", "chips"),
    (MakeDatasetSettings, "land_cover", "cover.tif"),
    (EvaluateSettings, "output", None),
    (EvaluateSettings, "data", "pictures"),
    (EvaluateSettings, "second", "runs/classifier"),
    (ClassifierSettings, "data", "pictures"),
    (ClassifierSettings, "output", None),
    (GanSettings, "data", "pictures"),
    (GanSettings, "classifier", None),
    (GanSettings, "output", None),
    (GanSettings, "further", ["runs/classifier"]),
    (GanSettings, "start", "runs/classifier"),
]


@pytest.mark.parametrize(("model", "name", "value"), SHARED, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_relative_path_is_refused_in_a_job(model, name, value, job, monkeypatch):
    setting = declared(model)[name].setting
    with pytest.raises(RequestError, match=r"another place on every node.*s3://"):
        setting.accept(name, value)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    setting.accept(name, value)  # on one machine it is what it says


@pytest.mark.parametrize("path", ["{job}/cube.zarr", "file://{job}/cube.zarr", "~/cube.zarr"])
def test_an_absolute_path_is_refused_only_in_ray_s_copy(path, job, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(job if path.startswith("~") else tmp_path))
    setting = declared(MapSettings)["output"].setting
    with pytest.raises(RequestError, match="another place on every node"):
        setting.accept("--output", path.format(job=job))
    assert setting.accept("--output", str(tmp_path / "cube.zarr"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert setting.accept("--output", "~/cube.zarr")
    assert declared(ClassifierSettings)["data"].setting.accept("--data", "demo") == "demo"


def test_a_worker_that_does_not_see_the_output_says_what_to_do(tmp_path):
    check_visible([str(tmp_path), f"file://{tmp_path}", "s3://bucket/cube.zarr", "memory://cube.zarr"])
    with pytest.raises(RequestError, match=f"does not see {tmp_path}/cube.zarr.*disk that all nodes share"):
        check_visible([str(tmp_path), str(tmp_path / "cube.zarr")])


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://ray.example.org"])
def test_the_address_of_the_job_api_is_no_cluster_to_join(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RequestError, match=r"RAY_ADDRESS.*ray job submit.*unset"):
        ray_cluster.connect()


@pytest.mark.parametrize("error", [ValueError("Invalid Ray address"), ConnectionError("Failed to connect")])
def test_a_cluster_that_does_not_answer_is_a_wrong_request(error, monkeypatch):
    def fail(**_):
        raise error

    monkeypatch.setattr(ray_cluster.ray, "init", fail)
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(RequestError, match=r"10\.0\.0\.1:6379.*unset RAY_ADDRESS"):
        ray_cluster.connect()
