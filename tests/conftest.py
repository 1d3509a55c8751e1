"""Fixtures shared by all tests."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import real_files
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    import torch

    from spacex.checkpoint import Checkpoint

# beside each other each process has its own core
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads these when it is first imported: no cluster of the tests is ever open, and none writes a token at home
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray runs its workers at niceness 15: beside other tests on two cores they would hardly ever start
os.environ.setdefault("RAY_worker_niceness", "0")

pytest_plugins = ["scene_archives", "small_archive", "small_dataset", "small_labels", "stand_in_cover", "object_store"]

# wall-clock deadlines fail on a busy machine, not on a wrong program
hypothesis_settings.register_profile("spacex", deadline=None, max_examples=40)
hypothesis_settings.load_profile("spacex")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts clusters comes first: it waits most, and two processes end together that way."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """On two processes: clusters stay on one, so do services; other files stay whole for their fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in ("tests/ray/", "tests/services/") if file.startswith(folder)), file)

    return Together(config, log)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A complete, tiny, seeded checkpoint on disk; its generators are not silent, so maps are not empty.

    Bands B02, B03, B04; base 4; norm-free delta generators that see 32 pixels, so frame 32 is exact. It takes chips of
    white noise for what it was trained on.
    """
    import torch

    from spacex.checkpoint import Card, Scaling, save_checkpoint
    from spacex.models.applicability import FeatureStatistics, learn_applicability, spatial_folds
    from spacex.models.classifier import Classifier, ClassifierSettings
    from spacex.models.generator import Generator, GeneratorSettings

    classifier = ClassifierSettings(base=4)
    generator = GeneratorSettings(base=4, cap=8, downs=2, blocks=2, stem=5)
    card = Card(
        kind="patterns",
        bands=("B02", "B03", "B04"),
        scaling=Scaling(mean=(0.03, 0.05, 0.04), std=(0.02, 0.02, 0.03)),
        classifier=classifier,
        generator=generator,
        preset="delta",
        data={"name": "random weights"},
        intended_use="Tests.",
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        modules: dict[str, torch.nn.Module] = {"classifier": Classifier(classifier)}
        for name in ("maximiser", "minimiser"):
            modules[name] = Generator(generator)
            for parameter in modules[name].parameters():
                torch.nn.init.normal_(parameter, 0.0, 0.1)
        watch = FeatureStatistics(looking := copy.deepcopy(modules["classifier"]).eval())
        with torch.no_grad(), watch:
            looking(torch.randn(12, 3, 256, 256))
    known = learn_applicability(watch.pop(), spatial_folds(range(12)), 3)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), card, modules, known)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Finds a file or folder that others made, by its path beside the checkout; skips where it is not there."""

    def find(path: str) -> Path:
        found = real_files.find(path)
        if found is None:
            pytest.skip(f"no {path} in {real_files.FOLDER} (SPACEX_TEST_DATA)")
        return found

    return find


REAL_NATURAL = (
    "tiny/S2A_MSIL2A_20180510T94033_19_86",
    "tiny/S2B_MSIL2A_20170924T093019_43_47",
    "tiny/S2B_MSIL2A_20170924T93021_41_29",
    "example/S2B_MSIL2A_20170924T93020_69_24",
)
REAL_ANTHROPOGENIC = (
    "tiny/S2A_MSIL2A_20170617T113321_36_85",
    "tiny/S2A_MSIL2A_20170617T113321_4_55",
    "tiny/S2B_MSIL2A_20180421T114349_47_56",
)


@pytest.fixture(scope="session")
def real_chips(real_data: Callable[[str], Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight real chips, reflectance (8, 10, 256, 256) float32 in the order of SENTINEL2_BANDS, labels (8,).

    Seven BigEarthNet patches whose CORINE labels are all natural or all man-made, and TerraMesh's fields of
    northern Denmark; 120 (or 224) pixels, mirrored to 256. For smoke tests: eight chips say nothing about accuracy.
    """
    import numpy as np
    import rasterio
    import torch

    from spacex.settings import SENTINEL2_BANDS

    def read(path: Path, bands: list[int]) -> Any:
        with rasterio.open(path) as source:
            return source.read(bands).astype("float32") / 10_000

    def patch(name: str) -> Any:
        files = [real_data(f"bigearthnet/{name}/{Path(name).name}_{band}.tif") for band in SENTINEL2_BANDS]
        bands = [read(file, [1])[0] for file in files]
        return np.stack([np.kron(band, np.ones([120 // len(band)] * 2, "float32")) for band in bands])

    def mirrored(chip: Any) -> Any:
        before = (256 - chip.shape[-1]) // 2
        width = (before, 256 - chip.shape[-1] - before)
        return np.pad(chip, ((0, 0), width, width), mode="symmetric")

    chips = [patch(name) for name in (*REAL_NATURAL, *REAL_ANTHROPOGENIC)]
    # twelve bands: B01 before our ten, B09 before the last two
    chips.append(read(real_data("terramesh/S2L2A_637U_59R_1_3.tif"), [*range(2, 10), 11, 12]))
    stack = torch.from_numpy(np.stack([mirrored(chip) for chip in chips])).clamp(0, 1)
    return stack, torch.tensor([1.0] * len(REAL_NATURAL) + [0.0] * (len(chips) - len(REAL_NATURAL)))


@pytest.fixture(scope="session")
def stac_services() -> Iterator[Any]:
    """A real STAC API (pgstac) and file server (nginx) over any archive; see tests/services_stack.py.

    ``stac_services.url(scene_archive, "earth-search")`` is the address of that catalogue's API, for any of the four.
    """
    path = Path(__file__).with_name("services_stack.py")
    spec = importlib.util.spec_from_file_location("services_stack", path)
    assert spec is not None
    assert spec.loader is not None
    stack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stack)
    if reason := stack.missing():
        pytest.skip(reason)
    with stack.Stack() as services:
        yield services


@pytest.fixture(scope="session")
def load_job() -> Any:
    """Imports a job by name as `python jobs/NAME.py` would, with jobs/ on the path; gives its module."""
    jobs = Path(__file__).parents[1] / "jobs"

    def load(name: str) -> Any:
        sys.path.insert(0, str(jobs))
        try:
            spec = importlib.util.spec_from_file_location(f"job_{name}", jobs / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(jobs))
        return module

    return load
