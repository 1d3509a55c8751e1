"""The page is written beside the cube and served with it, to this machine, in ranges, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from known_cube import served, table_of_sites

from spacex.errors import CubeError, DataError, RequestError
from spacex.viewer import serve
from spacex.viewer.serve import open_server, view, view_folder

WEB = Path(serve.__file__).with_name("web")


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, b"", error.headers


def test_the_page_lies_beside_the_cube_and_names_it(cube):
    folder = view(cube.uri + "/", write_only=True)
    assert folder == view_folder(cube.uri) == cube.uri.removesuffix(".zarr") + ".view"
    page = Path(folder, "index.html").read_text()
    assert 'content="../known%20values.zarr"' in page
    assert {"app.js", "app.css", "blosc.js", "zstd.js", "LICENSES.txt"} <= {
        file.name for file in Path(folder).iterdir()
    }


def test_sites_lie_beside_the_page_in_the_cubes_metres(cube, tmp_path):
    table = table_of_sites(tmp_path)
    page = Path(view(cube.uri, zones=table, write_only=True))
    mire, fell = json.loads((page / "sites.json").read_text())["features"]
    assert 'name="sites" content="sites.json"' in (page / "index.html").read_text()
    assert mire["properties"]["name"] == "mire"
    assert [step["naturalness_mean"] for step in mire["properties"]["steps"]] == [0.25, 0.75]
    assert fell["properties"]["steps"][0]["naturalness_mean"] is None
    (ring,) = mire["geometry"]["coordinates"]
    assert {(x, y) for x, y in ring} == {(x, y) for x in (4_895_500, 4_896_000) for y in (5_054_000, 5_054_500)}
    with pytest.raises(DataError, match="no table of sites"):
        serve.write_page(cube.uri, str(Path(__file__).parents[2] / "spacex/areas.geojson"))
    view(cube.uri, write_only=True)
    assert 'name="sites" content=""' in (page / "index.html").read_text()


def test_parts_of_a_file_are_given(cube, address):
    chunk = "known%20values.zarr/0/lift/c/0/0/0"
    whole = Path(cube.uri, "0/lift/c/0/0/0").read_bytes()
    url = address.rsplit("/", 2)[0] + "/" + chunk
    assert get(url)[:2] == (200, whole)
    assert get(url, Range="bytes=5-9")[:2] == (206, whole[5:10])
    assert get(url, Range="bytes=-7")[:2] == (206, whole[-7:])
    status, part, headers = get(url, Range=f"bytes={len(whole) - 2}-")
    assert (status, part) == (206, whole[-2:])
    assert headers["Content-Range"] == f"bytes {len(whole) - 2}-{len(whole) - 1}/{len(whole)}"
    assert get(url, Range=f"bytes={len(whole)}-")[0] == 416


OTHERS = (
    "secret.txt",
    "known%20values.zarr/../secret.txt",
    "known%20values.zarr/%2e%2e/secret.txt",
    "/etc/passwd",
    "known%20values.zarr/none",
    "known%20values.zarr/0",
)


@pytest.mark.parametrize("path", OTHERS)
def test_nothing_else_is_given(cube, address, path):
    Path(cube.uri).with_name("secret.txt").write_text("mine")
    assert get(address.rsplit("/", 2)[0] + "/" + path)[0] == 404


def test_only_this_machine_is_served_and_a_taken_port_is_said(cube):
    with open_server(cube.uri) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(RequestError, match=f"port {server.server_port}"):
            open_server(cube.uri, server.server_port)


def test_a_cube_in_another_store_is_served_too(cube):
    from spacex.cube.store import create_cube

    far = create_cube("memory://far/c.zarr", cube.spec, "0", {"title": "far"})
    with served(far.uri) as url:
        assert get(url)[0] == 200
        assert json.loads(get(url.replace(".view", ".zarr") + "zarr.json")[1])["attributes"]["title"] == "far"


def test_what_is_no_cube_is_refused(tmp_path):
    with pytest.raises(CubeError, match="no SpacEX cube"):
        view(str(tmp_path / "none.zarr"), write_only=True)
    assert list(tmp_path.iterdir()) == []


def test_the_built_page_belongs_to_its_sources():
    """Fails if web/ was changed and `npm run build` forgotten."""
    digest = hashlib.sha256()
    for name in ["build.js", "package-lock.json", *(f"src/{file.name}" for file in sorted((WEB / "src").iterdir()))]:
        digest.update(name.encode() + (WEB / name).read_bytes())
    assert (serve.PAGE / "sources.sha256").read_text().strip() == digest.hexdigest()


def test_the_page_is_small_brings_its_licences_and_names_no_registry():
    sizes = {file.name: file.stat().st_size for file in serve.PAGE.iterdir()}
    assert sum(sizes.values()) < 1_300_000
    licences = (serve.PAGE / "LICENSES.txt").read_text()
    for package in (
        "ol 10.11.0 (BSD-2-Clause)",
        "zarrita 0.7.5 (MIT)",
        "numcodecs 0.3.2 (MIT)",
        "proj4 2.22.0 (MIT)",
        "C-Blosc",
    ):
        assert package in licences
    lock = json.loads((WEB / "package-lock.json").read_text())
    hosts = {entry["resolved"].split("/")[2] for entry in lock["packages"].values() if "resolved" in entry}
    assert hosts <= {"registry.npmjs.org"}
