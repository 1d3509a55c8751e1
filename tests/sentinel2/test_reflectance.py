from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spacex.errors import CatalogueError
from spacex.sentinel2.reflectance import (
    DarkPixels,
    Offset,
    baseline_of,
    contradiction,
    dark_pixels,
    harmonise,
    offset_of,
    to_reflectance,
)

ADVERTISED = {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}


def item(properties=None, red=None, blue=None, name="S2B_X") -> dict:
    return {"id": name, "properties": properties or {}, "assets": {"red": red or {}, "blue": blue or red or {}}}


@pytest.mark.parametrize(
    ("rule", "properties", "asset", "dn"),
    [
        # Earth Search sentinel-2-l2a: the flag wins over what the assets advertise
        ("host-flag", {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.11"}, ADVERTISED, 0),
        ("host-flag", {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.11"}, ADVERTISED, -1000),
        ("host-flag", {"s2:processing_baseline": "04.00"}, ADVERTISED, -1000),
        ("host-flag", {"s2:processing_baseline": "03.01"}, ADVERTISED, 0),
        ("host-flag", {"sentinel:boa_offset_applied": True, "sentinel:processing_baseline": "05.11"}, {}, 0),
        # Collection 1 and CDSE: what is advertised, in either place
        ("metadata", {"s2:processing_baseline": "05.00"}, ADVERTISED, -1000),
        ("metadata", {"processing:version": "05.00"}, {"raster:scale": 0.0001, "raster:offset": -0.1}, -1000),
        ("metadata", {"processing:version": "02.14"}, {"raster:scale": 0.0001, "raster:offset": 0.0}, 0),
        ("metadata", {"processing:version": "02.14"}, {"raster:scale": 0.0001}, 0),
        ("metadata", {"processing:version": "05.12"}, {}, -1000),
        # what a band advertises counts like what the asset does, in STAC 1.1 too
        ("metadata", {"s2:processing_baseline": "05.00"}, {"bands": [{"raster:scale": 1e-4, "raster:offset": 0}]}, 0),
        (
            "metadata",
            {"s2:processing_baseline": "02.14"},
            {"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]},
            -1000,
        ),
        ("metadata", {"s2:processing_baseline": "05.00"}, {"raster:scale": 1e-4, "bands": [{"raster:offset": 0}]}, 0),
        ("metadata", {"s2:processing_baseline": "05.00"}, {"raster:offset": 0}, 0),
        ("metadata", {"s2:processing_baseline": "05.00"}, {"raster:bands": [{"offset": 0}]}, 0),
        # Planetary Computer says nothing but the baseline; the date is of no account
        ("baseline", {"s2:processing_baseline": "05.00", "datetime": "2016-07-01T00:00:00Z"}, {}, -1000),
        ("baseline", {"s2:processing_baseline": "02.12", "datetime": "2023-07-01T00:00:00Z"}, {}, 0),
        ("baseline", {"s2:processing_baseline": "03.01"}, {}, 0),
        ("baseline", {"s2:processing_baseline": "04.00"}, {}, -1000),
        ("baseline", {"s2:product_uri": "S2A_MSIL2A_20230216T150721_N0400_R082_T19PHS_x.SAFE"}, {}, -1000),
    ],
)
def test_the_rules(rule, properties, asset, dn) -> None:
    decided = offset_of(item(properties, asset), rule, ["red", "blue"])
    assert decided.dn == dn
    assert len(decided.reason) > 10


def test_nothing_to_decide_by_is_refused() -> None:
    with pytest.raises(CatalogueError, match="S2B_X"):
        offset_of(item(), "baseline", ["red"])
    with pytest.raises(CatalogueError, match="different offsets"):
        offset_of(item({}, ADVERTISED, {"raster:bands": [{"scale": 0.0001, "offset": 0}]}), "metadata", ["red", "blue"])


def test_the_baseline_is_found_in_the_product_name() -> None:
    assert baseline_of(item(name="S2B_MSIL2A_20200322T074609_N0500_R135_T36NYH_20230612T214223")) == "05.00"
    assert baseline_of(item({"processing:version": "5.12"})) == "05.12"
    assert baseline_of(item({"processing:version": "latest"})) is None


@given(
    hnp.arrays(np.uint16, 40, elements=st.integers(0, 65535)),
    st.sampled_from([0, -1000, -2000, 1000]),
)
def test_harmonise_against_whole_numbers(dn: np.ndarray, offset: int) -> None:
    expected = [0 if value == 0 else min(max(int(value) + offset, 1), 65534) for value in dn]
    assert harmonise(dn, Offset(offset, "")).tolist() == expected


def test_reflectance_by_hand() -> None:
    got = to_reflectance(np.array([0, 1, 999, 1000, 1001, 2500, 11000], "u2"), Offset(-1000, ""))
    np.testing.assert_array_equal(got, np.float32([np.nan, 1e-4, 1e-4, 1e-4, 1e-4, 0.15, 1.0]))
    assert got.dtype == np.float32


def test_pixels_that_contradict_the_metadata_are_reported() -> None:
    rng = np.random.default_rng(0)
    forest = np.clip(rng.normal(300, 100, (200, 200)), 1, None).astype("u2")
    clear = np.ones(forest.shape, bool)
    applied, pending = Offset(0, ""), Offset(-1000, "")

    def verdict(dn, offset):
        return contradiction({"B04": dark_pixels(dn, clear, offset)}, offset)

    assert verdict(forest, applied) is None
    assert verdict(forest + np.uint16(1000), pending) is None
    assert "removed" in verdict(forest, pending)  # a wrong boa_offset_applied = false
    assert "still there" in verdict(forest + np.uint16(1000), applied)
    assert contradiction({"B04": dark_pixels(forest[:9], clear[:9], pending)}, pending) is None  # too few to say


def test_dark_pixels_of_parts_add_up_to_those_of_the_whole() -> None:
    dn = np.random.default_rng(0).integers(0, 3000, (40, 50)).astype("u2")
    clear, offset = dn % 3 > 0, Offset(-1000, "")
    parts = [dark_pixels(dn[rows], clear[rows], offset) for rows in (slice(0, 7), slice(7, 40))]
    assert parts[0] + parts[1] == dark_pixels(dn, clear, offset)


def test_dark_pixels_by_hand() -> None:
    dn = np.arange(3000, dtype="u2").reshape(50, 60)
    clear = dn < 2001
    assert dark_pixels(dn, clear, Offset(-1000, "")) == DarkPixels(2000, 999, 1000)
    assert dark_pixels(dn, np.zeros_like(clear), Offset(0, "")) == DarkPixels(0, 0, 0)


def test_an_offset_that_no_pixel_can_have_is_refused():
    """A number that does not fit 16 bits stopped the reading of a tile with a traceback."""
    item = {"id": "S2B_x", "properties": {}, "assets": {"B02": {"raster:bands": [{"scale": 1e-4, "offset": 7.0}]}}}
    with pytest.raises(CatalogueError, match="advertise no offset: got 70000"):
        offset_of(item, "metadata", ["B02"])
