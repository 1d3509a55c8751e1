"""A catalogue that is broken or means harm: named, in bounded time and memory, and what is sound is still used."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from shapely.geometry import box
from urllib3.util import Retry

from spacex.errors import CatalogueError
from spacex.sentinel2 import get_catalogue, scene_search, search, stac_io

AREA = box(23.9, 67.9, 24.1, 68.1)
DAYS = "2020-07-01/2020-07-31"
NONE = Retry(total=0)
CORE = "https://api.stacspec.org/v1.0.0/"


class Api:
    """A STAC API whose search answers whatever `page` gives."""

    def __init__(self) -> None:
        self.url, self.asked = "", 0
        self.page: Callable[[dict[str, Any]], Any] = lambda body: {"features": []}
        self.elsewhere: str | None = None
        self.search_link: str | None = None

    def root(self) -> dict[str, Any]:
        where = self.search_link or f"{self.url}/search"
        links = [{"rel": "search", "href": where, "method": "POST", "type": "application/geo+json"},
                 {"rel": "data", "href": f"{self.url}/collections"}, {"rel": "self", "href": self.url}]  # fmt: skip
        return {"type": "Catalog", "id": "x", "description": "x", "stac_version": "1.0.0", "links": links,
                "conformsTo": [CORE + "core", CORE + "item-search", CORE + "collections"]}  # fmt: skip

    def next(self, **body: Any) -> list[dict[str, Any]]:
        return [{"rel": "next", "href": f"{self.url}/search", "method": "POST", "merge": True, "body": body}]


@pytest.fixture
def api() -> Iterator[Api]:
    served = Api()
    collection = {"type": "Collection", "id": "sentinel-2-l2a", "description": "x", "license": "x", "links": [],
                  "stac_version": "1.0.0", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                                                      "temporal": {"interval": [[None, None]]}}}  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
            if self.path == "/search":
                served.asked += 1
                if served.elsewhere:
                    return self.send({}, 302, {"Location": served.elsewhere})
                return self.send(served.page(body))
            return self.send(collection if self.path.startswith("/collections/") else served.root())

        do_POST = do_GET

        def send(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            if callable(answer):
                return answer(self)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            kind = {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})}
            if text[:2] == b"\x1f\x8b":
                kind["Content-Encoding"] = "gzip"
            for name, value in kind.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)
            return None

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    served.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield served
    http.shutdown()
    http.server_close()


@pytest.fixture
def items(written_item: Callable) -> list[dict[str, Any]]:
    return [written_item(f"S2B_34WED_2020070{day}_0_L2A", day=f"2020-07-0{day}T10:00:00Z") for day in (1, 2)]


def find(api: Api) -> list[str]:
    style = get_catalogue("earth-search", url=api.url)
    return [scene.id for scene in search(style, AREA, DAYS, bands=["B02", "B04"], retries=NONE)]


def refusal(api: Api) -> str:
    begun = time.monotonic()
    with pytest.raises(CatalogueError) as caught:
        find(api)
    assert time.monotonic() - begun < 20
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_a_page_of_a_hundred_megabytes(api: Api) -> None:
    api.page = lambda body: b'{"features": [], "x": "' + b"x" * 100_000_000 + b'"}'
    assert "more than 32 MB" in refusal(api)


def test_a_gzip_bomb(api: Api) -> None:
    bomb = _bomb()
    assert len(bomb) < 300_000
    api.page = lambda body: bomb
    assert "more than 32 MB" in refusal(api)


def _bomb() -> bytes:
    """Two hundred megabytes of blanks in 200 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(b" " * 10_000_000) for _ in range(20)]
    return b"".join([*pieces, packer.flush()])


def test_an_answer_that_drips(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_io, "ANSWER_SECONDS", 1.0)
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            while not over.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            pass

    api.page = lambda body: drip
    try:
        assert "does not answer" in refusal(api)
    finally:
        over.set()


