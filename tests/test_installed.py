"""What is installed works: the wheel alone, in an empty folder, gives the command `spacex` and maps a region."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without a network: hatchling is among what the tests need."""
    place = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*pip, "-w", str(place), str(ROOT)], check=True)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in a folder of its own, beside the libraries of this interpreter."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(place)]
    subprocess.run([*pip, str(wheel)], check=True)
    return place


def call(installed, folder, *words):
    """Run a command as a user would, in a folder that holds nothing of the project."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def test_it_carries_data_types_and_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("spacex/py.typed", "spacex/areas.geojson", "spacex/synthetic/weights/card.json", "LICENSE"):
        assert any(name.endswith(part) for name in names), part
    assert not [name for name in names if name.startswith(("tests", "jobs"))]


def test_the_command_lists_its_sub_commands(installed, tmp_path):
    told = call(installed, tmp_path, "spacex", "--help")
    assert told.returncode == 0
    for name in ("map", "export", "train-classifier", "train-gan", "evaluate", "import-checkpoint"):
        assert f" {name} " in told.stdout
    code = "import spacex, sys; print(spacex.__file__, spacex.__version__)"
    file, version = call(installed, tmp_path, sys.executable, "-c", code).stdout.split()
    assert Path(file).is_relative_to(installed)
    assert version != "0+unknown"


def test_it_maps_describes_and_exports_from_an_empty_folder(installed, tmp_path):
    box = ["--bbox", "24.0,67.95,24.02,67.96"]
    made = call(installed, tmp_path, "spacex", "map", "--local", "--catalogue", "demo", *box, "--output", "one.zarr")
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip().endswith("one.zarr")
    item = json.loads((tmp_path / "one.stac.json").read_text())
    assert item["assets"]["cube"]["href"] == "./one.zarr"
    shared = call(installed, tmp_path, "spacex", "export", "one.zarr", "tif", "--variables", "naturalness")
    assert shared.stdout.split() == ["tif/naturalness_2020-07-01_2020-08-31.tif"]
    assert (tmp_path / "tif" / "naturalness_2020-07-01_2020-08-31.tif").exists()
