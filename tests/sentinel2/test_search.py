"""Searching, against a STAC server of a few lines that misbehaves on request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import box, shape
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2 import CATALOGUES, CatalogueProfile, get_catalogue, search

AREA = box(23.9, 67.9, 24.1, 68.1)
DAYS = "2020-07-01/2020-07-31"
QUICK = Retry(total=4, backoff_factor=0.01, status_forcelist=(429, 503), allowed_methods=None)
QUERY = "https://api.stacspec.org/v1.0.0/item-search#query"


@dataclass
class Server:
    """A STAC API over a list of items."""

    items: list[dict]
    page: int = 2
    conforms: tuple[str, ...] = ()
    faults: list[int] = field(default_factory=list)
    """Status codes of the next search requests."""
    bodies: list[dict] = field(default_factory=list)
    """What was asked."""
    url: str = ""

    def answer(self, path: str, body: dict | None) -> tuple[int, dict]:
        core = "https://api.stacspec.org/v1.0.0/core"
        if path == "/":
            links = [{"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json", "method": "POST"},
                     {"rel": "data", "href": f"{self.url}/collections"},
                     {"rel": "self", "href": self.url}]  # fmt: skip
            extra = ["https://api.stacspec.org/v1.0.0/item-search", "https://api.stacspec.org/v1.0.0/collections"]
            return 200, {"type": "Catalog", "id": "fake", "description": "x", "stac_version": "1.0.0",
                         "conformsTo": [core, *extra, *self.conforms], "links": links}  # fmt: skip
        if path == "/collections":
            return 200, {"collections": [self.collection()], "links": []}
        if path == "/collections/sentinel-2-l2a":
            return 200, self.collection()
        if path != "/search":
            return 404, {"code": "NotFound"}
        self.bodies.append(body or {})
        if self.faults:
            return self.faults.pop(0), {}
        return 200, self.search((body or {}).get("token", 0))

    def search(self, start: int) -> dict:
        stop = start + self.page
        more = {"rel": "next", "href": f"{self.url}/search", "method": "POST", "merge": True, "body": {"token": stop}}
        links = [more] if stop < len(self.items) else []
        return {"type": "FeatureCollection", "features": self.items[start:stop], "links": links}

    def collection(self) -> dict:
        extent = {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-01-01T00:00:00Z", None]]},
        }
        return {"type": "Collection", "id": "sentinel-2-l2a", "description": "x", "license": "x", "extent": extent,
                "stac_version": "1.0.0", "links": []}  # fmt: skip


@pytest.fixture
def server(write_product: Callable) -> Iterator[Server]:
    """Five scenes of five days, cloud cover 0, 20, 40, 60 and unknown, two to a page."""
    items = [
        write_product(
            f"S2B_34WED_2020070{day + 1}_0_L2A", day=f"2020-07-0{day + 1}T10:00:00Z",
            properties={"eo:cloud_cover": cloud},
        ).scene.item
        for day, cloud in enumerate((0, 20, 40, 60, None))
    ]  # fmt: skip
    fake = Server(items)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, answer = fake.answer(self.path, json.loads(self.rfile.read(length)) if length else None)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield fake
    http.shutdown()
    http.server_close()


def find(server: Server, cloud: float = 100.0, **options) -> list[str]:
    catalogue = get_catalogue("earth-search", url=server.url)
    scenes = search(catalogue, AREA, DAYS, cloud, bands=["B02", "B04"], retries=QUICK, **options)
    return sorted(scene.id[10:18] for scene in scenes)


ALL = ["20200701", "20200702", "20200703", "20200704", "20200705"]


def test_all_pages_are_read(server: Server) -> None:
    assert find(server) == ALL
    assert len(server.bodies) == 3


def test_items_sent_twice_count_once(server: Server) -> None:
    server.items = [*server.items, *server.items]
    assert find(server) == ALL


def test_the_cloud_limit_is_checked_here_even_if_the_server_ignores_it(server: Server) -> None:
    assert find(server, 40.0) == ALL[:3]
    assert "query" not in server.bodies[0]
    server.conforms = (QUERY,)
    assert find(server, 40.0) == ALL[:3]
    assert server.bodies[-1]["query"] == {"eo:cloud_cover": {"lte": 40.0}}


def test_a_filter_is_sent_to_servers_without_query(server: Server) -> None:
    server.conforms = ("http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
                       "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
                       "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2")  # fmt: skip
    assert find(server, 40.0) == ALL[:3]
    assert server.bodies[-1]["filter"]["args"] == [{"property": "eo:cloud_cover"}, 40.0]
    assert server.bodies[-1]["filter-lang"] == "cql2-json"


def test_the_demo_is_never_asked_for_clouds(server: Server) -> None:
    server.conforms = (QUERY,)
    scenes = search(get_catalogue("demo", url=server.url), AREA, DAYS, 40.0, bands=["B02"], retries=QUICK)
    assert len(scenes) == 3
    assert "query" not in server.bodies[0]


@pytest.mark.parametrize("faults", [[503, 503], [429], [429, 503, 429]])
def test_a_busy_server_is_asked_again(server: Server, faults: list[int]) -> None:
    server.faults = faults
    assert find(server) == ALL


def test_the_area_asked_for_holds_halo_and_slack(server: Server) -> None:
    find(server, halo=5000.0)
    there = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
    metres = shapely.transform(shapely.segmentize(AREA, 0.01), there.transform, interleaved=False)
    seven_km = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
    needed = shapely.transform(metres.buffer(7000), seven_km.transform, interleaved=False)
    asked = shape(server.bodies[0]["intersects"])
    assert asked.contains(needed)
    assert asked.area < 3 * needed.area  # degrees are measured by the shorter one: more than needed, not wildly


def refused(server_url: str, **options) -> str:
    catalogue = options.pop("catalogue", None) or get_catalogue("earth-search", url=server_url)
    asked = {"bands": ["B02"], "retries": QUICK, **options}
    interval = asked.pop("interval", DAYS)
    with pytest.raises(CatalogueError) as caught:
        search(catalogue, AREA, interval, asked.pop("cloud", 100.0), **asked)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_each_wrong_request_is_one_clear_line(server: Server) -> None:
    assert "B10" in refused(server.url, bands=["B10"])
    assert "swir22" in refused(server.url, bands=["B02", "B12"])
    assert "at most -1 % cloud" in refused(server.url, cloud=-1)
    elsewhere = get_catalogue("earth-search", url=server.url, collection="sentinel-3")
    assert "expected sentinel-2-l2a" in refused(server.url, catalogue=elsewhere)
    assert "interval" in refused(server.url, interval="the summer of 2020")
    server.faults = [503] * 20
    assert "does not answer" in refused(server.url)
    server.faults, server.items = [], []
    assert "no scenes" in refused(server.url)


def test_an_unreachable_endpoint_is_one_clear_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        text = refused(url)
    assert url in text
    assert "Connection refused" in text
    assert "Pool(" not in text


@pytest.mark.parametrize(
    ("answer", "words"),
    [((200, {}), "expected type=Catalog"), ((200, []), "list"), ((401, {"code": "no"}), "HTTP 401")],
)
def test_something_else_answers_there(server: Server, monkeypatch: pytest.MonkeyPatch, answer, words: str) -> None:
    monkeypatch.setattr(server, "answer", lambda path, body: answer)
    text = refused(server.url)
    assert "does not answer as a STAC API" in text
    assert words in text


def test_an_item_without_a_band_is_left_out_aloud(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    del server.items[2]["assets"]["red"]
    assert find(server) == [day for day in ALL if day != "20200703"]
    assert "left out S2B_34WED_20200703_0_L2A" in caplog.text


def test_only_the_needed_assets_are_kept(server: Server) -> None:
    scenes = search(get_catalogue("earth-search", url=server.url), AREA, DAYS, bands=["B04"], retries=QUICK)
    assert set(scenes[0].item["assets"]) == {"red", "scl"}


def test_known_catalogues() -> None:
    assert set(CATALOGUES) == {"demo", "earth-search", "earth-search-c1", "planetary-computer", "cdse"}
    assert CATALOGUES["cdse"].keys(["B04", "B8A"]) == ["B04_10m", "B8A_20m"]
    with pytest.raises(CatalogueError, match="landsat"):
        get_catalogue("landsat")
    with pytest.raises(CatalogueError, match="demo"):
        get_catalogue("demo")
    with pytest.raises(ValueError, match="B99"):
        CatalogueProfile(name="x", url="u", collection="c", assets={"B99": "x"}, scl="s", rule="baseline")
