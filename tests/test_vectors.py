"""Polygons from outside: four formats give the same, a filter is SQL, and what is no statement is refused in a line."""

import json

import geopandas
import numpy as np
import pytest
import shapely

from spacex.errors import DataError
from spacex.vectors import format_of, read_polygons

NAMES = {"GPKG": "a.gpkg", "ESRI Shapefile": "a.shp", "GeoJSON": "a.geojson", "Parquet": "a.parquet"}
STRICT = "IUCN_CAT in ('Ia','II')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three parks of 1° x 0.5° in every format, in degrees, and in metres as a GeoPackage."""
    place = tmp_path_factory.mktemp("vectors")
    table = {"IUCN_CAT": ["Ia", "II", "V"], "WDPAID": [1, 2, 3]}
    parks = geopandas.GeoDataFrame(table, geometry=[shapely.box(i, 60, i + 1, 60.5) for i in (20, 22, 24)], crs=4326)
    for driver, name in NAMES.items():
        if driver == "Parquet":
            parks.assign(names=[["a"], ["b"], ["c"]]).to_parquet(place / name)
        else:
            parks.to_file(place / name, driver=driver, engine="pyogrio")
    parks.to_crs(3035).to_file(place / "metres.gpkg", engine="pyogrio")
    return place


@pytest.mark.parametrize("driver", NAMES)
def test_every_format_says_the_same(folder, driver):
    file = str(folder / NAMES[driver])
    assert format_of(file) == driver
    found = read_polygons(file)
    assert [round(area, 6) for area in shapely.area(found.shapes)] == [0.5] * 3
    assert found.crs.is_geographic
    some = read_polygons(file, STRICT)
    assert some.table["IUCN_CAT"].tolist() == ["Ia", "II"]
    assert shapely.bounds(some.shapes).tolist() == [[20, 60, 21, 60.5], [22, 60, 23, 60.5]]


def test_projecting_keeps_the_ground(folder):
    """ETRS89-LAEA is equal-area: a degree by half a degree at 60.25° N is 3,076 km² on GRS 80 (computed with Geod)."""
    from pyproj import Geod

    box = shapely.segmentize(shapely.box(20, 60, 21, 60.5), 0.01)
    expected = abs(Geod(ellps="GRS80").geometry_area_perimeter(box)[0])
    for name in ("a.gpkg", "metres.gpkg"):
        projected = read_polygons(str(folder / name)).projected("EPSG:3035")
        assert shapely.area(projected[0]) == pytest.approx(expected, rel=2e-4)


def test_what_crosses_itself_is_mended(tmp_path):
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    geopandas.GeoDataFrame({"a": [1]}, geometry=[bow], crs=4326).to_file(tmp_path / "bow.gpkg", engine="pyogrio")
    (found,) = read_polygons(str(tmp_path / "bow.gpkg")).shapes
    assert found.is_valid
    assert found.area == pytest.approx(2.0)


def refused(file, where=None):
    with pytest.raises(DataError) as caught:
        read_polygons(str(file), where, "--natural")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_without_crs_is_refused_in_every_format(folder, tmp_path):
    import warnings

    bare = geopandas.read_file(folder / "a.gpkg", engine="pyogrio").set_crs(None, allow_override=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare.to_file(tmp_path / "bare.gpkg", engine="pyogrio")
        bare.to_file(tmp_path / "bare.shp", engine="pyogrio")
    bare.to_parquet(tmp_path / "bare.parquet")
    for name in ("bare.gpkg", "bare.shp", "bare.parquet"):
        assert "no CRS" in refused(tmp_path / name)
        assert "no CRS" in refused(tmp_path / name, STRICT)


@pytest.mark.parametrize("name", NAMES.values())
def test_a_filter_must_match_and_make_sense(folder, name):
    told = refused(folder / name, "IUCN_CAT = 'VI'")
    assert "IUCN_CAT = 'VI'" in told
    assert "IUCN_CAT, WDPAID" in told  # what could be asked for
    for nonsense in ("nothing = 1", "(((", "x" * 3000):
        assert "cannot be carried out" in refused(folder / name, nonsense)


def test_what_is_no_polygon_or_no_layer_is_refused(folder, tmp_path):
    parks = geopandas.read_file(folder / "metres.gpkg", engine="pyogrio")
    parks.set_geometry(parks.centroid).to_file(tmp_path / "points.gpkg", engine="pyogrio")
    assert "layer of polygons" in refused(tmp_path / "points.gpkg")
    for layer in ("one", "two"):
        parks.to_file(tmp_path / "layers.gpkg", layer=layer, engine="pyogrio")
    assert "one, two" in refused(tmp_path / "layers.gpkg")
    parks.iloc[:0].to_file(tmp_path / "empty.gpkg", engine="pyogrio")
    assert "states nothing" in refused(tmp_path / "empty.gpkg")


def test_nothing_leads_elsewhere(folder, tmp_path):
    """No other format, no address, no archive; and a GeoJSON may not name an address as its CRS."""
    source = f"<SrcDataSource>{folder / 'a.gpkg'}</SrcDataSource>"
    vrt = f'<OGRVRTDataSource><OGRVRTLayer name="a">{source}</OGRVRTLayer></OGRVRTDataSource>'
    (tmp_path / "a.vrt").write_text(vrt)
    (tmp_path / "a.gpkg").write_text(vrt)  # whatever its name
    (tmp_path / "a.csv").write_text("WKT,a\nPOINT (0 0),1\n")
    (tmp_path / "stac.geojson").write_text('{"type": "Catalog", "links": []}')
    for name in ("a.vrt", "a.gpkg", "a.csv", "stac.geojson"):
        assert "of no format that is read" in refused(tmp_path / name)
    for name in (
        "/vsicurl/http://127.0.0.1:9/a.gpkg",
        f"GPKG:{folder / 'a.gpkg'}",
        "PG:dbname=x",
        "nowhere.gpkg",
        str(folder),
    ):
        assert "no file" in refused(name)
    parks = json.loads((folder / "a.geojson").read_text())
    parks["crs"] = {"type": "link", "properties": {"href": "http://127.0.0.1:9/crs"}}
    (tmp_path / "link.geojson").write_text(json.dumps(parks))
    assert "address" in refused(tmp_path / "link.geojson")


def test_damaged_files_are_one_line(folder, tmp_path):
    for name in NAMES.values():
        whole = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 3])
        assert refused(tmp_path / name)
    assert np.isfinite(shapely.area(read_polygons(str(folder / "a.shp")).shapes)).all()
