"""Areas by name, from GeoJSON and as boxes; every refusal says what is wrong."""

from __future__ import annotations

import json

import pytest
import shapely
from odc.geo import Geometry
from shapely.geometry import Point, mapping

from spacex.areas import AREAS, box_area, load_area
from spacex.errors import RequestError

SQUARE = shapely.box(24, 68, 25, 69)


def save(tmp_path, document):
    path = tmp_path / "area.geojson"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def square_kilometres(area):
    return Geometry(area, "EPSG:4326").to_crs("EPSG:3035").area / 1e6


# Total areas (land and fresh water) as the statistical offices publish them: SSB, SCB and Statistics Finland.
PUBLISHED = [("norway", 323_787), ("sweden", 447_424), ("finland", 338_478)]


@pytest.mark.parametrize(("name", "published"), PUBLISHED)
def test_countries_have_their_published_size(name, published):
    assert square_kilometres(load_area(name)) == pytest.approx(published, rel=0.02)


def test_fennoscandia_is_the_three_countries_without_overlap():
    parts = [square_kilometres(load_area(name)) for name in AREAS if name != "fennoscandia"]
    assert square_kilometres(load_area("Fennoscandia")) == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize(
    ("lon", "lat", "home"),
    [
        (10.75, 59.91, "norway"),  # Oslo
        (25.75, 71.05, "norway"),  # Magerøya, the island of the North Cape
        (30.0, 69.65, "norway"),  # Sør-Varanger, beyond Finland
        (18.06, 59.4, "sweden"),  # Stockholm
        (18.5, 57.5, "sweden"),  # Gotland
        (13.2, 58.9, "sweden"),  # on lake Vänern: lakes belong to the area
        (24.94, 60.25, "finland"),  # Helsinki
        (19.9, 60.2, "finland"),  # Åland
        (33.0, 68.5, None),  # Kola
        (14.9, 55.1, None),  # Bornholm is Danish
        (16.0, 78.5, None),  # Svalbard stays out
    ],
)
def test_places_lie_in_their_country(lon, lat, home):
    inside = {name for name in AREAS if load_area(name).contains(Point(lon, lat))}
    assert inside == ({home, "fennoscandia"} if home else set())


def test_geometry_feature_and_collection_give_the_same_area(tmp_path):
    geometry = mapping(SQUARE)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    collection = {"type": "FeatureCollection", "features": [feature, {**feature, "geometry": None}]}
    for document in (geometry, feature, collection):
        assert load_area(save(tmp_path, document)).equals(SQUARE)


def test_overlapping_polygons_are_joined(tmp_path):
    halves = [shapely.box(24, 68, 24.6, 69), shapely.box(24.4, 68, 25, 69)]
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(half)} for half in halves]
    area = load_area(save(tmp_path, {"type": "FeatureCollection", "features": features}))
    assert area.geom_type == "Polygon"
    assert area.equals(SQUARE)


def test_a_bow_tie_becomes_its_two_triangles(tmp_path):
    bow = shapely.Polygon([(24, 68), (25, 69), (25, 68), (24, 69)])
    area = load_area(save(tmp_path, mapping(bow)))
    assert area.is_valid
    assert area.area == pytest.approx(0.5)


def test_heights_are_dropped(tmp_path):
    assert not load_area(save(tmp_path, mapping(shapely.force_3d(SQUARE, 100.0)))).has_z


def test_a_crs_member_that_means_longitude_and_latitude_is_accepted(tmp_path):
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert load_area(save(tmp_path, {**mapping(SQUARE), "crs": crs})).equals(SQUARE)


