"""The metadata of every group and array against the community's validator of the GeoZarr conventions, zarr-cm."""

import json
from pathlib import Path

import pytest
import zarr_cm

from spacex.cube.geo_metadata import CONVENTIONS
from spacex.cube.layout import CubeSpec
from spacex.cube.overviews import make_overviews
from spacex.cube.store import create_cube
from spacex.execution.tasks import TileTask

from .conftest import SPEC, fill

LAEA = "+proj=laea +lat_0=62 +lon_0=15 +units=m +datum=WGS84"
"""A CRS of nobody's register: its text stands where others have a code."""


def conventions_of(spec: CubeSpec, folder: Path) -> dict[str, set[str]]:
    """What every node of a cube declares, after each was validated."""
    cube = create_cube(str(folder / "c.zarr"), spec, "0123", {"title": "test", "license": "CC-BY-4.0"})
    fill(cube, TileTask(0, -860, 898))
    make_overviews(cube)
    declared = {}
    for file in Path(cube.uri).rglob("zarr.json"):
        attributes = json.loads(file.read_text()).get("attributes", {})
        zarr_cm.validate_all(attributes)
        names = {entry["name"].rstrip(":") for entry in attributes.get("zarr_conventions", [])}
        # the validator sees what it does not know as no convention at all
        assert names == set(zarr_cm.detect_revisions(attributes))
        declared[file.parent.relative_to(cube.uri).as_posix()] = names
    return declared


@pytest.mark.parametrize("crs", ["EPSG:3035", LAEA])
def test_every_node_is_valid_and_what_has_pixels_says_where(tmp_path, crs):
    declared = conventions_of(SPEC.model_copy(update={"crs": crs}), tmp_path)
    assert declared["."] == {"multiscales", "proj", "spatial"}
    arrays = {f"{level}/{name}" for level in (0, 1, 2) for name in ("attribution", "naturalness")}
    for name in ("0", "1", "2", "0/observations", "1/composite", *arrays):
        assert declared[name] == {"proj", "spatial"}, name


def test_the_validator_refuses_a_code_beside_a_text():
    attributes = {"zarr_conventions": CONVENTIONS[1:2], "proj:code": "EPSG:3035", "proj:wkt2": "PROJCRS[]"}
    with pytest.raises(ValueError, match="Exactly one"):
        zarr_cm.validate_all(attributes)
