"""Tables of sites against sums over every pixel's intersection with the polygon, made without the code under test."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import rasterize

import spacex
from spacex.commands.app import invoke
from spacex.commands.sites import app
from spacex.cube.overviews import make_overviews
from spacex.cube.site_files import MOST_COLUMNS
from spacex.cube.sites import COLUMNS, LAND_COVER_COLUMNS
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.cube.zonal import zone_blocks
from spacex.errors import DataError, RequestError
from spacex.execution.tasks import Status, TileTask
from spacex.vectors import read_polygons

from .conftest import SPEC as TWO_STEPS

SPEC = TWO_STEPS.model_copy(
    update={"maps": {"lift": "random numbers"}, "dissimilarity": "random numbers", "display": ("B04",)}
)
LEFT, TOP = 4_600_000, 4_400_000
"""Upper-left corner of the extent in metres."""
WORLD = shapely.box(0, 50, 40, 75).__geo_interface__
SCENES = [
    {"id": "early", "datetime": "2020-07-03T10:00:00Z", "used_share": 0.2},
    {"id": "main", "datetime": "2020-07-20T10:00:00Z", "used_share": 0.7},
    {"id": "late", "datetime": "2020-08-02T10:00:00Z", "used_share": 0.1},
    {"id": "none", "datetime": "2020-08-25T10:00:00Z", "used_share": 0.0},
]


def filled(uri, area=WORLD, spec=SPEC):
    """A cube of random values; of its tiles the upper right one is failed, that below it has no data."""
    cube = create_cube(
        uri,
        spec,
        "0123",
        {
            "title": "test",
            "request": {"area": area, "chips": {"chip_size": 128}},
            "checkpoint": {"preset": "delta", "data": {"name": "demo"}},
        },
    )
    for step in range(len(spec.intervals)):
        for row, col in cube.spec.tiling:
            task = TileTask(step, row, col)
            rng = np.random.default_rng([step, -row, col])
            shape = (spec.tile_size, spec.tile_size)
            values = {name: rng.random(shape, dtype=np.float32) for name in ("lift", "naturalness", "dissimilarity")}
            values["dissimilarity"] *= 1.2
            for array in values.values():
                array[100:130, :] = np.nan
            observations = np.where(np.isnan(values["lift"]), 0, rng.integers(1, 9, shape)).astype("u2")
            status = {(0, 2): Status.FAILED, (1, 2): Status.NO_DATA}.get(cube.position(task)[1:], Status.DONE)
            if status is Status.DONE:
                cube.write(task, TileMaps(values, observations, np.full((1, *shape), 0.1, "f4")))
            cube.finish(task, status, {"scenes": SCENES})
    return cube


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    return filled(str(tmp_path_factory.mktemp("sites") / "c.zarr"))


def stored(cube, name, step=0):
    """A map over the extent, decoded by xarray rather than by the code under test."""
    return spacex.open_cube(cube.uri)[name].isel(time=step).values


def frame(*shapes, **columns):
    return geopandas.GeoDataFrame(columns or {"name": range(len(shapes))}, geometry=list(shapes), crs="EPSG:3035")


def place(*points):
    """A polygon from columns and rows of the extent, in pixels."""
    return shapely.Polygon([(LEFT + 10 * x, TOP - 10 * y) for x, y in points])


def shares(polygon):
    """How much of every pixel of the extent a polygon covers: area of the intersection of two polygons."""
    found = np.zeros(SPEC.extent[2:])
    left, bottom, right, top = polygon.bounds
    cols = np.arange(max(0, int((left - LEFT) // 10)), min(found.shape[1], int((right - LEFT) // 10) + 1))
    rows = np.arange(max(0, int((TOP - top) // 10)), min(found.shape[0], int((TOP - bottom) // 10) + 1))
    x, y = np.meshgrid(LEFT + 10 * cols, TOP - 10 * rows)
    boxes = shapely.box(x, y - 10, x + 10, y)
    found[np.ix_(rows, cols)] = shapely.area(shapely.intersection(boxes, polygon)) / 100
    return found


triangles = st.lists(st.tuples(st.floats(440, 560), st.floats(60, 180)), min_size=3, max_size=3)


@given(points=triangles)
def test_numbers_are_those_of_the_pixels_intersections(cube, points):
    polygon = place(*points)
    if polygon.area < 1:
        return
    (row, _) = spacex.sites(cube.uri, zones=frame(polygon)).table.to_dict("records")
    weights, scores = shares(polygon), stored(cube, "naturalness")
    known = np.isfinite(scores)
    area = weights[known].sum()
    assert row["area_km2"] == pytest.approx(polygon.area / 1e6)
    assert row["mapped_km2"] == pytest.approx(area * 1e-4, rel=1e-5, abs=1e-10)
    assert row["no_data_km2"] == pytest.approx(weights[~known].sum() * 1e-4, rel=1e-5, abs=1e-9)
    assert row["outside_km2"] == 0
    if area < 1e-3:
        return
    mean = (weights * np.nan_to_num(scores)).sum() / area
    assert row["naturalness_mean"] == pytest.approx(mean, rel=1e-4)
    assert row["natural_share"] == pytest.approx(weights[scores > 0.5].sum() / area, abs=1e-4)
    # half of the area lies at or below the median, and no more than half below it
    median = np.float32(row["naturalness_median"])
    assert weights[scores <= median + 1e-6].sum() >= area / 2 - 1e-3
    assert weights[scores < median - 1e-6].sum() <= area / 2 + 1e-3
    lift = (weights * np.nan_to_num(stored(cube, "lift"))).sum() / (area * 1e-4)
    assert row["lift_per_km2"] == pytest.approx(lift, rel=1e-4)
    unlike = weights[stored(cube, "dissimilarity") > 1].sum() * 1e-4
    assert row["unlike_km2"] == pytest.approx(unlike, rel=1e-4, abs=1e-9)
    observations = stored(cube, "observations")
    assert row["observations_mean"] == pytest.approx((weights * known * observations).sum() / area, rel=1e-4)
    assert row["observations_least"] == observations[(weights > 1e-6) & known].min()


def test_a_mean_is_that_of_twenty_by_twenty_points_in_every_pixel(cube):
    polygon = place((400.3, 20.2), (560.7, 60.1), (520.5, 200.9), (380.1, 140.4))
    table = spacex.sites(cube.uri, zones=frame(polygon)).table
    grid = rasterio.Affine(0.5, 0, LEFT, 0, -0.5, TOP)
    inside = rasterize([polygon], (20 * 220, 20 * 600), transform=grid).reshape(220, 20, 600, 20).sum(axis=(1, 3))
    for step in (0, 1):
        scores = stored(cube, "naturalness", step)[:220, :600]
        expected = np.nansum(inside * scores) / inside[np.isfinite(scores)].sum()
        assert table["naturalness_mean"][step] == pytest.approx(expected, abs=2e-4)
    assert table["first_day"].tolist() == ["2020-07-01", "2021-07-01"]


def test_every_polygon_has_a_row_and_a_reason(cube):
    zones = frame(
        place((10, 10), (60, 10), (60, 60), (10, 60)),
        place((-20, 10), (20, 10), (20, 50), (-20, 50)),
        place((-900, 10), (-800, 10), (-800, 50)),
        place((300.2, 230.2), (300.6, 230.2), (300.6, 230.7), (300.2, 230.7)),
        place((100, 230), (140, 270), (140, 230), (100, 270)),
        place((50, 20), (90, 20), (90, 60), (50, 60)),
        place((820, 20), (880, 20), (880, 80)),
        place((820, 620), (880, 620), (880, 680)),
        shapely.Point(LEFT, TOP),
        None,
        shapely.Polygon(),
        NAME=[f"site {i}" for i in range(11)],
    )
    table = spacex.sites(cube.uri, zones=zones).table
    first = table[table.first_day == "2020-07-01"].set_index("zone")
    assert first.state.to_dict() == {
        1: "mapped", 2: "partly", 3: "outside", 4: "mapped", 5: "mapped", 6: "mapped", 7: "unfinished", 8: "no data",
        9: "no polygon", 10: "no polygon", 11: "no polygon",
    }  # fmt: skip
    assert "50 % of it lies outside the cube" in first.reason[2]
    assert first.reason[3] == "all of it lies outside the cube"
    assert first.reason[4].startswith("it is smaller than a pixel (0.2 of one)")
    assert "Self-intersection" in first.reason[5]
    assert "mended" in first.reason[5]
    assert "shares land with 2 other zones" in first.reason[1]  # zone 2 and zone 6
    assert first.overlapping.tolist() == [2, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert "is not mapped yet" in first.reason[7]
    assert "has no data" in first.reason[8]
    assert (first.reason[9], first.reason[10]) == ("it is no polygon but a Point", "it has no geometry")
    assert first.NAME.tolist() == zones.NAME.tolist()
    assert set(COLUMNS) <= set(table.columns)
    parts = first[["mapped_km2", "no_data_km2", "unfinished_km2", "outside_km2"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(first.area_km2.to_numpy(), rel=1e-5)


def test_a_zone_over_all_tiles_is_the_sum_of_its_parts(cube):
    whole = place((-5, -5), (1105, -5), (1105, 705), (-5, 705))
    halves = [whole.intersection(shapely.box(0, 0, LEFT + 4444.4, 9e6)),
              whole.intersection(shapely.box(LEFT + 4444.4, 0, 9e6, 9e6))]  # fmt: skip
    table = spacex.sites(cube.uri, zones=frame(whole, *halves)).table
    first = table[table.first_day == "2020-07-01"]
    for name in ("area_km2", "mapped_km2", "no_data_km2", "unfinished_km2", "outside_km2", "unlike_km2"):
        one, *parts = first[name]
        assert sum(parts) == pytest.approx(one, rel=1e-6), name
    scores = stored(cube, "naturalness")
    assert first["mapped_km2"].iloc[0] == pytest.approx(np.isfinite(scores).sum() * 1e-4)
    assert first["naturalness_mean"].iloc[0] == pytest.approx(np.nanmean(scores.astype("f8")), rel=1e-6)
    assert first["naturalness_median"].iloc[0] == pytest.approx(np.nanmedian(scores), abs=1e-6)


def test_pixels_outside_the_area_asked_for_are_outside(tmp_path):
    corner = rasterio.warp.transform_geom("EPSG:3035", "EPSG:4326", place((0, 0), (200, 0), (200, 200), (0, 200)))
    cube = filled(str(tmp_path / "c.zarr"), corner)
    zone = place((150, 150), (250, 150), (250, 250), (150, 250))
    row = spacex.sites(cube.uri, zones=frame(zone)).table.iloc[0]
    assert row.state == "partly"
    assert row.mapped_km2 == pytest.approx(0.25, rel=0.01)
    assert row.outside_km2 == pytest.approx(0.75, rel=0.01)


def test_scenes_are_those_that_were_used(cube):
    row = spacex.sites(cube.uri, zones=frame(place((10, 10), (60, 10), (60, 60)))).table.iloc[0]
    assert (row.scenes, row.first_scene, row.middle_scene, row.last_scene) == (
        3, "2020-07-03", "2020-07-20", "2020-08-02",
    )  # fmt: skip
    assert row.scene_days == 30


@pytest.fixture
def cover(tmp_path):
    """Peat bog in the west of column 300, pasture in the east of it, as grid codes of 100 m."""
    file = tmp_path / "corine.tif"
    codes = np.where(np.arange(110) < 30, 36, 18).astype("u1") * np.ones((70, 1), "u1")
    grid = rasterio.Affine(100, 0, LEFT, 0, -100, TOP)
    with rasterio.open(file, "w", driver="GTiff", width=110, height=70, count=1, dtype="uint8", crs="EPSG:3035",
                       transform=grid, nodata=0) as sink:  # fmt: skip
        sink.write(codes, 1)
    return str(file)


def test_lift_is_told_apart_by_land_cover(cube, cover):
    polygon = place((120.5, 140), (470, 140), (470, 440), (120.5, 440))
    made = spacex.sites(cube.uri, zones=frame(polygon), by=cover)
    land = made.land_cover.query("first_day == '2020-07-01'").set_index("class")
    assert list(made.land_cover.columns) == list(LAND_COVER_COLUMNS)
    assert land.class_name.to_dict() == {231: "Pastures", 412: "Peat bogs"}
    weights, lift = shares(polygon), np.nan_to_num(stored(cube, "lift"))
    weights[np.isnan(stored(cube, "lift"))] = 0
    bog = weights * (np.arange(1100) < 300)
    row = land.loc[412]
    assert row.mapped_km2 == pytest.approx(bog.sum() * 1e-4, rel=1e-5)
    assert row.area_share == pytest.approx(bog.sum() / weights.sum(), rel=1e-5)
    assert row.lift_per_km2 == pytest.approx((bog * lift).sum() / (bog.sum() * 1e-4), rel=1e-5)
    assert row.lift_share == pytest.approx((bog * lift).sum() / (weights * lift).sum(), rel=1e-5)
    assert row.lift_excess == pytest.approx(row.lift_share - row.area_share)
    assert land.lift_excess.sum() == pytest.approx(0, abs=1e-9)
    # lift is noise here: no class carries more of it than of the land, and the interval says so
    assert row.lift_excess_low < 0 < row.lift_excess_high
    assert row.lift_per_km2_low < row.lift_per_km2 < row.lift_per_km2_high
    whole = made.table.iloc[0]
    assert whole.lift_per_km2 == pytest.approx((weights * lift).sum() / (weights.sum() * 1e-4), rel=1e-5)
    # rows 140 to 440 of the extent are in four rows of the lattice of 128 pixels, or fewer
    chips = {(r // 128, c // 128) for r in range(-440_000 + 140, -440_000 + 440) for c in range(460_120, 460_470)}
    assert whole.lift_squares == len(chips)


def test_an_interval_finds_a_class_that_carries_the_lift(tmp_path, cover):
    spec = SPEC.model_copy(update={"intervals": SPEC.intervals[:1]})
    cube = filled(str(tmp_path / "c.zarr"), spec=spec)
    for row, col in spec.tiling:
        task = TileTask(0, row, col)
        window = cube.window(task)
        lift = np.broadcast_to(np.where(np.arange(window.col, window.stop_col) < 460_300, 3.0, 1.0), window.shape)
        ones = np.ones(window.shape, "f4")
        maps = {"lift": lift.astype("f4"), "naturalness": ones, "dissimilarity": ones}
        cube.write(task, TileMaps(maps, np.ones(window.shape, "u2"), ones[None]))
    zone = place((0, 140), (600, 140), (600, 500), (0, 500))
    land = spacex.sites(cube.uri, zones=frame(zone), by=cover).land_cover.set_index("class")
    assert land.lift_excess[412] == pytest.approx(0.75 - 0.5)
    assert land.lift_excess_low[412] > 0
    assert land.lift_excess_high[231] < 0


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "csv"])
def test_files_hold_the_table_its_outlines_and_their_crs(cube, cover, tmp_path, ending):
    zones = frame(place((10, 10), (60, 10), (60, 60)), shapely.Point(LEFT, TOP), name=["å", None], NAME=[1, 2],
                  Area_km2=[[1], {}]).to_crs("EPSG:3067")  # fmt: skip
    spacex.sites(cube.uri, zones=zones, by=cover, output=f"{tmp_path}/t.{ending}")
    if ending == "csv":
        text = (tmp_path / "t.csv").read_text()
        assert text.splitlines()[0].startswith("zone,name,NAME_of_zone,Area_km2_of_zone,state,reason,")
        assert (tmp_path / "t.land_cover.csv").exists()
        return
    found = read_polygons(str(tmp_path / f"t.{ending}"), keep_all=True)
    assert found.crs == "EPSG:3067"
    assert found.table["name"].tolist()[:2] == ["å", "å"]
    assert found.shapes[0].equals_exact(zones.geometry.iloc[0], 1e-6)
    assert len(found) == 4


def test_every_site_has_a_page_with_its_numbers_and_the_index_leads_there(cube, cover, tmp_path):
    make_overviews(cube)
    zones = frame(place((100, 200), (160, 200), (160, 250)), place((-900, 10), (-800, 10), (-800, 50)),
                  NAME=["<Aapa>", None])  # fmt: skip
    made = spacex.sites(cube.uri, zones=zones, by=cover, pages=f"{tmp_path}/pages")
    index, page, empty = ((tmp_path / "pages" / name).read_text() for name in ("index.html", "0001.html", "0002.html"))
    assert '<a href="0001.html">&lt;Aapa&gt;</a>' in index
    assert '<a href="0002.html">Site 2</a></td><td>outside</td>' in index
    assert "data:image/png;base64," in page
    assert "Nothing of this site is mapped" in empty
    for step in (0, 1):
        assert f'<td class="number">{made.table.naturalness_mean[step]:.3g}</td>' in page
    assert "Peat bogs" in page
    assert not [link for link in ("http://", "https://", "<script") if link in page]


def test_the_end_of_the_run_counts_the_states(cube, tmp_path, capsys):
    zones = frame(place((10, 10), (60, 10), (60, 60)), place((-900, 10), (-800, 10), (-800, 50)))
    zones.to_file(tmp_path / "z.gpkg")
    assert (
        invoke(app, [cube.uri, "--zones", f"{tmp_path}/z.gpkg", "--output", f"{tmp_path}/t.csv"], "spacex sites") == 0
    )
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}/t.csv\n"
    assert "2 zones at 2 time steps: 2 mapped, 2 outside" in told.err
    assert "  zone 2, 2020-07-01: outside: all of it lies outside the cube\n" in told.err


def test_the_page_explains_every_column():
    page = (Path(spacex.__file__).parent / "cube/README.md").read_text()
    rows = {f"| `{name}` | {what} |" for name, what in (*COLUMNS.items(), *LAND_COVER_COLUMNS.items())}
    assert rows <= set(page.splitlines())


def test_a_geopackage_too_narrow_for_the_attributes_is_refused_before_the_work(cube, tmp_path):
    zones, done = frame(place((1, 1), (2, 1), (2, 2))), []
    names = [f"a{number}" for number in range(MOST_COLUMNS - len(COLUMNS))]
    zones = zones[["geometry"]].join(pd.DataFrame(1.0, columns=names, index=zones.index))
    spacex.sites(cube.uri, zones=zones, output=f"{tmp_path}/t.gpkg")
    assert len(pyogrio.read_info(tmp_path / "t.gpkg")["fields"]) == MOST_COLUMNS
    with pytest.raises(RequestError, match="cannot hold the table: got 1,999 columns"):
        spacex.sites(cube.uri, zones=zones.assign(more=1), output=f"{tmp_path}/u.gpkg", report=done.append)
    assert not done


def test_what_cannot_be_made_is_refused(cube, cover, tmp_path):
    with pytest.raises(DataError, match="holds no polygon"):
        spacex.sites(cube.uri, zones=frame(shapely.Point(0, 0)))
    with pytest.raises(RequestError, match="ending that says its format"):
        spacex.sites(cube.uri, zones=frame(place((1, 1), (2, 1), (2, 2))), output=f"{tmp_path}/t.xlsx")
    spec = SPEC.model_copy(update={"maps": {}})
    bare = create_cube(str(tmp_path / "bare.zarr"), spec, "0", {"request": {"area": WORLD}})
    with pytest.raises(RequestError, match="no lift"):
        spacex.sites(bare.uri, zones=frame(place((1, 1), (2, 1), (2, 2))), by=cover)


@pytest.mark.parametrize("tile_size", [512, 1536, 4096])
def test_blocks_hold_every_zone_once_whatever_the_tiles(tmp_path, tile_size):
    spec = SPEC.model_copy(update={"tile_size": tile_size, "extent": (-440_000, 460_000, 3000, 5000)})
    cube = create_cube(str(tmp_path / "c.zarr"), spec, "0", {"request": {"area": WORLD}})
    zones = np.array([place((10, 10), (4900, 1500), (30, 2990)), place((100.5, 100), (101, 100), (101, 101))], object)
    total = np.zeros(2)
    for block in zone_blocks(Cube(cube.uri), zones):
        assert max(block.window.shape) <= 2048
        total += np.bincount(block.pixels.zones, block.pixels.shares, 2)
        assert block.areas == pytest.approx(np.bincount(block.pixels.zones, block.pixels.shares, 2)[block.zones])
    assert total == pytest.approx(shapely.area(zones) / 100, rel=1e-5)
