"""Cubes of format 2, whose arrays begin at the extent's corner: read everywhere, refused for writing with one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from shapely.geometry import box, mapping

from spacex.cube.applicability import share_outside, tiles_outside
from spacex.cube.attributes import consolidate
from spacex.cube.export import export
from spacex.cube.layout import CubeSpec, create
from spacex.cube.quicklook import draw
from spacex.cube.reader import open_cube, open_tiles
from spacex.cube.stac import describe_cube
from spacex.cube.store import Cube, create_cube, find_cube
from spacex.errors import CubeError
from spacex.execution.tasks import TileTask
from spacex.viewer.serve import write_page

from .conftest import SPEC, fill

ROWS, COLS = SPEC.extent[2:]


@pytest.fixture
def uri(tmp_path):
    """The second of 2 × 3 tiles, counted from the corner, is done, and unlike the training chips."""
    spec = SPEC.model_copy(update={"format": 2, "dissimilarity": "how"})
    uri = str(tmp_path / "old.zarr")
    create(uri, spec)
    root = zarr.open_group(uri, mode="r+")
    values = np.random.default_rng(0).random((ROWS, COLS), "f4")
    values[:, :512] = values[:, 1024:] = values[512:] = np.nan
    root["0/attribution"][0] = values
    root["0/dissimilarity"][0] = values + 1
    root["0/naturalness"][0] = np.where(np.isnan(values), 0, 100)
    for level in (1, 2):
        root[f"{level}/dissimilarity"][0] = (values + 1)[:: 2**level, :: 2**level]
        root[f"{level}/composite"][0] = 1000
    root["tiles/status"][0, 0, 1] = 1
    for name in ("tile_y", "tile_x"):
        del root[f"tiles/{name}"]
    about = {
        "title": "old", "source": "old", "spacex_code": "1", "fingerprint": "0123", "spacex_format": 2,
        "checkpoint": json.dumps({"preset": "delta", "data": {}}),
        "request": json.dumps({"area": mapping(box(15.3, 62.4, 15.7, 62.7)), "catalogue": "demo"}),
        "spacex_spec": spec.model_dump_json(exclude={"format"}),
    }  # fmt: skip
    layout = [{"asset": str(level)} for level in range(spec.levels)]
    root.update_attributes({**about, "multiscales": {"layout": layout}})
    consolidate(uri)
    return uri


def test_it_opens_on_its_own_pixels(uri):
    data = open_cube(uri)
    assert data.attribution.shape == (2, ROWS, COLS)
    assert data.attribution.rio.transform()[:6] == (10, 0, 4_600_000, 0, -10, 4_400_000)
    assert np.isfinite(data.attribution[0, :512, 512:1024]).all()
    assert open_cube(uri, 2).composite.shape == (2, 3, ROWS // 4, COLS // 4)
    assert (open_tiles(uri).status[0] == [["pending", "done", "pending"], ["pending"] * 3]).all()
    assert data.spacex.coverage["done"].tolist() == [1, 0]


def test_all_that_reads_a_cube_reads_it(uri, tmp_path):
    cube = Cube(uri)
    assert share_outside(cube) == 1
    assert tiles_outside(cube, 0).tolist() == [[False, True, False], [False] * 3]
    draw(uri, str(tmp_path / "old.png"))
    assert (tmp_path / "old.png").stat().st_size > 10_000
    for name, pixels in (("attribution", (ROWS, COLS)), ("composite", (ROWS // 2, COLS // 2))):
        (file,) = export(uri, str(tmp_path), variables=[name], times=["2020-07-01"])
        with rasterio.open(file) as source:
            assert source.shape == pixels
            assert (source.transform.c, source.transform.f) == (4_600_000, 4_400_000)
    assert json.loads(Path(describe_cube(uri)).read_text())["extent"]["temporal"]
    assert write_page(uri).endswith("old.view")


def test_it_is_not_written_to(uri):
    with pytest.raises(CubeError, match=r"spacex_format 2; expected 3\. spacex\.open_cube reads it") as caught:
        find_cube(uri)
    assert "\n" not in str(caught.value)
    with pytest.raises(CubeError, match="already exists"):
        create_cube(uri, CubeSpec(**SPEC.model_dump()), "0123", {})
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        fill(Cube(uri), TileTask(0, *next(iter(SPEC.tiling))))
