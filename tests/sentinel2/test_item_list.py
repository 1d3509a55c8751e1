"""Lists of items in files: what is read from them is what a search would have given."""

import json

import pytest
from shapely.geometry import box, mapping, shape

from spacex.errors import CatalogueError
from spacex.sentinel2 import CATALOGUES, get_catalogue, read_composite, search
from spacex.sentinel2.item_list import catalogue_of, other_files, read_items, write_items
from spacex.sentinel2.reflectance import offset_of
from spacex.sentinel2.scenes import scene_of

AREA, DAYS, BANDS = box(23.9, 67.9, 24.1, 68.1), "2020-07-01/2020-07-31", ("B02", "B04")
DIGEST = "1220ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def items(write_product):
    """Items of three days, the last without files."""
    days = ("2020-07-03", "2020-07-20", "2020-08-02")
    products = [write_product(f"S2B_34WED_{day.replace('-', '')}_0_L2A", day=f"{day}T10:00:00Z") for day in days]
    return [product.scene.item for product in products]


@pytest.mark.parametrize(
    ("href", "stated", "same"),
    [
        ("a b.tif", DIGEST, True),
        ("file://{}/a b.tif", DIGEST.upper(), True),
        ("a b.tif", "1220" + 64 * "0", False),
        ("a b.tif", "d50110" + 32 * "0", True),
        ("a b.tif", None, True),
        ("gone.tif", DIGEST, False),
        (".", DIGEST, False),
        (300 * "x", DIGEST, False),
        ("https://example.org/a.tif", DIGEST, True),
        ("s3://bucket/a.tif", DIGEST, True),
    ],
)
def test_files_of_this_machine_are_compared_with_their_checksums(tmp_path, href, stated, same):
    """SHA-256, RFC 6234: the digest of "abc". Other kinds of checksum, and files elsewhere, are not compared."""
    (tmp_path / "a b.tif").write_bytes(b"abc")
    href = href.format(tmp_path) if "://" in href else str(tmp_path / href)
    assert (not list(other_files([{"assets": {"red": {"href": href, "file:checksum": stated}}}]))) == same


def relative(items, folder):
    """The items with links that start at a folder."""
    text = json.dumps(items).replace(f"{folder}/", "")
    assert str(folder) not in text
    return json.loads(text)


@pytest.mark.parametrize("name", ["items.json", "items.parquet"])
def test_a_list_gives_the_scenes_of_its_days_and_their_pixels(items, tmp_path, geobox, name):
    """Oracle: the composite of the same scenes with links in full."""
    write_items(str(tmp_path / name), relative(items, tmp_path), "earth-search")
    listed = get_catalogue("earth-search", items=str(tmp_path / name))
    scenes = search(listed, AREA, DAYS, bands=BANDS)
    assert [scene.datetime[:10] for scene in scenes] == ["2020-07-20", "2020-07-03"]
    keys = [*listed.keys(BANDS), listed.scl]
    expected = [scene_of(item, offset_of(item, listed.rule, keys), keys) for item in items[:2]]
    got, wanted = (read_composite(of, geobox, BANDS, listed).reflectance for of in (scenes, expected))
    assert got.tobytes() == wanted.tobytes()
    assert catalogue_of(str(tmp_path / name)) == "earth-search"


def test_a_list_is_read_from_any_store_but_names_no_file_of_this_machine(items, tmp_path):
    write_items("memory://list/items.json", items, "earth-search")
    with pytest.raises(CatalogueError, match="may not name files of this machine"):
        search(get_catalogue("earth-search", items="memory://list/items.json"), AREA, DAYS, bands=BANDS)
    write_items("memory://list/items.json", relative(items, tmp_path), "earth-search")
    links = {asset["href"] for item in read_items("memory://list/items.json") for asset in item["assets"].values()}
    assert all(link.startswith("memory://list/") for link in links)


def test_days_and_land_that_a_list_lacks(items, tmp_path):
    write_items(file := str(tmp_path / "items.json"), items, "earth-search")
    listed = get_catalogue("earth-search", items=file)
    with pytest.raises(CatalogueError, match="scenes here on 2020-08-02: choose other days"):
        search(listed, AREA, "2021-07-01/2021-07-31", bands=BANDS)
    with pytest.raises(CatalogueError, match=f"{file} has no scenes for this area.*Longitudes come before latitudes"):
        search(listed, box(10, 50, 11, 51), DAYS, bands=BANDS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"PAR1 and no more", "cannot be read"), (b"{", "cannot be read: got JSONDecodeError"),
     (b'{"type": "Catalog"}', "is no list of items: got Catalog"), (b"[]", "is no list of items: got list"),
     (b'{"type": "FeatureCollection", "features": []}', "is no list of items: got an empty one"),
     (b'{"type": "FeatureCollection", "features": [7, {}, {"id": "x", "assets": 1}]}', "no item of .* can be read")],
)  # fmt: skip
def test_what_is_no_list(tmp_path, content, reason):
    (tmp_path / "items.json").write_bytes(content)
    with pytest.raises(CatalogueError, match=reason):
        search(get_catalogue("earth-search", items=str(tmp_path / "items.json")), AREA, DAYS, bands=BANDS)
    with pytest.raises(CatalogueError, match="cannot be read: got FileNotFoundError"):
        read_items(str(tmp_path / "none.json"))


