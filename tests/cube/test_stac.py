"""The description validates, points at the cube, at its scenes and at what made it, and opens it."""

import json
from pathlib import Path

import pystac
import pytest
import xarray as xr
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import RenderExtension
from pystac.validation import JsonSchemaSTACValidator
from shapely.geometry import box, mapping, shape

from spacex.cube.reader import open_cube
from spacex.cube.stac import MEDIA_TYPE, describe_cube
from spacex.cube.store import Cube, create_cube
from spacex.execution.tasks import TileTask
from spacex.sentinel2 import Offset, Scene
from spacex.sentinel2.scene_list import Intervals, save_scenes
from spacex.storage import run_folder

from .conftest import SPEC, fill

AREA = box(4.2, 51.0, 4.3, 51.05)
ATTRIBUTES = {
    "title": "A map",
    "source": "Sentinel-2 Level-2A",
    "license": "CC-BY-4.0",
    "spacex_code": "1.2.3+abcdef01",
    "request": {"area": mapping(AREA), "catalogue": "earth-search", "stac_url": None, "collection": None},
    "checkpoint": {"data": {"name": "anthroprotect"}, "preset": "delta"},
}


def scene(name: str) -> Scene:
    return Scene(name, "2020-07-06T10:00:00+00:00", 1.0, 40.0, Offset(0, "none"), "34WFA", "sentinel-2a", "05.00", "x",
                 {"id": name, "geometry": mapping(AREA), "assets": {}})  # fmt: skip


def make(folder: Path, steps: int, intervals: Intervals = SPEC.intervals, **request: object) -> Cube:
    spec = SPEC.model_copy(update={"intervals": intervals[:steps]})
    attributes = {**ATTRIBUTES, "request": {**ATTRIBUTES["request"], **request}}
    cube = create_cube(str(folder / "map.zarr"), spec, "0123456789abcdef", attributes)
    fill(cube, TileTask(0, -860, 898))
    Path(run_folder(cube.uri)).mkdir()
    scenes = [[scene("S2A_one"), scene("S2B_two")], [scene("S2A_three")]]
    save_scenes(f"{run_folder(cube.uri)}/scenes.gz", scenes[:steps])
    return cube


def check(stac: pystac.Item | pystac.Collection) -> None:
    """The core schemas ship with pystac; those of the extensions do not, their readers do."""
    JsonSchemaSTACValidator().validate_core(stac.to_dict(), stac.STAC_OBJECT_TYPE, pystac.get_stac_version())


def test_an_item_beside_a_cube_of_one_step(tmp_path):
    cube = make(tmp_path, 1)
    file = describe_cube(cube.uri, str(tmp_path / "map.png"))
    assert file == str(tmp_path / "map.stac.json")
    item = pystac.Item.from_file(file)
    check(item)
    assert shape(item.geometry).equals(AREA)
    assert str(item.common_metadata.start_datetime) == "2020-07-01 00:00:00+00:00"
    assert str(item.common_metadata.end_datetime) == "2020-08-30 23:59:59+00:00"
    assert item.properties["license"] == "CC-BY-4.0"
    assert item.properties["processing:software"] == {"SpacEX": "1.2.3"}
    assert "anthroprotect, preset delta" in item.properties["processing:lineage"]
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:3035", [700, 1100])
    assert projection.transform == [10, 0, 4_600_000, 0, -10, 4_400_000]
    assert projection.bbox == [4_600_000, 4_393_000, 4_611_000, 4_400_000]
    assert set(DatacubeExtension.ext(item).variables) == {"attribution", "naturalness", "observations"}
    assert RenderExtension.ext(item).renders["naturalness"].rescale == [[0, 1]]
    here = "https://earth-search.aws.element84.com/v1/collections/sentinel-2-l2a/items"
    assert [link.href for link in item.get_links("derived_from")] == [f"{here}/S2A_one", f"{here}/S2B_two"]


def test_the_asset_opens_the_cube_wherever_both_were_moved(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    cube = make(made, 1)
    describe_cube(cube.uri, str(made / "map.png"))
    made.rename(tmp_path / "moved")
    item = pystac.Item.from_file(str(tmp_path / "moved" / "map.stac.json"))
    asset = item.assets["cube"]
    assert asset.media_type == MEDIA_TYPE
    assert (asset.href, item.assets["thumbnail"].href) == ("./map.zarr", "./map.png")
    assert xr.open_zarr(asset.get_absolute_href(), group="0", consolidated=asset.extra_fields["zarr:consolidated"])
    data = open_cube(asset.get_absolute_href())
    declared = item.properties["cube:dimensions"]
    assert float(data.x[0]) - declared["x"]["step"] / 2 == declared["x"]["extent"][0]
    assert set(item.properties["cube:variables"]) <= set(data)


@pytest.mark.parametrize("order", [1, -1])
def test_the_period_holds_all_steps_in_whatever_order(tmp_path, order):
    cube = make(tmp_path, 2, (("2020-05-01", "2020-12-31"), ("2020-07-01", "2020-07-31"))[::order])
    collection = pystac.Collection.from_file(describe_cube(cube.uri))
    period = ["2020-05-01T00:00:00Z", "2020-12-31T23:59:59Z"]
    assert collection.extent.temporal.to_dict() == {"interval": [period]}
    assert collection.extra_fields["cube:dimensions"]["time"]["extent"] == period


def test_a_collection_and_its_items_for_a_time_series(tmp_path):
    cube = make(tmp_path, 2)
    collection = pystac.Collection.from_file(describe_cube(cube.uri))
    check(collection)
    assert collection.extent.temporal.to_dict() == {"interval": [["2020-07-01T00:00:00Z", "2021-08-30T23:59:59Z"]]}
    assert collection.assets["cube"].href == "./map.zarr"
    items = sorted(collection.get_items(), key=lambda item: item.id)
    assert [item.id[-10:] for item in items] == ["2020-07-01", "2021-07-01"]
    for item in items:
        check(item)
        assert item.assets["cube"].href == "../map.zarr"
        assert Path(item.assets["cube"].get_absolute_href()).samefile(cube.uri)
        assert item.get_collection().id == collection.id
    assert [link.title for link in items[1].get_links("derived_from")] == ["S2A_three"]


@pytest.mark.parametrize(
    ("request_", "address"),
    [
        ({"catalogue": "demo", "items": "/cache/items.json"}, "urn:spacex:demo:S2A_one"),
        ({"stac_url": "https://here.example/v1/", "collection": "mine"},
         "https://here.example/v1/collections/mine/items/S2A_one"),
    ],
)  # fmt: skip
def test_scenes_are_linked_where_they_can_be_found(tmp_path, request_, address):
    cube = make(tmp_path, 1, **request_)
    document = json.loads(Path(describe_cube(cube.uri)).read_text())
    assert next(link["href"] for link in document["links"] if link["rel"] == "derived_from") == address


def test_a_large_outline_is_simplified(tmp_path):
    circle = box(4.2, 51.0, 4.3, 51.05).buffer(0.1, quad_segs=5000)
    cube = make(tmp_path, 1, area=mapping(circle))
    found = shape(json.loads(Path(describe_cube(cube.uri)).read_text())["geometry"])
    assert len(found.exterior.coords) < 200
    assert found.hausdorff_distance(circle) <= 0.001
