"""Polygons from outside: all formats give the same, a filter is SQL, and what cannot be read is refused in a line."""

import json
import sqlite3
import zipfile
from contextlib import closing

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from spacex.areas import load_area
from spacex.errors import DataError
from spacex.vector_formats import format_of
from spacex.vectors import read_polygons, read_zones, storable

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
    assert "is empty" in refused(tmp_path / "empty.gpkg")


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


def geojson(**more):
    square = shapely.geometry.mapping(shapely.box(20, 60, 21, 60.5))
    feature = {"type": "Feature", "properties": {}, "geometry": square}
    return {"type": "FeatureCollection", "features": [feature], **more}


def named(crs):
    return {"type": "name", "properties": {"name": crs}}


def also(geometry):
    document = geojson()
    document["features"].append({"type": "Feature", "properties": {}, "geometry": geometry})
    return document


COLLECTION = {"type": "GeometryCollection", "geometries": [geojson()["features"][0]["geometry"]]}
DOCUMENTS = {
    "a byte order mark": geojson(),
    "CRS84": geojson(crs=named("urn:ogc:def:crs:OGC:1.3:CRS84")),
    "CRS84h": geojson(crs=named("urn:ogc:def:crs:OGC::CRS84h")),
    "ETRS89": geojson(crs=named("EPSG:4258")),
    "no CRS at all": geojson(crs=None),
    "a geometry collection": COLLECTION,
    "a feature of one": {"type": "Feature", "properties": None, "geometry": COLLECTION},
    "a stray point": also({"type": "Point", "coordinates": [1, 2]}),
    "a feature without a geometry": also(None),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_areas_and_labels_are_read_alike_from_geojson(tmp_path, name):
    file = tmp_path / "a.geojson"
    file.write_text(json.dumps(DOCUMENTS[name]), "utf-8-sig" if "mark" in name else "utf-8")
    for shape in (load_area(str(file)), *read_polygons(str(file)).shapes):
        assert shape.area == pytest.approx(0.5)


KML = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>{}</Document></kml>'
RING = "<outerBoundaryIs><LinearRing><coordinates>{}</coordinates></LinearRing></outerBoundaryIs>"
PLACEMARK = f"<Placemark><Polygon>{RING}</Polygon></Placemark>"


@pytest.mark.parametrize("name", ["a.fgb", "a.zip", "a.kml", "a.gpkg"])
def test_areas_and_labels_are_read_alike_from_other_formats(folder, tmp_path, name):
    parks = geopandas.read_file(folder / "a.gpkg", engine="pyogrio")
    if name == "a.zip":
        parks.to_file(tmp_path / "parks.shp", engine="pyogrio")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for part in tmp_path.glob("parks.*"):
                archive.write(part, f"WDPA/{part.name}")
    elif name == "a.kml":
        rings = [" ".join(f"{x},{y}" for x, y in shape.exterior.coords) for shape in parks.geometry]
        (tmp_path / name).write_text(KML.format("".join(map(PLACEMARK.format, rings))))
    else:
        parks.to_file(tmp_path / name, engine="pyogrio")
    assert shapely.area(read_polygons(str(tmp_path / name)).shapes).sum() == pytest.approx(1.5)
    assert load_area(str(tmp_path / name)).area == pytest.approx(1.5)


def test_an_area_in_metres_is_read_in_its_crs(folder, tmp_path):
    geopandas.read_file(folder / "metres.gpkg", engine="pyogrio").to_file(tmp_path / "metres.geojson", driver="GeoJSON")
    assert load_area(str(tmp_path / "metres.geojson")).area == pytest.approx(1.5, rel=1e-3)


def test_a_layer_that_gdal_cannot_pass_on_is_refused_with_its_reason(folder, tmp_path):
    """What ogr2ogr calls "3D Unknown (any)"."""
    parks = geopandas.read_file(folder / "a.gpkg", engine="pyogrio")
    parks = parks.set_geometry(shapely.force_3d(parks.geometry.to_numpy(), 5.0), crs=4326)
    parks.to_file(tmp_path / "any.gpkg", engine="pyogrio", geometry_type="Unknown")
    with closing(sqlite3.connect(tmp_path / "any.gpkg")) as database, database:
        database.execute("UPDATE gpkg_geometry_columns SET z = 1")
    assert "Geometry type is not supported" in refused(tmp_path / "any.gpkg")


@pytest.fixture
def shapefile(tmp_path):
    """300 parks as a Shapefile."""
    boxes = [shapely.box(i / 10, 60, i / 10 + 0.05, 60.5) for i in range(300)]
    geopandas.GeoDataFrame({"IUCN_CAT": ["II"] * 300}, geometry=boxes, crs=4326).to_file(tmp_path / "a.shp")
    return tmp_path / "a.shp"


@pytest.mark.parametrize("ending", [".shp", ".shx", ".dbf"])
def test_a_shapefile_of_which_a_part_is_cut_is_refused(shapefile, ending):
    """GDAL reads the missing shapes as null, the missing attributes as nothing, and says nothing."""
    part = shapefile.with_suffix(ending)
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    assert "is cut short" in refused(shapefile)
    assert ending in refused(shapefile)


def test_gdal_says_why_a_damaged_file_cannot_be_read(shapefile, folder, tmp_path):
    shapefile.with_suffix(".shx").unlink()
    assert "SHAPE_RESTORE_SHX" in refused(shapefile)
    whole = (folder / "a.gpkg").read_bytes()
    (tmp_path / "torn.gpkg").write_bytes(whole[: len(whole) // 2])
    assert "of no format" not in refused(tmp_path / "torn.gpkg")
    assert "got" in refused(tmp_path / "torn.gpkg")


def test_features_without_a_polygon_are_counted_and_told(tmp_path, caplog):
    parks = geopandas.GeoDataFrame({"a": [1, 2, 3]}, geometry=[shapely.box(0, 0, 1, 1), None, shapely.Point(1, 1)])
    parks.set_crs(4326).to_file(tmp_path / "a.geojson", driver="GeoJSON")
    assert len(read_polygons(str(tmp_path / "a.geojson"), what="--natural")) == 1
    assert "--natural: 2 of 3 features have no polygon" in caplog.text


STRANGE = {
    "fid": [7, 7, 9], "Name": ["x", "y", "z"], "name": ["p", "q", "r"], "tall": np.array([1, 2, 3], np.float16),
    "age": pd.to_timedelta([1, 2, 3], unit="D"), "large": np.array([1, 2, 2**63 + 1], np.uint64),
    "IUCN_CAT": pd.Categorical(["II", "V", "II"]), "list": [[1], [2], [3]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "rows"),
    [("IUCN_CAT = 'II'", [0, 2]), ("fid = 7", [0, 1]), ("Name = 'y'", [1]), ("name = 'p'", [0]), ("tall > 1.5", [1, 2]),
     ("large > 5", [2]), ("age >= 172800", [1, 2]), ("fid = 7 AND IUCN_CAT = 'II'", [0])],
)  # fmt: skip
def test_a_filter_works_whatever_columns_a_geoparquet_has(tmp_path, where, rows):
    boxes = [shapely.box(i, 0, i + 1, 1) for i in range(3)]
    geopandas.GeoDataFrame(STRANGE, geometry=boxes, crs=4326).to_parquet(tmp_path / "a.parquet")
    read = read_polygons(str(tmp_path / "a.parquet"), where)
    assert shapely.bounds(read.shapes)[:, 0].tolist() == rows
    assert read.table["list"].map(list).tolist() == [[row + 1] for row in rows]


@pytest.mark.parametrize("name", [7, None, ("level", 1), 2.5])
def test_columns_of_a_table_in_memory_are_called_by_text(name):
    table = geopandas.GeoDataFrame({name: [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    assert read_zones(table).table.columns.tolist() == ["level_1" if isinstance(name, tuple) else str(name)]


def test_columns_of_one_name_are_refused():
    table = geopandas.GeoDataFrame({1: [1], "1": [2]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    with pytest.raises(DataError, match=r"two columns of one name.*got 1"):
        read_zones(table)


@pytest.mark.parametrize(
    "zones",
    [shapely.box(0, 0, 1, 1), [shapely.box(0, 0, 1, 1)], pd.DataFrame({"a": [1]}), geopandas.GeoDataFrame({"a": [1]}),
     geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326)],
)  # fmt: skip
def test_what_is_no_table_of_polygons_is_refused(zones):
    with pytest.raises(DataError, match=r"no table of polygons.*expected a GeoDataFrame"):
        read_zones(zones)


def test_complex_values_are_stored_as_text():
    assert storable(pd.Series([1 + 2j])).tolist() == ["(1+2j)"]
