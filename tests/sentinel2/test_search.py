"""Searching, against a STAC server of a few lines that misbehaves on request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import box, shape
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2 import CATALOGUES, CatalogueProfile, get_catalogue, retries, search
from spacex.sentinel2.scene_search import RETRIES, _reason

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
    get_only: bool = False
    """Whether it offers the search by GET alone, as the specification allows."""
    elsewhen: list[dict] = field(default_factory=list)
    """Items that only searches without a first or last day find."""
    retry_after: str | None = None
    """Header of its answers to search requests."""

    def answer(self, path: str, body: dict | None) -> tuple[int, dict]:
        core = "https://api.stacspec.org/v1.0.0/core"
        if path == "/":
            links = [{"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json", "method": "POST"},
                     {"rel": "data", "href": f"{self.url}/collections"},
                     {"rel": "self", "href": self.url}]  # fmt: skip
            if self.get_only:
                del links[0]["method"]
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
        if isinstance((days := (body or {}).get("datetime")), str) and ".." in days:
            return 200, self.open_ended(days)
        return 200, self.search(int((body or {}).get("token", 0)))

    def open_ended(self, days: str) -> dict:
        """One page of the items before or after a day."""
        first, _, last = days.partition("/")
        dates = [(item, item["properties"]["datetime"][:10]) for item in self.elsewhen]
        inside = [item for item, day in dates if first[:10] <= day or first == ".."]
        inside = [item for item in inside if last == ".." or item["properties"]["datetime"][:10] <= last[:10]]
        return {"type": "FeatureCollection", "features": inside, "links": []}

    def search(self, start: int) -> dict:
        stop = start + self.page
        more = {"rel": "next", "href": f"{self.url}/search", "method": "POST", "merge": True, "body": {"token": stop}}
        if self.get_only:
            more = {"rel": "next", "href": f"{self.url}/search?token={stop}"}
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
def server(written_item: Callable) -> Iterator[Server]:
    """Five scenes of five days, cloud cover 0, 20, 40, 60 and unknown, two to a page."""
    items = [
        written_item(
            f"S2B_34WED_2020070{day + 1}_0_L2A", day=f"2020-07-0{day + 1}T10:00:00Z",
            properties={"eo:cloud_cover": cloud},
        )
        for day, cloud in enumerate((0, 20, 40, 60, None))
    ]  # fmt: skip
    fake = Server(items)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path, _, query = self.path.partition("?")
            if fake.get_only and path == "/search":
                body = dict(parse_qsl(query)) if self.command == "GET" else None
            allowed = not fake.get_only or path != "/search" or self.command == "GET"
            status, answer = fake.answer(path, body) if allowed else (405, {})
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Content-Type", "application/json")
            if fake.retry_after is not None and path == "/search":
                self.send_header("Retry-After", fake.retry_after)
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
    scenes = search(catalogue, AREA, DAYS, cloud, bands=["B02", "B04"], **{"retries": QUICK, **options})
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


@pytest.mark.parametrize("faults", [[503, 503], [429], [429, 503, 429]])
def test_a_busy_server_is_asked_again(server: Server, faults: list[int]) -> None:
    server.faults = faults
    assert find(server) == ALL


@pytest.mark.parametrize("asked", ["3600", "99999999999999", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_busy_server_is_waited_for_aloud_and_within_bounds(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    server.faults, server.retry_after = [429] * 20, asked
    assert "is busy" in refused(server.url, retries=RETRIES)
    assert len(waits) == 6
    assert sum(waits) <= 300
    assert f"is busy (HTTP 429), waiting {retries.MAX_WAIT_S:.0f} s" in caplog.text


def test_an_unreadable_request_to_wait_counts_as_none(server: Server) -> None:
    server.faults, server.retry_after = [429], "soon"
    assert find(server, retries=retries.BoundedRetry(total=2, status_forcelist=(429,), allowed_methods=None)) == ALL


def test_a_server_that_offers_get_alone(server: Server) -> None:
    server.get_only = True
    assert find(server) == ALL
    assert float(server.bodies[0]["bbox"].split(",")[0]) < 23.9
    server.conforms = (QUERY,)
    assert find(server, 40.0) == ALL[:3]


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


def test_an_item_that_does_not_tell_its_offset_is_left_out_and_counted(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    properties, left_out = server.items[1]["properties"], dict[str, str]()
    del properties["s2:processing_baseline"], properties["earthsearch:boa_offset_applied"]
    assert find(server, left_out=left_out) == [day for day in ALL if day != "20200702"]
    assert list(left_out) == ["S2B_34WED_20200702_0_L2A"]
    assert "left out S2B_34WED_20200702_0_L2A (cannot tell whether" in caplog.text


def test_an_item_whose_bands_contradict_each_other_is_left_out(server: Server) -> None:
    for key, offset in (("blue", -0.1), ("red", 0.0)):
        server.items[3]["assets"][key]["raster:bands"] = [{"scale": 1e-4, "offset": offset}]
    advertising = get_catalogue("earth-search", url=server.url).model_copy(update={"rule": "metadata"})
    left_out: dict[str, str] = {}
    found = search(advertising, AREA, DAYS, bands=["B02", "B04"], retries=QUICK, left_out=left_out)
    assert len(found) == 4
    assert "different offsets" in left_out["S2B_34WED_20200704_0_L2A"]


def test_items_are_left_out_by_id(server: Server) -> None:
    left_out: dict[str, str] = {}
    assert find(server, leave_out=["S2B_34WED_20200703_0_L2A"], left_out=left_out) == [*ALL[:2], *ALL[3:]]
    assert left_out == {"S2B_34WED_20200703_0_L2A": "as asked"}


def test_an_item_without_cloud_cover_is_left_out_aloud(server: Server) -> None:
    left_out: dict[str, str] = {}
    assert find(server, 40.0, left_out=left_out) == ALL[:3]
    assert list(left_out) == ["S2B_34WED_20200705_0_L2A"]
    server.items = server.items[-1:]
    text = refused(server.url, cloud=40.0)
    assert "1 of them without a cloud cover" in text
    assert "Longitudes" not in text


def test_days_without_scenes_are_told_the_days_nearby(server: Server) -> None:
    server.elsewhen, server.items = server.items, []
    server.elsewhen[-1]["properties"]["datetime"] = "2020-09-02T10:00:00Z"
    server.elsewhen[0]["properties"]["datetime"] = "2020-06-21T10:00:00Z"
    text = refused(server.url, interval="2020-07-10/2020-07-31")
    assert "2020-07-04 and 2020-09-02" in text
    assert "Longitudes" not in text
    server.elsewhen = []
    assert "Longitudes come before latitudes" in refused(server.url)


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


def test_a_reason_cut_out_of_urllib3s_chain_closes_its_brackets():
    chain = (
        "HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url: / (Caused by NameResolutionError("
        "\"HTTPSConnection(host='x', port=443): Failed to resolve 'x' ([Errno -2] Name or service not known)\"))"
    )
    assert _reason(OSError(chain)) == "Failed to resolve 'x' ([Errno -2] Name or service not known)"
