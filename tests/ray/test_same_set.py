"""A set of chips made on Ray equals the one made in this process, file for file."""

from functools import partial

import pytest

from spacex.api.dataset import plan_dataset

pytestmark = pytest.mark.ray


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_do_not_change_the_set(cluster, statements, archive_list, tmp_path):
    from spacex.execution.ray_actors import run_ray

    found = {}
    for name, runner in (("local", None), ("ray", partial(run_ray, workers=2, cpus=0.5))):
        work = plan_dataset(
            str(statements / "natural.gpkg"), str(statements / "human.geojson"), output=str(tmp_path / name),
            datetime="2020-07-01/2020-08-30", catalogue="demo", items=archive_list, bands=("B02", "B03", "B04"),
            share=0.8,
        )  # fmt: skip
        made = work.run(runner)
        assert made.complete
        found[name] = contents(tmp_path / name)
    assert len(found["local"]) > 20
    assert found["ray"] == found["local"]