def test_the_list_of_the_data_space_with_its_own_links_needs_keys(tmp_path, monkeypatch):
    for name in ("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    cdse = CATALOGUES["cdse"]
    links = {"s3": "s3://eodata/a.jp2", "https": "https://cdn.example.org/a.jp2"}
    for kind, link in links.items():
        item = {
            "id": "S2B_MSIL2A_20200703T100031_N0500_R122_T34WED_20230612T214223", "geometry": mapping(AREA),
            "properties": {"datetime": "2020-07-03T10:00:31Z"},
            "assets": {key: {"href": link} for key in [*cdse.keys(BANDS), cdse.scl]},
        }  # fmt: skip
        write_items(str(tmp_path / kind), [item], "cdse")
    with pytest.raises(CatalogueError, match="CDSE_S3_ACCESS_KEY"):
        search(get_catalogue("cdse", items=str(tmp_path / "s3")), AREA, DAYS, bands=BANDS)
    assert len(search(get_catalogue("cdse", items=str(tmp_path / "https")), AREA, DAYS, bands=BANDS)) == 1


RECORDED = {
    "earth-search": "e84_v1_sentinel-2-l2a_S2B_20EPT_20250731_0_L2A.json",
    "earth-search-c1": "e84_v1_sentinel-2-c1-l2a_S2A_T20HNJ_20240311T140636_L2A.json",
    "planetary-computer": "mpc_v1_sentinel-2-l2a_S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651.json",
    "cdse": "cdse_v1_sentinel-2-l2a_S2B_MSIL2A_20200322T074609_N0500_R135_T36NYH_20230612T214223.json",
}


@pytest.mark.parametrize("ending", ["json", "parquet"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_scene_comes_back_from_a_list_as_it_was(tmp_path, real_data, monkeypatch, name, ending):
    """What is kept of a real item is enough to decide its offset, tile, acquisition and processing again."""
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "x")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "x")
    item, profile = json.loads(real_data(f"stac_items/{RECORDED[name]}").read_text()), CATALOGUES[name]
    keys = [*profile.assets.values(), profile.scl]
    scene = scene_of(item, offset_of(item, profile.rule, profile.assets.values()), keys)
    write_items(file := str(tmp_path / f"items.{ending}"), [scene.item], name)
    (again,) = search(get_catalogue(name, items=file), shape(item["geometry"]), "2015-01-01/2030-01-01")
    for field in (
        "id",
        "datetime",
        "cloud_cover",
        "sun_elevation",
        "offset",
        "tile",
        "platform",
        "processed",
        "datastrip",
    ):
        assert getattr(again, field) == getattr(scene, field), field
    assert {key: asset["href"] for key, asset in again.item["assets"].items()} == {
        key: item["assets"][key]["href"] for key in keys
    }


def test_a_list_of_another_tool_is_read(real_data):
    """A hundred items of Planetary Computer as GeoParquet, written by stac-geoparquet."""
    items = read_items(str(real_data("stac_items/mpc_100-sentinel-2-items.parquet")))
    assert len(items) == 100


def test_items_with_days_that_are_none_are_left_out_by_name(items, tmp_path):
    items[1]["properties"]["datetime"] = "20 July 2020"
    write_items(file := str(tmp_path / "items.json"), items, "earth-search")
    left_out = {}
    scenes = search(get_catalogue("earth-search", items=file), AREA, DAYS, bands=BANDS, left_out=left_out)
    assert [scene.datetime[:10] for scene in scenes] == ["2020-07-03"]
    assert "datetime" in left_out[items[1]["id"]]


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", ".classified", "a\\b"])
def test_items_whose_id_names_a_path_are_left_out(items, tmp_path, name):
    """A cutout makes a folder of every id."""
    items[1]["id"] = name
    write_items(file := str(tmp_path / "items.json"), items, "earth-search")
    left_out = {}
    assert len(search(get_catalogue("earth-search", items=file), AREA, DAYS, bands=BANDS, left_out=left_out)) == 1
    assert "it names a path" in left_out[name]