def test_pages_that_go_round(api: Api, items: list) -> None:
    api.page = lambda body: {"features": items, "links": api.next(token="again")}
    assert "round in a circle" in refusal(api)
    assert api.asked < 5


def test_pages_without_end_and_without_news(api: Api, items: list) -> None:
    api.page = lambda body: {"features": items, "links": api.next(token=body.get("token", 0) + 1)}
    assert "do not end" in refusal(api)
    assert api.asked < 30


def test_pages_without_end_of_new_items(api: Api, items: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_search, "MAX_ITEMS", 50)

    def page(body: dict) -> dict:
        number = body.get("token", 0)
        new = [{**items[0], "id": f"{items[0]['id']}{number}{i}"} for i in range(10)]
        return {"features": new, "links": api.next(token=number + 1)}

    api.page = page
    assert "do not end: got 60 items" in refusal(api)


@pytest.mark.parametrize(
    "page",
    [[], "text", 7, None, {"features": "many"}, {"features": {"a": 1}}, {"features": [None]}, {"features": [[]]},
     {"features": [7, "x"]}, b"not json", b'{"features": [', b"[" * 100_000,
     b'{"features": [{"id": ' + b"9" * 10_000 + b"}]}", b"\xff\xfe",
     {"features": [{"id": "x"}], "links": [{"rel": "next"}]}, {"features": [{}], "links": 3}],
)  # fmt: skip
def test_a_page_that_is_none(api: Api, page: Any) -> None:
    api.page = lambda body: page
    refusal(api)


def test_a_broken_item_is_named_and_the_sound_ones_are_used(
    api: Api, items: list, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {**items[1], "id": "BROKEN", "geometry": None}
    api.page = lambda body: {"features": [broken, items[0]]}
    assert find(api) == [items[0]["id"]]
    assert "left out BROKEN (geometry" in caplog.text


def test_only_broken_items_are_a_refusal_that_names_the_first(api: Api, items: list) -> None:
    api.page = lambda body: {"features": [{**items[0], "geometry": None}]}
    assert f"no item of earth-search can be read: got {items[0]['id']} (geometry" in refusal(api)


def test_of_many_broken_items_the_number_is_told(api: Api, items: list, caplog: pytest.LogCaptureFixture) -> None:
    api.page = lambda body: {"features": [{**items[0], "properties": {}, "id": f"B{i}"} for i in range(500)] + items}
    assert len(find(api)) == 2
    assert len(caplog.records) < 30
    assert "left out 500 broken items" in caplog.text


def test_an_item_that_names_a_file_of_this_machine(api: Api, items: list, caplog: pytest.LogCaptureFixture) -> None:
    """Not even a server on the loopback interface may."""
    api.page = lambda body: {"features": items}
    for item in items:
        item["assets"]["red"]["href"] = "/data/red.tif"
    assert "may not name files of this machine" in refusal(api)
    for item in items:
        for key, asset in item["assets"].items():
            asset["href"] = f"{api.url}/{key}.tif"
    items[1]["assets"]["red"]["href"] = "http://169.254.169.254/red.tif"
    assert find(api) == [items[0]["id"]]
    assert "assets.red.href points where it may not: a link-local address" in caplog.text


@pytest.mark.parametrize("to", ["http://169.254.169.254/search", "file:///etc/passwd", "http://10.0.0.1/search"])
def test_a_redirect_to_where_it_may_not(api: Api, to: str) -> None:
    api.elsewhere = to
    assert "leads where it may not" in refusal(api)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://169.254.169.254/search"])
def test_a_search_link_to_where_it_may_not(api: Api, to: str) -> None:
    api.search_link = to
    text = refusal(api)
    assert "may not" in text or "no web address" in text or "No connection adapters" in text


def test_a_next_link_to_where_it_may_not(api: Api, items: list) -> None:
    api.page = lambda body: {"features": items, "links": [{"rel": "next", "href": "/etc/passwd"}]}
    text = refusal(api)
    assert "no web address" in text
    assert "root:" not in text
