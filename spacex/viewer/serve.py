"""Writes the page beside a cube and serves the two, to this machine alone.

``lapland.view/`` is put beside ``lapland.zarr``; the folder that holds both works from any static host or object
store. The page itself is built from ``web/`` (``npm ci && npm run build`` there) and ships ready made in ``page/``.
"""

from __future__ import annotations

import json
import re
import webbrowser
from collections.abc import Callable
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec

from spacex.cube.store import Cube
from spacex.display import FLOORS, white_and_gamma
from spacex.errors import RequestError

PAGE = Path(__file__).with_name("page")
"""The built page."""
TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript", "css": "text/css", "json": "application/json"}
"""Media types by the name's end; anything else is bytes."""


def view(
    uri: str,
    port: int = 8765,
    *,
    zones: str | None = None,
    open_browser: bool = False,
    write_only: bool = False,
    on_ready: Callable[[str], None] = print,
) -> str:
    """Write the web map of a cube beside it, and serve both until interrupted.

    Args:
        uri: of the cube, a path or any fsspec URI.
        port: on 127.0.0.1; 0 takes a free one.
        zones: table of sites of this cube, which are drawn over it; None for none.
        open_browser: also show the page.
        write_only: only write the page.
        on_ready: called with the page's address once it is served.

    Returns:
        Where the page was written.

    Raises:
        CubeError: if there is no cube of this version's format.
        DataError: if the zones are no table of sites of this cube.
        RequestError: if the page cannot be written, or the port is taken.
    """
    uri = uri.rstrip("/")
    if write_only:
        return write_page(uri, zones)
    with open_server(uri, port) as server:  # a port that cannot be had is refused before anything is written
        folder = write_page(uri, zones)
        address = f"http://127.0.0.1:{server.server_port}/{quote(folder.rsplit('/', 1)[-1])}/"
        on_ready(address)
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            server.server_close()
    return folder


def view_folder(uri: str) -> str:
    """Where the page of a cube lies: `lapland.view` beside `lapland.zarr`."""
    return uri.rstrip("/").removesuffix(".zarr") + ".view"


def write_page(uri: str, zones: str | None = None) -> str:
    """Write the static page beside a cube, replacing an older one; gives its folder. Arguments as `view`.

    Raises:
        DataError: if the zones are no table of sites of this cube.
        CubeError: if there is no cube of this version's format.
        RequestError: if it cannot be written there.
    """
    cube = Cube(uri)
    name = cube.uri.rstrip("/").rsplit("/", 1)[-1]
    white, gamma = white_and_gamma(cube.spec.display)
    display = escape(json.dumps({"white": white, "gamma": gamma, "floors": FLOORS}))
    folder, sites = view_folder(uri), None
    if zones is not None:
        from spacex.viewer.sites import sites_json  # with geopandas, which a page without them need not wait for

        sites = sites_json(cube, zones)
    try:
        fs, path = fsspec.core.url_to_fs(folder)
        fs.makedirs(path, exist_ok=True)
        for file in sorted(PAGE.iterdir()):
            content = file.read_bytes()
            # the page finds its cube by a relative link, so that both can be moved together
            if file.name == "index.html":
                content = content.replace(b'content="CUBE"', f'content="../{quote(name)}"'.encode())
                content = content.replace(b'content="DISPLAY"', f'content="{display}"'.encode())
                content = content.replace(
                    b'content="SITES"', b'content=""' if sites is None else b'content="sites.json"'
                )
            fs.pipe_file(f"{path}/{file.name}", content)
        if sites is not None:
            fs.pipe_file(f"{path}/sites.json", sites)
    except OSError as error:
        raise RequestError(f"the page cannot be written to {folder}", got=f"{type(error).__name__}: {error}") from error
    return folder


def open_server(uri: str, port: int = 0) -> ThreadingHTTPServer:
    """A server of a cube and its page on 127.0.0.1, not yet running; it gives out nothing else.

    Raises:
        RequestError: if the port is taken.
    """
    fs, root = fsspec.core.url_to_fs(uri.rstrip("/").rpartition("/")[0] or ".")
    names = [uri.rstrip("/").rsplit("/", 1)[-1], view_folder(uri).rsplit("/", 1)[-1]]
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, fs, root, names))
    except OSError as error:
        raise RequestError(f"port {port} cannot be had", got=str(error), do="Choose another --port.") from error


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for files below the cube and the page, whole or a range of bytes."""

    protocol_version = "HTTP/1.1"

    def __init__(self, fs: Any, root: str, names: list[str], *args: Any) -> None:
        self._fs, self._root_path, self._names = fs, root, names
        super().__init__(*args)

    def do_GET(self) -> None:
        """Send a file or a part of it."""
        path = unquote(self.path.split("?")[0]).lstrip("/")
        if path in ("", self._names[1]):
            self._send(HTTPStatus.FOUND, b"", {"Location": f"/{quote(self._names[1])}/"})
            return
        # nothing beside the cube and its page, and no way up out of them
        parts = path.split("/")
        if parts[0] not in self._names or any(part in ("..", "") for part in parts[:-1]) or parts[-1] == "..":
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        file = f"{self._root_path}/{path}" + ("index.html" if parts[-1] == "" else "")
        try:
            self._send_file(file)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            self._send(HTTPStatus.NOT_FOUND, b"")

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        """Say nothing: a map asks for hundreds of chunks."""

    def _send_file(self, file: str) -> None:
        headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
        headers["Content-Type"] = TYPES.get(file.rsplit(".", 1)[-1], "application/octet-stream")
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or wanted.groups() == ("", ""):
            self._send(HTTPStatus.OK, self._fs.cat_file(file), headers)
            return
        # RFC 9110: "3-7" are five bytes, "3-" all from the fourth on, "-3" the last three
        size = int(self._fs.size(file))
        first, last = wanted.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", {"Content-Range": f"bytes */{size}"})
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send(HTTPStatus.PARTIAL_CONTENT, self._fs.cat_file(file, start, stop), headers)

    def _send(self, status: HTTPStatus, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
