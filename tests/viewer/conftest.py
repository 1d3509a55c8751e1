"""A cube of known values, its page served, and a browser."""

from __future__ import annotations

import browser
import pytest
from known_cube import known_cube, served


@pytest.fixture(scope="session")
def cube(tmp_path_factory):
    return known_cube(str(tmp_path_factory.mktemp("view") / "known values.zarr"))


@pytest.fixture(scope="session")
def address(cube):
    with served(cube.uri) as url:
        yield url


@pytest.fixture(scope="session")
def page():
    """One tab of a headless Chromium, 1000 × 700 pixels."""
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    tab = browser.Page()
    yield tab
    tab.close()