EMPTY = {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (EMPTY, "is empty"),
        ({"type": "Polygon", "coordinates": []}, "is empty"),
        (mapping(shapely.box(24, 68, 25, 95)), "latitude 95"),
        (mapping(shapely.box(24, 68, 190, 69)), "longitude 190"),
        (mapping(Point(24, 68)), "holds no polygon.*got Point"),
        ({"type": "LineString", "coordinates": [[24, 68], [25, 69]]}, "got LineString"),
        ({"type": "Polygon", "coordinates": "here"}, "not GeoJSON"),
        ({"type": "FeatureCollection", "features": [7]}, "not GeoJSON"),
        ({"type": "FeatureCollection"}, "not GeoJSON"),
        ({"no": "type"}, "not GeoJSON"),
        ([1, 2], "a JSON list"),
        ("not json", "cannot be read"),
    ],
)
def test_what_is_no_area_is_refused_with_its_reason(tmp_path, document, message):
    with pytest.raises(RequestError, match=message):
        load_area(save(tmp_path, document))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(RequestError, match="got atlantis; expected fennoscandia, finland, norway, sweden"):
        load_area("atlantis")


def test_a_folder_is_not_an_area(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        load_area(str(tmp_path))


def test_a_box_is_the_box():
    assert box_area(24, 68, 25, 69).equals(SQUARE)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((25, 68, 24, 69), "west edge east of"),
        ((24, 68, 24, 69), "west edge east of"),
        ((24, 69, 25, 68), "south edge north of"),
        ((24, 68, 25, 95), "latitude 95"),
        ((-190, 68, 25, 69), "longitude -190"),
        ((24, float("nan"), 25, 69), "not numbers"),
    ],
)
def test_boxes_that_are_none_are_refused(box, message):
    with pytest.raises(RequestError, match=message):
        box_area(*box)


def polygon(*corners):
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


EAST, WEST = (shapely.box(170, 65, 180, 70), shapely.box(-180, 65, -170, 70))  # Chukotka, cut as RFC 7946 wants
CROSSING = {
    "one ring, not cut": polygon([175, 65], [-175, 65], [-175, 70], [175, 70]),
    "cut in two": mapping(shapely.MultiPolygon([EAST, WEST])),
    "two features": {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": mapping(part)} for part in (EAST, WEST)],
    },
    "beyond 180": polygon([175, 65], [185, 65], [185, 70], [175, 70]),
}


@pytest.mark.parametrize("name", CROSSING)
def test_an_area_across_the_180th_meridian_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match=r"180° meridian.*separately"):
        load_area(save(tmp_path, CROSSING[name]))


def test_either_side_of_the_180th_meridian_can_be_mapped(tmp_path):
    for part in (EAST, WEST):
        assert load_area(save(tmp_path, mapping(part))).equals(part)
        assert box_area(*part.bounds).equals(part)


@pytest.mark.parametrize("box", [(175, 65, -175, 70), (175, 65, 185, 70), (-180, 65, 180, 70)])
def test_a_box_across_the_180th_meridian_is_refused(box):
    with pytest.raises(RequestError, match=r"180"):
        box_area(*box)


@pytest.mark.parametrize("name", ["park.gpkg", "park.shp", "park.parquet"])
def test_other_files_of_polygons_in_any_crs(tmp_path, name):
    """A square kilometre in Finland's own CRS, in two halves."""
    import geopandas

    halves = [shapely.box(400_000, 7_500_000, 400_500, 7_501_000), shapely.box(400_500, 7_500_000, 401_000, 7_501_000)]
    table = geopandas.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs="EPSG:3067")
    table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_file(tmp_path / name)
    area = load_area(str(tmp_path / name))
    assert area.geom_type == "Polygon"
    back = geopandas.GeoSeries([area], crs="EPSG:4326").to_crs("EPSG:3067")[0]
    assert back.symmetric_difference(shapely.box(400_000, 7_500_000, 401_000, 7_501_000)).area < 100.0


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_table_without_a_crs_is_refused(tmp_path):
    import geopandas

    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]).to_file(tmp_path / "nowhere.shp")
    with pytest.raises(RequestError, match="no CRS"):
        load_area(str(tmp_path / "nowhere.shp"))
