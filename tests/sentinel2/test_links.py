"""Where links may point, and where keys may go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spacex.errors import TileError
from spacex.sentinel2 import CATALOGUES, get_catalogue, links, signing
from spacex.sentinel2.assets import _session, open_asset
from spacex.sentinel2.links import disallowed_reason, is_local

HERE, LOOPBACK = "/data/items.json", "http://127.0.0.1:8080"
FAR = "https://stac.example.org/v1"
HOSTS = {
    "stac.example.org": ["203.0.113.10"], "cdn.example.org": ["8.8.8.8"], "rebound.example.org": ["10.0.0.7"],
    "half.example.org": ["8.8.8.8", "192.168.1.1"], "meta.example.org": ["169.254.169.254"],
    "six.example.org": ["::ffff:10.0.0.1"], "private.example.org": ["10.1.2.3"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that need no network; plain addresses go the usual way."""
    usual = links.socket.getaddrinfo

    def lookup(host: str, port: object, *more: object) -> list:
        if host in HOSTS:
            return [(None, None, None, "", (address, 0)) for address in HOSTS[host]]
        if host.endswith(".example.org"):
            raise OSError("no such host")
        return usual(host, port, *more)

    monkeypatch.setattr(links.socket, "getaddrinfo", lookup)
    links._resolve.cache_clear()
    yield
    links._resolve.cache_clear()


@pytest.mark.parametrize(
    "href",
    ["https://cdn.example.org/a.tif", "http://8.8.8.8/a.tif?x=1&y=2", "https://stac.example.org:8443/files/a.jp2",
     "s3://eodata/a.jp2", "https://unknown.example.org/a.tif", "https://[2606:4700::1111]/a.tif"],
)  # fmt: skip
def test_what_a_catalogue_on_the_network_may_name(href: str) -> None:
    assert disallowed_reason(href, FAR) is None


@pytest.mark.parametrize(
    "href",
    ["/etc/passwd", "data/a.tif", "./a.tif", "file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd",
     "/vsicurl/http://x/a.tif", "/vsizip//data/a.zip/a.tif", "vrt:///etc/x.tif", "zip+https://cdn.example.org/a.zip!a.tif",
     "gs://bucket/a.tif", "az://c/a.tif", "ftp://8.8.8.8/a.tif", "<VRTDataset></VRTDataset>", "GTIFF_DIR:1:/etc/a.tif",
     "http://127.0.0.1/a.tif", "http://localhost/a.tif", "http://[::1]/a.tif", "http://0.0.0.0/a.tif",
     "http://2130706433/a.tif", "http://10.0.0.1/a.tif", "http://192.168.0.1:9000/a.tif", "http://172.16.0.1/a.tif",
     "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/a.tif", "http://100.64.0.1/a.tif",
     "http://rebound.example.org/a.tif", "http://half.example.org/a.tif", "http://meta.example.org/a.tif",
     "http://six.example.org/a.tif", "http://cdn.example.org@10.0.0.1/a.tif", "http://10.0.0.1\\@cdn.example.org/a.tif",
     "http://cdn.example.org /a.tif", "http:///a.tif", ""],
)  # fmt: skip
def test_what_it_may_not(href: str) -> None:
    assert disallowed_reason(href, FAR)


def test_its_own_host_may_be_private_and_no_other() -> None:
    home = "http://private.example.org/stac"
    assert disallowed_reason("http://private.example.org:9000/a.tif", home) is None
    assert "private" in disallowed_reason("http://10.1.2.4/a.tif", home)
    assert disallowed_reason("/data/a.tif", home)


@pytest.mark.parametrize(
    ("href", "allowed"),
    [("/data/a.tif", True), ("file:///data/a.tif", True), ("http://127.0.0.1:9/a.tif", True),
     ("http://10.0.0.1/a.tif", True), ("https://cdn.example.org/a.tif", True),
     ("s3://mine/a.tif", True), ("/vsicurl/http://x/a.tif", False),
     ("http://169.254.169.254/a.tif", False), ("vrt:///data/a.tif", False)],
)  # fmt: skip
def test_a_list_on_this_machine_may_name_its_files(href: str, allowed: bool) -> None:
    assert (disallowed_reason(href, HERE) is None) == allowed


@pytest.mark.parametrize("href", ["/data/a.tif", "file:///data/a.tif", "http://10.0.0.1/a.tif"])
def test_a_server_of_this_machine_names_none_of_its_files(href: str) -> None:
    """Its port may lead to another machine, and another user may have opened it."""
    assert disallowed_reason(href, LOOPBACK)
    assert disallowed_reason(f"{LOOPBACK}/a.tif", LOOPBACK) is None


def test_what_counts_as_this_machine() -> None:
    assert is_local("/data/items.json")
    assert is_local("file:///data/items.json")
    for elsewhere in ("http://localhost:1", "http://[::1]:1", FAR, "s3://mine/items.json", "memory://items.json", ""):
        assert not is_local(elsewhere)


def test_a_forbidden_link_is_not_opened(write_product: Callable) -> None:
    """Even when it comes from a scene list that was tampered with."""
    scene = write_product("S2B_34WED_20200703_0_L2A").scene  # its links are plain paths
    far, refusal = get_catalogue("earth-search", url=FAR), "scl of S2B_34WED_20200703_0_L2A points where it may not"
    with pytest.raises(TileError, match=refusal) as caught, open_asset(scene, "scl", far):
        pass
    assert "\n" not in str(caught.value)
    with pytest.raises(TileError, match=refusal), open_asset(scene, "scl", get_catalogue("earth-search", LOOPBACK)):
        pass
    with open_asset(scene, "scl", get_catalogue("earth-search", items=HERE)) as source:
        assert source.count == 1


def test_a_token_is_made_for_blob_storage_over_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(signing, "_tokens", {})
    monkeypatch.setattr(signing, "_request_token", lambda url: asked.append(url) or ("sig=secret", 1e12))
    planetary = CATALOGUES["planetary-computer"]
    good = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif"
    assert planetary.sign(good).endswith("?sig=secret")
    for href in (
        "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net.example.org/a.tif",
        "https://x@sentinel2l2a01.blob.core.windows.net/a.tif",
        "https://example.org/?.blob.core.windows.net/a.tif",
    ):
        assert planetary.sign(href) == href
    assert asked == ["https://planetarycomputer.microsoft.com/api/sas/v1/token/sentinel2l2a01/sentinel2-l2"]


def test_keys_go_to_the_store_they_were_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the cube's store")
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "of cdse")
    stranger, mine = get_catalogue("earth-search", url=FAR), get_catalogue("earth-search", items=HERE)
    assert _session(stranger, "s3://any/a.tif").get_credential_options() == {"AWS_NO_SIGN_REQUEST": "YES"}
    assert _session(mine, "s3://any/a.tif") is None  # GDAL takes the environment's
    cdse = get_catalogue("cdse", url=FAR)
    assert _session(cdse, "s3://eodata/a.jp2").get_credential_options()["AWS_ACCESS_KEY_ID"] == "of cdse"
    assert _session(cdse, "s3://eodata/a.jp2").get_credential_options()["AWS_S3_ENDPOINT"] == cdse.s3_endpoint
    assert _session(cdse, "https://cdn.example.org/a.jp2") is None
