"""Levels that span several tiles: made when a run ends, equal to an oracle, and named only while they are true."""

import numpy as np
import pytest
import xarray as xr
import zarr
from known_cube import tile_of

from spacex.cube.layout import written_by_tiles
from spacex.cube.levels import crop
from spacex.cube.overviews import hide_levels, make_overviews
from spacex.cube.store import Cube, create_cube
from spacex.execution.tasks import Status, TileTask

from .conftest import SPEC

SHAPE = (1300, 2100)
"""Four by five tiles of 512, whose corner lies 320 rows above and 224 columns left of the extent's."""


def spec_of(tile_size):
    return SPEC.model_copy(
        update={
            "extent": (-440_000, 460_000, *SHAPE),
            "tile_size": tile_size,
            "intervals": SPEC.intervals[:1],
            "maps": dict.fromkeys(("attribution", "lift"), "how it was made"),
        }
    )


def truth():
    rng = np.random.default_rng(3)
    maps = {name: rng.random(SHAPE, dtype=np.float32) * scale for name, scale in
            (("attribution", 0.2), ("lift", 1e-4), ("naturalness", 1.0))}  # fmt: skip
    hole = rng.random(SHAPE) < 0.3
    for values in maps.values():
        values[hole] = np.nan
    maps["attribution"][600:1200, 700:1900] = np.nan
    return maps, rng.random((3, *SHAPE), dtype=np.float32) * 0.5


def fill(cube, tasks):
    maps, composite = truth()
    for task in tasks:
        cube.write(task, tile_of(cube, task, maps, composite))
        cube.finish(task, Status.DONE, {})


def tasks_of(cube):
    return [TileTask(0, row, col) for row, col in cube.spec.tiling]


def named(cube):
    return [entry["asset"] for entry in Cube(cube.uri).attributes["multiscales"]["layout"]]


def oracle(values):
    """Mean of the valid ones of 2 × 2 pixels, in float64, by xarray."""
    return xr.DataArray(values.astype("f8"), dims=("y", "x")).coarsen(y=2, x=2, boundary="pad").mean().values


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    made = {}
    for size in (512, 1024, 1536):
        made[size] = create_cube(str(tmp_path_factory.mktemp("c") / f"{size}.zarr"), spec_of(size), "0", {})
        fill(made[size], tasks_of(made[size]))
        make_overviews(made[size])
    return made


def test_levels_go_on_to_one_chunk(cubes):
    # five tiles of 512 pixels: 2560, 1280, 640, 320
    assert named(cubes[512]) == ["0", "1", "2", "3"]
    last = cubes[512].array("3/lift")
    assert last.shape == (1, 256, 320)
    assert last.chunks == (1, 512, 512)
    assert last.nchunks == 1


@pytest.mark.parametrize("name", ["attribution", "lift"])
def test_each_level_is_the_mean_of_the_one_below(cubes, name):
    for level in (1, 2, 3):
        below, here = (cubes[512].array(f"{k}/{name}")[0] for k in (level - 1, level))
        np.testing.assert_allclose(here, oracle(below), rtol=2.0**-11)


def test_the_composite_is_averaged_in_reflectance(cubes):
    composite = truth()[1]
    inside = [(slice(None), *cubes[512].spec.crop(level)) for level in (1, 2)]
    first = cubes[512].array("1/composite")[0][inside[0]] / 10_000
    np.testing.assert_allclose(first[2], oracle(composite[2]), atol=1.01e-4)
    coarse = cubes[512].array("2/composite")[0][inside[1]] / 10_000
    np.testing.assert_allclose(coarse[0], oracle(first[0]), atol=1.01e-4)


@pytest.mark.parametrize("size", [1024, 1536])
def test_tile_sizes_make_the_same_levels_to_the_bit(cubes, size):
    for level in range(4):
        ours, theirs = (
            crop(xr.open_zarr(cube.uri, group=str(level), chunks=None, mask_and_scale=False), cube.spec, level)
            for cube in (cubes[size], cubes[512])
        )
        for variable in ours.variables:
            if variable != "spatial_ref":
                np.testing.assert_array_equal(ours[variable], theirs[variable], err_msg=f"{level}/{variable}")


@pytest.mark.parametrize("size", [512, 1024, 1536, 2048, 2560])
def test_a_tile_owns_whole_chunks_of_what_it_writes(size, tmp_path):
    cube = create_cube(str(tmp_path / "c.zarr"), spec_of(size), "0", {})
    from spacex.cube.layout import holds, variables

    written = [(v, k) for v in variables(cube.spec) for k in range(cube.spec.levels)
               if holds(v, k) and written_by_tiles(cube.spec, v, k)]  # fmt: skip
    assert {v.name for v, _ in written} == {"attribution", "lift", "naturalness", "observations", "composite"}
    for variable, level in written:
        assert (size / 2**level) % cube.array(f"{level}/{variable.name}").chunks[-1] == 0


def test_a_resumed_run_ends_with_the_cube_of_one_run(cubes, tmp_path):
    """Named at first: what tiles write; after a part: all; while more is added: what tiles write; at the end: all."""
    cube = create_cube(str(tmp_path / "c.zarr"), spec_of(1024), "0", {})
    assert named(cube) == ["0", "1"]
    tasks = tasks_of(cube)
    fill(cube, tasks[:2])
    make_overviews(cube)
    assert named(cube) == ["0", "1", "2", "3"]
    assert np.isnan(cube.array("3/lift")[0, 140:]).all()
    hide_levels(cube)
    assert named(cube) == ["0", "1"]
    fill(cube, tasks[2:])
    make_overviews(cube)
    for path in ("2/lift", "3/lift", "3/composite", "2/naturalness", "tiles/status_at_end"):
        np.testing.assert_array_equal(cube.array(path)[...], cubes[1024].array(path)[...], err_msg=path)


def test_killed_in_between_they_are_made_by_the_next_run(tmp_path, monkeypatch):
    cube = create_cube(str(tmp_path / "c.zarr"), spec_of(1024), "0", {})
    fill(cube, tasks_of(cube)[:2])
    with monkeypatch.context() as patched:
        patched.setattr(Cube, "publish_levels", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_overviews(cube)
    assert named(cube) == ["0", "1"]
    make_overviews(Cube(cube.uri))
    assert named(cube) == ["0", "1", "2", "3"]


def test_made_again_they_change_nothing(cubes, tmp_path):
    files = lambda: {p: p.stat().st_mtime_ns for p in cubes_root.rglob("*") if p.is_file()}  # noqa: E731
    from pathlib import Path

    cubes_root = Path(cubes[1536].uri)
    before = files()
    make_overviews(cubes[1536])
    assert files() == before


def test_naming_levels_keeps_the_consolidated_metadata(cubes):
    root = zarr.open_group(cubes[512].uri, mode="r")
    assert root.metadata.consolidated_metadata is not None
    assert "3/composite" in root.metadata.consolidated_metadata.flattened_metadata
