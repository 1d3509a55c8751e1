"""Files behind a web server that fails, heals, cuts files short, and counts what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from spacex.errors import TileError
from spacex.sentinel2 import CATALOGUES, CatalogueProfile, Scene, read_composite
from spacex.sentinel2.assets import GDAL_OPTIONS, open_asset

BANDS = ("B02", "B04")


@dataclass
class FileServer:
    """A file server with ranges; `faults` holds status codes to answer first, by file name."""

    root: Path
    faults: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.lstrip("/")
        self.asked.append(name)
        path, faults = self.root / name, self.faults.get(Path(name).name, [])
        if faults or not path.exists():
            self._send(handler, faults.pop(0) if faults else 404, b"", {})
            return
        data = path.read_bytes()
        wanted = handler.headers.get("Range")
        if wanted is None:
            self._send(handler, 200, data, {"Accept-Ranges": "bytes"})
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        stop = min(int(last or len(data)) + 1, len(data))
        where = {"Content-Range": f"bytes {first}-{stop - 1}/{len(data)}"}
        self._send(handler, 206, data[int(first) : stop], where)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    served = FileServer(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # GDAL hangs up on what it does not need
    served.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setitem(GDAL_OPTIONS, "GDAL_HTTP_RETRY_DELAY", "0.05")
    yield served
    http.shutdown()
    http.server_close()


@pytest.fixture
def scene(write_product: Callable, files: FileServer) -> Scene:
    """A clear scene whose links go through the server."""
    made = write_product("S2B_34WED_20200703_0_L2A", scl=lambda shape, rng: np.full(shape, 4, "u1")).scene
    for asset in made.item["assets"].values():
        asset["href"] = f"{files.url}/{made.id}/{Path(asset['href']).name}"
    return made


def read(scene: Scene, geobox: GeoBox, catalogue: CatalogueProfile) -> np.ndarray:
    return read_composite([scene], geobox, BANDS, catalogue).reflectance


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_fault_that_heals_is_not_noticed(
    scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile, status: int
) -> None:
    files.faults = {"B04.tif": [status] * 2, "scl.tif": [status]}
    assert np.isfinite(read(scene, geobox, catalogue)).all()
    assert files.faults == {"B04.tif": [], "scl.tif": []}


def test_a_retry_asks_the_server_again(
    scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    """GDAL alone would remember the 404 for as long as the process lives."""
    files.faults = {"B04.tif": [404]}
    with pytest.raises(TileError, match=r"red of S2B_34WED_20200703_0_L2A: got .*404"):
        read(scene, geobox, catalogue)
    assert np.isfinite(read(scene, geobox, catalogue)).all()


def test_a_file_that_was_cut_short_and_mended_is_read_anew(
    scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    path = files.root / scene.id / "B04.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(TileError, match="red of S2B_34WED_20200703_0_L2A"):
            read(scene, geobox, catalogue)
    path.write_bytes(whole)
    assert np.isfinite(read(scene, geobox, catalogue)).all()


def test_a_file_that_is_not_there(scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile) -> None:
    (files.root / scene.id / "scl.tif").unlink()
    with pytest.raises(TileError, match=f"asset scl of {scene.id}"):
        read(scene, geobox, catalogue)


def test_a_server_that_never_recovers_is_given_up(
    scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    files.faults = {"B02.tif": [503] * 1000}
    with pytest.raises(TileError, match="503"):
        read(scene, geobox, catalogue)


def test_no_folder_is_listed_and_no_side_file_asked_for(
    scene: Scene, files: FileServer, geobox: GeoBox, catalogue: CatalogueProfile
) -> None:
    read(scene, geobox, catalogue)
    assert {Path(name).name for name in files.asked} == {"scl.tif", "B02.tif", "B04.tif"}


def test_keys_of_another_store_reach_gdal_and_no_message(
    scene: Scene, geobox: GeoBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Copernicus Data Space's own keys, beside the AWS keys of the store the cube goes to."""
    import rasterio

    from spacex import rasters

    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "mine")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "hush")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the cube's store")
    for name, value in {"GDAL_HTTP_MAX_RETRY": "0", "GDAL_HTTP_CONNECTTIMEOUT": "1", "GDAL_HTTP_TIMEOUT": "1"}.items():
        monkeypatch.setenv(name, value)
    cdse = CATALOGUES["cdse"].model_copy(update={"s3_endpoint": "127.0.0.1:9"})
    seen = {}
    original = rasters.DatasetReader

    def spy(*arguments: object, **options: object) -> object:
        seen.update(rasterio.env.getenv())
        return original(*arguments, **options)

    monkeypatch.setattr(rasters, "DatasetReader", spy)
    scene.item["assets"]["SCL_20m"] = {"href": "s3://eodata/x/SCL.jp2"}
    with pytest.raises(TileError) as caught, open_asset(scene, "SCL_20m", cdse):
        pass
    assert seen["AWS_ACCESS_KEY_ID"] == "mine"
    assert seen["AWS_SECRET_ACCESS_KEY"] == "hush"
    assert seen["AWS_S3_ENDPOINT"] == "127.0.0.1:9"
    assert "hush" not in str(caught.value)
