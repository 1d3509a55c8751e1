"""Damage done to a finished cube is found and mended, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from fakes import with_pipeline

from spacex.cube.statuses import tasks_where
from spacex.cube.store import Cube
from spacex.cube.verify import find_damage, mark_damaged
from spacex.errors import CubeError
from spacex.execution.local import run_local
from spacex.execution.tasks import Status
from spacex.mapping.plan import make_plan
from spacex.mapping.run import execute


@pytest.fixture(scope="module")
def map_fakes(tiny_checkpoint):
    """Carries out a request with make-believe pixels and networks; the cube is real."""
    runner = with_pipeline(run_local)

    def run(request, output, **options):
        plan = make_plan(request, str(output), tiny_checkpoint, scenes=[[]])
        return execute(plan, runner, threads=1, **options)

    return run


@pytest.fixture(scope="module")
def small(make_request):
    return make_request((23.98, 67.98, 24.02, 68.0))


@pytest.fixture(scope="module")
def whole(small, map_fakes, tmp_path_factory):
    """A finished cube of a few tiles."""
    output = tmp_path_factory.mktemp("verify") / "whole.zarr"
    assert map_fakes(small, output).complete
    return output


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "cube.zarr")
    shutil.copytree(whole.with_suffix(".run"), tmp_path / "cube.run")
    return tmp_path / "cube.zarr"


def maps(output) -> dict[str, Path]:
    """Folder of every array over pixels, by path."""
    root = zarr.open_group(str(output), mode="r")
    arrays = [(path, array) for path, array in root.members(max_depth=None) if isinstance(array, zarr.Array)]
    return {p: Path(output) / p for p, a in arrays if (a.metadata.dimension_names or ())[-2:] == ("y", "x")}


def chunks(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "c").rglob("*") if p.is_file())


def test_a_whole_cube_is_whole(whole, small):
    assert find_damage(Cube(str(whole))) == {}


def test_a_flipped_byte_is_found_in_every_chunk(copy, small):
    """Every variable, every level, first, middle and last byte."""
    looked = 0
    for path, folder in maps(copy).items():
        for chunk in chunks(folder):
            good = chunk.read_bytes()
            for place in (0, len(good) // 2, len(good) - 1):
                chunk.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
                assert find_damage(Cube(str(copy))), (path, chunk, place)
                looked += 1
            chunk.write_bytes(good)
    assert looked >= 24
    assert find_damage(Cube(str(copy))) == {}


def test_a_missing_chunk_is_found(copy, small):
    for path, folder in maps(copy).items():
        for chunk in chunks(folder):
            good = chunk.read_bytes()
            chunk.unlink()
            assert find_damage(Cube(str(copy))), (path, chunk)
            chunk.write_bytes(good)


def test_a_cut_and_an_empty_chunk_are_found(copy, small):
    for folder in maps(copy).values():
        chunk = chunks(folder)[0]
        good = chunk.read_bytes()
        for bad in (good[: len(good) // 2], b""):
            chunk.write_bytes(bad)
            assert len(find_damage(Cube(str(copy)))) == 1
        chunk.write_bytes(good)


def test_the_same_run_mends_what_it_finds_and_nothing_else(copy, whole, small, map_fakes):
    chunk = chunks(next(iter(maps(copy).values())))[0]
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    planned = []
    outcome = map_fakes(small, copy, on_start=lambda log: planned.append(len(log.queue.todo)), verify=True)
    assert outcome.complete
    assert planned == [1]
    for path in maps(whole):
        ours, theirs = (zarr.open_group(str(o), mode="r")[path][...] for o in (copy, whole))
        np.testing.assert_array_equal(ours, theirs, err_msg=path)
    assert find_damage(Cube(str(copy))) == {}


def test_without_it_nothing_is_read(copy, small, map_fakes):
    chunk = chunks(next(iter(maps(copy).values())))[0]
    chunk.write_bytes(b"")
    assert map_fakes(small, copy).chips == 0


def test_a_lost_provenance_and_a_wrong_state_are_found(copy, small):
    cube = Cube(str(copy))
    task = tasks_where(cube.statuses() == Status.DONE, cube.spec.tiling)[0]
    cube.finish(task, Status.DONE, {})
    assert find_damage(cube) == {task: "its provenance is gone"}
    cube.finish(task, Status.NO_DATA, {"scenes": []})
    assert "its state says it has none" in find_damage(cube)[task]
    cube.finish(task, Status.OUTSIDE, {})
    assert mark_damaged(cube)[task] == "its state is 3"
    assert cube.statuses()[cube.position(task)] == Status.PENDING


def test_damage_that_no_tile_can_mend_is_a_refusal(copy, small):
    (chunk,) = [p for p in (copy / "0" / "x").rglob("*") if p.is_file() and "c" in p.parts]
    chunk.write_bytes(b"no")
    with pytest.raises(CubeError, match=r"x of .* is damaged"):
        find_damage(Cube(str(copy)))


@pytest.mark.parametrize("bad", [b"", b"\0\0\0"])
def test_a_state_that_cannot_be_read_is_pending(copy, whole, small, map_fakes, caplog, bad):
    cube = Cube(str(copy))
    states = cube.statuses()
    task = tasks_where(states == Status.DONE, cube.spec.tiling)[0]
    folder = next(p for p in copy.rglob("status") if p.is_dir())
    folder.joinpath("c", *map(str, cube.position(task))).write_bytes(bad)
    found = Cube(str(copy)).statuses()
    assert found[cube.position(task)] == Status.PENDING
    assert (found != states).sum() == 1
    assert f"the state of tile {task} cannot be read" in caplog.text
    assert map_fakes(small, copy).chips > 0
    np.testing.assert_array_equal(Cube(str(copy)).statuses(), states)
