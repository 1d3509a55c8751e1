"""The styles beside GeoTIFFs hold the quicklook's colours at the quicklook's ends."""

from xml.etree import ElementTree

import numpy as np
import pytest
from known_cube import known_cube, values
from matplotlib import colormaps

from spacex.cube.export import export
from spacex.cube.layer_style import picture_style
from spacex.cube.quicklook import colour_scale
from spacex.cube.store import Cube


def stops(style):
    """(n, 4) value, red, green, blue of the colours of a map's style."""
    items = ElementTree.fromstring(style.split("\n", 1)[1]).findall(".//colorrampshader/item")
    return np.array([[float(i.get("value")), *bytes.fromhex(i.get("color")[1:])] for i in items])


def test_a_map_ends_where_the_quicklook_does_and_has_its_colours(tmp_path):
    uri = known_cube(str(tmp_path / "c.zarr")).uri
    (lift, score) = export(uri, str(tmp_path), variables=["lift", "naturalness"], times=["2021-07-01"])
    name, top = colour_scale(Cube(uri), "lift", 1)
    assert name == "inferno"
    # a colour scale ends at the 99th percentile, of the overview, rounded up to two digits
    assert top == pytest.approx(np.nanpercentile(values(1)[0]["lift"], 99), rel=0.1)
    found = stops((tmp_path / lift.rsplit("/", 1)[1].replace(".tif", ".qml")).read_text())
    assert found[0, 0] == 0
    assert found[-1, 0] == pytest.approx(top, rel=1e-5)
    # matplotlib takes the nearest of 256 colours
    assert np.abs(found[:, 1:] - np.array([colormaps["inferno"](v / top) for v in found[:, 0]])[:, :3] * 255).max() <= 5
    found = stops((tmp_path / score.rsplit("/", 1)[1].replace(".tif", ".qml")).read_text())
    assert found[[0, -1], 0].tolist() == [0, 1]
    assert found[-1, 1:].tolist() == list(bytes.fromhex("fee838"))  # the yellow of cividis


def test_a_picture_has_the_stretch_of_all_pictures():
    root = ElementTree.fromstring(picture_style(["B02", "B03", "B04", "B08"]).split("\n", 1)[1])
    renderer = root.find(".//rasterrenderer")
    assert [renderer.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["3", "2", "1"]
    assert [float(e.text) for e in renderer.iter("maxValue")] == [0.25] * 3
    assert float(root.find(".//brightnesscontrast").get("gamma")) == 1.6
