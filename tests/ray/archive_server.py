"""A STAC API and the files behind it, served by one Python process that can be told to misbehave.

Files are served with ranges, as object stores do. The API speaks as much STAC as pystac-client needs.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TROUBLES = ("429", "503", "truncated", "slow")
CORE = "https://api.stacspec.org/v1.0.0/"
COLLECTION = "sentinel-2-l2a"


@dataclass
class Archive:
    """What is served, and how badly."""

    folder: Path | None = None
    items: list[dict] = field(default_factory=list)
    busy: Counter = field(default_factory=Counter)
    """Path prefix to how many more requests are answered 503 (files) or 429 (the API)."""
    valid_for: float | None = None
    """Seconds a link's `?signed=<time>` is good for; None asks for none."""
    stalled: set[str] = field(default_factory=set)
    """Names of files that stop in the middle of an answer."""
    trouble: float = 0.0
    """Share of the requests for files that meet one of `TROUBLES`, by lot."""
    lot: random.Random = field(default_factory=lambda: random.Random(0))
    served: Counter = field(default_factory=Counter)
    """Answers given, by status."""
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self) -> str:
        """The trouble this request meets; empty for none."""
        with self.lock:
            return self.lot.choice(TROUBLES) if self.lot.random() < self.trouble else ""

    def refuse(self, path: str) -> bool:
        """True if this request is one of those to be turned away."""
        with self.lock:
            for prefix in self.busy:
                if path.startswith(prefix) and self.busy[prefix] > 0:
                    self.busy[prefix] -= 1
                    return True
        return False


@contextmanager
def serve(archive: Archive) -> Iterator[Archive]:
    """Serve on a free port of this machine; `archive.url` is the API's root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": archive}))
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        archive.released.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Archive

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, query: dict | None = None, body: bool = True) -> None:
        parts = urlsplit(self.path)
        if self.archive.refuse(parts.path):
            self._send(503 if parts.path.startswith("/files") else 429, b"busy", {"Retry-After": "0"})
        elif parts.path.startswith("/files/"):
            self._file(parts.path.removeprefix("/files/"), parse_qs(parts.query), body)
        else:
            wanted = query or {k: v[0] for k, v in parse_qs(parts.query).items()}
            self._json(_stac(self.archive, parts.path, wanted))

    def _json(self, document: dict) -> None:
        kind = {"Content-Type": "application/geo+json"}
        self._send(200, json.dumps(document).encode(), kind)

    def _file(self, name: str, query: dict[str, list[str]], body: bool) -> None:
        archive = self.archive
        if archive.valid_for is not None:
            signed = float(query.get("signed", ["0"])[0])
            if time.time() - signed > archive.valid_for:
                return self._send(403, b"the link has expired", {})
        size = (archive.folder / name).stat().st_size
        first, last = 0, size - 1
        asked = self.headers.get("Range")
        if asked:
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
        with (archive.folder / name).open("rb") as file:
            file.seek(first)
            part = file.read(last + 1 - first)
        headers = {"Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        trouble = archive.meet()
        if trouble in ("429", "503"):
            return self._send(int(trouble), b"busy", {"Retry-After": "0"})
        if trouble and body:
            return self._spoil(trouble, 206 if asked else 200, part, headers)
        if name in archive.stalled and body:
            return self._stall(206 if asked else 200, part, headers)
        self._send(206 if asked else 200, part, headers, body)
        return None

    def _stall(self, status: int, part: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(part), headers)
        self.wfile.write(part[: len(part) // 2])
        self.wfile.flush()
        self.archive.released.wait()
        self.close_connection = True

    def _spoil(self, trouble: str, status: int, part: bytes, headers: dict[str, str]) -> None:
        """Half an answer and an end, or a whole one drop by drop."""
        with self.archive.lock:
            self.archive.served[trouble] += 1
        self._head(status, len(part), headers)
        if trouble == "truncated":
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        for start in range(0, len(part), max(1, len(part) // 5)):
            self.wfile.write(part[start : start + max(1, len(part) // 5)])
            self.wfile.flush()
            time.sleep(0.1)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        self._head(status, len(data), headers)
        if body:
            self.wfile.write(data)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        with self.archive.lock:
            self.archive.served[status] += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _stac(archive: Archive, path: str, query: dict) -> dict:
    collection = {
        "type": "Collection", "id": COLLECTION, "stac_version": "1.0.0", "description": "x", "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }  # fmt: skip
    if path == "/search":
        return _page(archive, query)
    if path.startswith("/collections/"):
        return collection
    if path == "/collections":
        return {"collections": [collection], "links": []}
    return {
        "type": "Catalog", "id": "archive", "stac_version": "1.0.0", "description": "x",
        "conformsTo": [CORE + "core", CORE + "item-search", CORE + "collections", CORE + "item-search#query"],
        "links": [
            {"rel": "self", "href": archive.url},
            {"rel": "data", "href": f"{archive.url}/collections"},
            {"rel": "search", "href": f"{archive.url}/search", "method": "POST"},
        ],
    }  # fmt: skip


def _page(archive: Archive, query: dict) -> dict:
    start, limit = int(query.get("token", 0)), int(query.get("limit", 100))
    links = []
    if start + limit < len(archive.items):
        body = {**query, "token": start + limit}
        links = [{"rel": "next", "href": f"{archive.url}/search", "method": "POST", "body": body}]
    return {"type": "FeatureCollection", "features": archive.items[start : start + limit], "links": links}


def signer(url_of: Callable[[], float] = time.time) -> Callable[[object, str], str]:
    """A replacement of `CatalogueProfile.sign` that stamps links with the time of signing."""
    return lambda catalogue, href: f"{href}?signed={url_of():.3f}"
