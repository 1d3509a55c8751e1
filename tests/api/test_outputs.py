"""What is written lies neither over what is read, nor over another output, nor in a cube."""

import os

import pytest

from spacex.api.change_settings import ChangeSettings
from spacex.api.declaration import complete
from spacex.api.map_settings import ListSettings, MapSettings
from spacex.api.site_settings import SiteSettings
from spacex.commands.map_region import MapOptions
from spacex.errors import RequestError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a cube by name, a file of polygons, and two other names of it."""
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "z.gpkg").touch()
    (tmp_path / "link.gpkg").symlink_to("z.gpkg")
    os.link(tmp_path / "z.gpkg", tmp_path / "hard.gpkg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ONE_FILE = [
    (SiteSettings, {"cube": "a.zarr", "zones": "z.gpkg", "output": "z.gpkg"}),
    (SiteSettings, {"cube": "a.zarr", "zones": "z.gpkg", "output": "link.gpkg"}),
    (SiteSettings, {"cube": "a.zarr", "zones": "z.gpkg", "output": "hard.gpkg"}),
    (SiteSettings, {"cube": "a.zarr", "zones": "z.gpkg", "output": "{folder}/z.gpkg"}),
    (ChangeSettings, {"cube": "a.zarr", "zones": "z.gpkg", "table": "z.gpkg"}),
    (ChangeSettings, {"cube": "a.zarr", "zones": "z.gpkg", "table": "o.gpkg", "output": "./o.gpkg"}),
    (MapOptions, {"area": "z.gpkg", "output": "b.zarr", "tiles": "z.gpkg"}),
    (ListSettings, {"items": "z.gpkg", "output": "z.gpkg"}),
]
IN_A_CUBE = [
    (ChangeSettings, {"cube": "a.zarr", "output": "a.zarr/x.gpkg"}),
    (SiteSettings, {"cube": "a.zarr", "zones": "z.gpkg", "pages": "a.zarr"}),
    (MapSettings, {"output": "a.zarr/b.zarr"}),
    (ListSettings, {"cutout": "a.zarr/cut"}),
]


@pytest.mark.parametrize(("model", "given"), ONE_FILE)
def test_a_file_is_not_written_over_another_of_the_request(folder, model, given):
    given = {name: text.format(folder=folder) for name, text in given.items()}
    with pytest.raises(RequestError, match="are one file"):
        complete(model, given)


@pytest.mark.parametrize(("model", "given"), IN_A_CUBE)
def test_nothing_is_written_into_a_cube(folder, model, given):
    with pytest.raises(RequestError, match=r"lies in a cube.*a\.zarr"):
        complete(model, given)


def test_other_names_are_fine(folder):
    given = {"cube": "a.zarr", "zones": "z.gpkg", "table": "t.gpkg", "output": "o.gpkg", "map": "m.tif"}
    complete(ChangeSettings, given)
    complete(MapSettings, {"output": "a.zarr", "quicklook": "a.png"})
