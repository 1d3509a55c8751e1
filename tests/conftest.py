"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint

# Ray reads these when it is first imported: no cluster of the tests is ever open, and none writes a token at home
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# wall-clock deadlines fail on a busy machine, not on a wrong program
hypothesis_settings.register_profile("spacex", deadline=None, max_examples=40)
hypothesis_settings.load_profile("spacex")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A complete, tiny, seeded checkpoint on disk; its generators are not silent, so maps are not empty.

    Bands B02, B03, B04; base 4; norm-free delta generators that see 32 pixels, so frame 32 is exact.
    """
    import torch

    from spacex.checkpoint import Card, Scaling, save_checkpoint
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
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), card, modules)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files nobody here made: `SPACEX_TEST_DATA`, or `shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SPACEX_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set SPACEX_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def stac_services() -> Iterator[Any]:
    """A real STAC API (pgstac) and file server (nginx) over the real archive; see tests/services_stack.py.

    ``stac_services.url("earth-search")`` is the address of that catalogue's API, for any of the four styles.
    """
    path = Path(__file__).with_name("services_stack.py")
    spec = importlib.util.spec_from_file_location("services_stack", path)
    assert spec is not None
    assert spec.loader is not None
    stack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stack)
    if reason := stack.missing():
        pytest.skip(reason)
    archive = stack.shared_archive()
    if archive is None:
        pytest.skip("the real archive is absent (SPACEX_TEST_DATA, or ../shared/data)")
    with stack.Stack(archive) as services:
        yield services
