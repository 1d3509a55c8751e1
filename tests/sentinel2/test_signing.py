"""Signing, against a token service of our own, as PC_SDK_SAS_URL allows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from urllib3.util import Retry

from spacex.errors import TileError
from spacex.sentinel2 import CATALOGUES, CatalogueProfile, read_composite, signing

LINK = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/x.tif"


@dataclass
class TokenService:
    """What the service is asked, and how it answers."""

    lifetime_s: float = 3600.0
    statuses: list[int] = field(default_factory=list)
    """Status codes of the next answers."""
    body: dict | None = None
    """Answered instead of a token."""
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def answer(self) -> dict:
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime_s))
        return {"msft:expiry": expiry, "token": f"sig=secret{len(self.paths)}"} if self.body is None else self.body


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenService]:
    made = TokenService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.paths.append(self.path)
            made.keys.append(self.headers.get("Ocp-Apim-Subscription-Key"))
            text = json.dumps(made.answer()).encode()
            self.send_response(made.statuses.pop(0) if made.statuses else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("PC_SDK_SAS_URL", f"http://127.0.0.1:{http.server_port}/token")
    monkeypatch.delenv("PC_SDK_SUBSCRIPTION_KEY", raising=False)
    monkeypatch.setattr(signing, "_tokens", {})
    monkeypatch.setattr(signing, "RETRIES", Retry(total=2, backoff_factor=0.01, status_forcelist=(429, 503)))
    yield made
    http.shutdown()
    http.server_close()


def test_links_are_signed_when_read_and_never_stored(
    service: TokenService, monkeypatch: pytest.MonkeyPatch, write_product: Callable, geobox, catalogue: CatalogueProfile
) -> None:
    """Only blob storage links are signed."""
    planetary = CATALOGUES["planetary-computer"]
    assert planetary.sign(LINK) == LINK + "?sig=secret1"
    assert service.paths == ["/token/sentinel2l2a01/sentinel2-l2"]
    assert planetary.sign("http://127.0.0.1/x.tif") == "http://127.0.0.1/x.tif"
    assert catalogue.sign(LINK) == LINK
    # a failing read names the link without its signature
    scene = write_product("x", properties={"s2:processing_baseline": "05.00"}, catalogue="planetary-computer").scene
    for asset in scene.item["assets"].values():
        asset["href"] = LINK
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("GDAL_HTTP_CONNECTTIMEOUT", "1")
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "2")
    with pytest.raises(TileError) as caught:
        read_composite([scene], geobox, ["B02"], planetary)
    assert "secret" not in str(caught.value)
    assert "x.tif" in str(caught.value)
    assert "secret" not in json.dumps(scene.to_json())


def test_a_token_serves_its_container_until_shortly_before_it_expires(service: TokenService) -> None:
    assert signing.sign(LINK) == signing.sign(LINK)
    assert signing.sign(LINK.replace("x.tif", "y.tif")).endswith("y.tif?sig=secret1")
    signing.sign(LINK.replace("sentinel2-l2", "other"))
    assert service.paths == ["/token/sentinel2l2a01/sentinel2-l2", "/token/sentinel2l2a01/other"]
    signing._tokens.clear()
    service.lifetime_s = 50.0  # so little is left that a read may outlast it
    assert signing.sign(LINK) != signing.sign(LINK)


def test_threads_ask_for_a_token_once(service: TokenService) -> None:
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(signing.sign, [LINK] * 32))
    assert set(signed) == {LINK + "?sig=secret1"}
    assert len(service.paths) == 1


def test_a_link_that_has_a_token_keeps_it(service: TokenService) -> None:
    signed = signing.sign(LINK)
    assert signing.sign(signed) == signed
    assert signing.sign(LINK + "?snapshot=1") == LINK + "?snapshot=1&sig=secret1"


def test_the_users_key_is_sent(service: TokenService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "mine")
    signing.sign(LINK)
    assert service.keys == ["mine"]


def test_a_busy_service_is_asked_again(service: TokenService) -> None:
    service.statuses = [429, 503]
    assert signing.sign(LINK).endswith("?sig=secret3")


@pytest.mark.parametrize(
    ("statuses", "body"),
    [([404], None), ([503] * 3, None), ([], {}), ([], []), ([], {"token": "x", "msft:expiry": "soon"})],
)
def test_no_token_is_an_error_of_the_tile(
    service: TokenService, statuses: list[int], body: dict | None, write_product: Callable, geobox
) -> None:
    service.statuses, service.body = statuses, body
    with pytest.raises(OSError, match=r"/token/sentinel2l2a01/sentinel2-l2"):
        signing.sign(LINK)
    scene = write_product("x", properties={"s2:processing_baseline": "05.00"}, catalogue="planetary-computer").scene
    scene.item["assets"]["SCL"]["href"] = LINK
    service.statuses, service.body = [404], body
    with pytest.raises(TileError, match="asset SCL of x"):
        read_composite([scene], geobox, ["B02"], CATALOGUES["planetary-computer"])
