"""Items of four services, one field at a time removed, nulled, retyped or made huge: read, refused or left out."""

from __future__ import annotations

import copy
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from odc.geo.geobox import GeoBox
from scene_archives import SceneArchive, load_archive_server
from shapely.geometry import box, shape
from stand_in_items import SERVICES, Product, item_of

from spacex.errors import CatalogueError, TileError
from spacex.sentinel2 import CATALOGUES, Scene, SceneIndex, get_catalogue, links, read_composite, scene_search, search
from spacex.sentinel2.items import item_name
from spacex.sentinel2.scenes import _ASSET_FIELDS, _PROPERTIES

MUTATIONS = 125
"""Of each item."""
RECORDED = {
    "cdse_v1_sentinel-2-l2a_S2C_MSIL2A_20260527T014651_N0512_R017_T55WFR_20260527T042005": "cdse",
    "e84_v1_sentinel-2-c1-l2a_S2B_T20EPT_20250731T131905_L2A": "earth-search-c1",
    "e84_v1_sentinel-2-l2a_S2B_20EPT_20250731_0_L2A": "earth-search",
    "mpc_v1_sentinel-2-l2a_S2B_MSIL2A_20240825T173909_R098_T13TDE_20240825T215747": "planetary-computer",
}
HUGE: tuple[Any, ...] = ("x" * 100_000, 10**400, -1e308, [0] * 100_000, {"a": {"b": [1] * 1000}}, "9" * 50)
WRONG: tuple[Any, ...] = (None, True, -1, 0, 7, 3.5, float("nan"), float("inf"), "", "text", "\n\x1b[2J", [], [None],
                          {}, {"a": 1}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")  # fmt: skip
GONE = object()


def places(item: dict[str, Any], keys: set[str]) -> Iterator[tuple[Any, ...]]:
    """Every field that is read, and those around them; and some deep in the geometry."""
    for name, value in item.items():
        yield (name,)
        if not isinstance(value, dict):
            continue
        for inner in value:
            if (name == "assets" and inner not in keys) or (name == "properties" and inner not in _PROPERTIES):
                continue
            yield name, inner
            if name == "assets":
                yield from ((name, inner, field) for field in value[inner] if field in _ASSET_FIELDS)
    yield from (("geometry", "coordinates", 0), ("geometry", "coordinates", 0, 0), ("geometry", "coordinates", 0, 0, 0))


def mutate(item: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(item)
    parent: Any = changed
    for step in place[:-1]:
        parent = parent[step]
    if value is GONE:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return changed


def mutations(item: dict[str, Any], keys: set[str], count: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Each place once removed and once nulled, then places and values by lot."""
    everywhere = list(places(item, keys))
    chosen = [(place, value) for place in everywhere for value in (GONE, None)]
    lot = random.Random(seed)
    lot.shuffle(chosen)
    chosen = chosen[: count // 2]
    chosen += [(lot.choice(everywhere), lot.choice(WRONG + HUGE)) for _ in range(count - len(chosen))]
    return [(f"{place} = {str(value)[:30]}", mutate(item, place, value)) for place, value in chosen]


class Page:
    """Stands for pystac's client: one page with these items, as a server would have sent them."""

    def __init__(self, items: list[Any]) -> None:
        self.features = json.loads(json.dumps(items))

    def get_collection(self, name: str) -> object:
        return name

    def conforms_to(self, name: str) -> bool:
        return False

    def get_links(self, rel: str) -> list[Any]:
        return []

    def search(self, **_: Any) -> Page:
        return self

    def pages_as_dicts(self) -> Iterator[dict[str, Any]]:
        yield {"features": self.features}


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are looked up nowhere."""
    public, here = ip_address("8.8.8.8"), ip_address("127.0.0.1")
    monkeypatch.setattr(links, "addresses", lambda host: (here if host == "127.0.0.1" else public,))


def use(scene: Scene) -> None:
    """What a plan and a worker do with a scene before they open its files."""
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene
    SceneIndex([scene], "EPSG:3035").touching(GeoBox.from_bbox((4e6, 3e6, 4.01e6, 3.01e6), "EPSG:3035", resolution=10))
    assert scene.overpass


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_an_item_says_it_is_read_or_named(service: str, monkeypatch: Any, caplog: Any) -> None:
    check_mutations(service, item_of(service, Product()), MUTATIONS, monkeypatch, caplog)


@pytest.mark.real
@pytest.mark.parametrize("name", RECORDED)
def test_whatever_a_recorded_item_says_it_is_read_or_named(
    name: str, real_data: Callable[[str], Path], monkeypatch: Any, caplog: Any
) -> None:
    document = json.loads(real_data(f"stac_items/{name}.json").read_text())
    item = document.get("features", [document])[0]
    check_mutations(RECORDED[name], item, MUTATIONS, monkeypatch, caplog)


def check_mutations(
    service: str,
    item: dict[str, Any],
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each change of the item ends in a scene, in a line that names the item, or in a refusal that does."""
    caplog.set_level(logging.WARNING)
    style = CATALOGUES[service]
    keys = {*style.assets.values(), style.scl}
    sound = {**item, "id": "S2A_SOUND"}
    area = box(*shape(item["geometry"]).bounds)
    fates: Counter[str] = Counter()
    for what, changed in mutations(item, keys, count, seed=len(service)):
        caplog.clear()
        page = Page([changed, sound])
        monkeypatch.setattr(scene_search.Client, "open", lambda *_, page=page, **__: page)
        called = item_name(page.features[0])
        try:
            found = search(style, area, "2015-01-01/2099-01-01", bands=["B02", "B03", "B04"])
        except CatalogueError as error:
            text = str(error)
            assert called in text, what
            assert "\n" not in text, what
            assert len(text) < 2000, what
            fates["refused"] += 1
            continue
        named = [record.getMessage() for record in caplog.records if record.getMessage().startswith("left out")]
        for scene in found:
            use(scene)
        # one acquisition twice is one scene: then the newer, or the one whose id comes last
        if named:
            assert called in named[0], what
            assert all(line.isprintable() and len(line) < 2000 for line in named), what
            fates["left out"] += 1
        else:
            assert found, what
            fates["read"] += 1
    assert sum(fates.values()) == count
    assert min(fates["left out"], fates["read"]) > 10, fates


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    """What is closed after a test."""
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("style", ["earth-search", "cdse"])
def test_an_item_that_passes_is_mapped_or_its_tile_says_why(
    style: str, scene_archive: SceneArchive, monkeypatch: pytest.MonkeyPatch, resources: ExitStack
) -> None:
    """What the door lets through ends in a composite or in one line that names scene and asset."""
    server = load_archive_server()
    served = resources.enter_context(server.serve(server.Archive(scene_archive.folder)))
    item = scene_archive.items(style, f"{served.url}/files")[0]
    catalogue = get_catalogue(style, url=served.url)
    keys = {catalogue.assets["B02"], catalogue.scl}
    grid = scene_archive.grid[100:140, 100:140]
    area, fates = shape(item["geometry"]), Counter[str]()
    for what, changed in mutations(item, keys, 60, seed=1):
        page = Page([changed])
        monkeypatch.setattr(scene_search.Client, "open", lambda *_, page=page, **__: page)
        try:
            scenes = search(catalogue, area, "2015-01-01/2099-01-01", bands=["B02"])
            assert read_composite(scenes, grid, ["B02"], catalogue, threads=1).reflectance.shape == (1, 40, 40), what
            fates["mapped"] += 1
        except (CatalogueError, TileError) as error:
            fates[type(error).__name__] += 1
            said = str(error)
        else:
            said = item_name(page.features[0])
        assert "\n" not in said, what
        assert item_name(page.features[0]) in said, what
    assert fates["mapped"] > 5, fates
    assert fates["CatalogueError"] > 5, fates
