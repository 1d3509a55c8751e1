"""What changed in every polygon, against sums over the intersections of all pixels with it."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from scipy.ndimage import label, uniform_filter

import spacex
from spacex.changes.difference import State
from spacex.changes.site_changes import COLUMNS
from spacex.commands import change as command
from spacex.commands.app import invoke
from spacex.errors import RequestError

from .test_changes import SIDE, area_of, painted, write_cube

EDGE = 9_000
"""Metres east of the corner where the area ends that the cube was asked for."""
CHIP = 128
"""Side of a chip in pixels of 10 m."""


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """Scores that fell in a large and in a small square, and land that is unlike, without data, and outside."""
    area = geopandas.GeoSeries([shapely.box(-3000, -13000, EDGE, 3000)], crs=3035).to_crs(4326)[0]
    about = {"request": {"chips": {"stride": 192, "chip_size": CHIP}, "area": area.__geo_interface__}}
    before = painted(empty=(900, 100, 80, np.nan))
    after = painted(fell=(100, 100, 200, 0.2), small=(400, 400, 8, 0.1), gone=(100, 700, 100, np.nan),
                    empty=(900, 100, 80, np.nan))  # fmt: skip
    before[:, EDGE // 10 :] = after[:, EDGE // 10 :] = np.nan
    unlike = painted(0.3, here=(600, 600, 200, 1.5))
    noise = np.random.default_rng(0).uniform(0.01, 0.03, (SIDE, SIDE)).astype("f4")
    steps = [{"naturalness": before, "naturalness_noise": noise}, {"naturalness": after, "dissimilarity": unlike}]
    return write_cube(str(tmp_path_factory.mktemp("sites") / "c.zarr"), steps, about=about)


def zones_over(*shapes, crs=3035, **columns):
    return geopandas.GeoDataFrame(
        columns or {"name": [f"z{n}" for n in range(len(shapes))]}, geometry=[*shapes], crs=crs
    )


def common_part(picture):
    """What all land's errors share, from every pair of chips' squares that do not touch."""
    with rasterio.open(picture) as file:
        _, change, error, _, state = file.read()
    known = np.isin(state, (State.UNCHANGED, State.CHANGED)) & np.isfinite(change) & np.isfinite(error)
    moved = np.clip(change, -1.645 * error, 1.645 * error)
    rows, cols = (np.arange(side) // (CHIP // 2) for side in state.shape)
    squares = [(known & np.logical_and.outer(rows == r, cols == c), r, c) for r in set(rows) for c in set(cols)]
    squares = [(moved[square].sum(), error[square].sum(), r, c) for square, r, c in squares]
    far = [(a, b) for a in squares for b in squares if max(abs(a[2] - b[2]), abs(a[3] - b[3])) > 1]
    told = sum(a[0] * b[0] for a, b in far) / sum(a[1] * b[1] for a, b in far)
    chips = sum(s[1] for s in squares) ** 2 / sum(s[1] ** 2 for s in squares)
    return min(1, max(0, (0.1 * 100 + told * chips) / (100 + chips)))


def expected(picture, zone):
    """Areas in km² by state, changed hectares, mean change and its error, from every pixel's intersection."""
    with rasterio.open(picture) as file:
        before, change, error, _, state = file.read()
        left, top, size = file.transform.c, file.transform.f, file.transform.a
    rows, cols = (part.ravel() for part in np.indices(state.shape))
    x, y = left + cols * size, top - rows * size
    share = shapely.area(shapely.intersection(shapely.box(x, y - size, x + size, y), zone)) / size**2
    share = share.reshape(state.shape)
    # connected places of a hectare or more are reported
    numbers, _ = label(state == State.CHANGED, np.ones((3, 3)))
    large = np.bincount(numbers.ravel()) * size**2 >= 1e4
    large[0] = False
    compared = share * np.isin(state, (State.UNCHANGED, State.CHANGED))
    error = np.where(compared > 0, error, 0)
    # pairs of squares of half a chip, whose chips overlap the less the further they are apart
    numbers_of = [np.arange(side) // (CHIP // 4) for side in state.shape]
    sums = [np.equal.outer(np.unique(one), one).astype(float) for one in numbers_of]
    overlap = [np.clip(1 - abs(np.subtract.outer(np.unique(one), np.unique(one))) / 2, 0, 1) for one in numbers_of]
    halves = sums[0] @ (compared * error) @ sums[1].T
    common = common_part(picture)
    variance = (1 - common) * (halves * (overlap[0] @ halves @ overlap[1])).sum() + common * halves.sum() ** 2
    pixel = size**2 / 1e6
    return {
        "compared_km2": compared.sum() * pixel,
        "changed_ha": (share * large[numbers]).sum() * pixel * 100,
        "naturalness_before": np.nansum(compared * before) / compared.sum(),
        "change": np.nansum(compared * change) / compared.sum(),
        "change_se": np.sqrt(variance) / compared.sum(),
        "unlike_km2": (share * (state == State.OUTSIDE)).sum() * pixel,
        "one_step_km2": (share * (state == State.ONE_STEP)).sum() * pixel,
    }


def test_numbers_are_those_of_the_pixels_intersections(cube, tmp_path):
    random = np.random.default_rng(3)
    corners = random.uniform((0, -10_000), (EDGE - 200, 0), (12, 3, 2))
    triangles = [shapely.Polygon(points) for points in corners]
    small = shapely.box(1503, -2007, 1511, -1993)  # less than a pixel, within the large square
    zones = zones_over(*triangles, small)
    found = spacex.change(cube, of="naturalness", zones=zones, map=str(tmp_path / "map.tif"))
    assert len(found.places) == 1
    assert found.too_small == 1
    for row in found.sites.itertuples():
        for name, value in expected(tmp_path / "map.tif", row.geometry).items():
            assert getattr(row, name) == pytest.approx(value, rel=1e-4, abs=1e-7), (row.zone, name)
        parts = (row.compared_km2, row.unlike_km2, row.one_step_km2, row.untold_km2, row.no_data_km2, row.outside_km2)
        parts += (row.unmapped_km2,)
        assert sum(parts) == pytest.approx(row.area_km2)
    tiny = found.sites.iloc[-1]
    assert (tiny.changed_share, tiny.places) == (pytest.approx(1), 1)
    assert tiny.change == pytest.approx(-0.4, abs=0.004)
    assert "smaller than a pixel" in tiny.reason
    # noise that is independent between chips averages out
    assert found.sites.change_se[found.sites.compared_km2.idxmax()] < tiny.change_se / 2


def test_errors_of_sites_are_as_large_as_their_differences(tmp_path):
    """Noise from next to none to much by place, a season four times as large, and chips that overlap."""
    random = np.random.default_rng(5)
    drawn = uniform_filter(random.standard_normal((SIDE, SIDE)), CHIP, mode="wrap")
    drawn = np.sqrt(0.9) * drawn / drawn.std() + np.sqrt(0.1)
    noise = np.kron(np.exp(random.uniform(np.log(3e-4), np.log(0.03), (16, 16))), np.ones((64, 64))).astype("f4")
    after = (0.6 + 4 * np.sqrt(2) * noise * drawn).astype("f4")
    about = {"request": {"chips": {"stride": 96, "chip_size": CHIP}, "area": area_of(13_000)}}
    steps = [{"naturalness_noise": noise}, {"naturalness": after, "naturalness_noise": noise}]
    cube = write_cube(str(tmp_path / "c.zarr"), steps, about=about)
    for side in (320, 640, 1280, 2560):
        # halfway between the lattice of the chips, whose place does not matter
        corners = [(x, y) for x in range(640, 10 * SIDE - side, side) for y in range(side + 640, 10 * SIDE, side)]
        squares = zones_over(*[shapely.box(x, -y, x + side, side - y) for x, y in corners])
        sites = spacex.change(cube, of="naturalness", zones=squares).sites
        ratio = (sites.change / sites.change_se).to_numpy()
        assert 0.8 < np.sqrt((ratio**2).mean()) < 1.25, side


def test_every_polygon_has_a_row_and_a_reason(cube, tmp_path):
    inside = shapely.box(4000, -9000, 5000, -8000)
    zones = zones_over(
        inside,
        shapely.box(7000, -1500, 7400, -1100),  # without data in one step
        shapely.box(1000, -9600, 1600, -9200),  # in neither
        shapely.box(6200, -7800, 7800, -6200),  # unlike
        shapely.box(EDGE - 500, -5000, EDGE + 500, -4000),
        shapely.box(50_000, -5000, 51_000, -4000),
        shapely.Polygon(),
        shapely.box(4500, -9000, 5500, -8000),
        zone=[f"site {n}" for n in range(8)],
    )
    table = spacex.change(cube, of="naturalness", zones=zones, table=str(tmp_path / "sites.csv")).sites
    states = ["compared", "not compared", "not compared", "not compared", "partly", "outside", "no polygon", "compared"]
    assert table.state.tolist() == states
    reasons = ["shares land with 1 other", "all of it has data in one step only", "all of it has no data",
               "all of it is unlike", "50 % of it lies outside", "all of it lies outside", "",
               "shares land"]  # fmt: skip
    assert all(reason in got for reason, got in zip(reasons, table.reason, strict=True))
    assert table.zone_of_zone.tolist() == zones["zone"].tolist()
    assert table.columns.drop(["zone_of_zone", "geometry"]).tolist() == list(COLUMNS)
    written = pd.read_csv(tmp_path / "sites.csv")
    assert written.compared_km2.tolist() == pytest.approx(table.compared_km2.tolist())
    # one square kilometre that did not change: a difference of no size, with its error
    assert (written.changed_ha[0], written.change[0]) == (0, pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize("ending", ["gpkg", "parquet"])
def test_the_command_keeps_the_table(cube, tmp_path, capsys, ending):
    zones_over(shapely.box(1000, -3000, 2000, -2000), shapely.box(4000, -9000, 5000, -8000)).to_crs(4326).to_file(
        tmp_path / "zones.gpkg"
    )
    output = str(tmp_path / f"sites.{ending}")
    words = [cube, "--of", "naturalness", "--zones", str(tmp_path / "zones.gpkg"), "--table", output]
    assert invoke(command.app, words) == 0
    said = capsys.readouterr().out
    assert "places changed in 1 of 2 zones\n" in said
    assert said.endswith(f"written: {output}\n")
    table = geopandas.read_parquet(output) if ending == "parquet" else geopandas.read_file(output)
    assert table.changed_ha.tolist() == pytest.approx([100, 0], abs=0.05)
    assert table.crs == "EPSG:4326"


def test_a_geopackage_too_narrow_for_the_attributes_is_refused_before_the_work(cube, tmp_path):
    zones, done = zones_over(shapely.box(0, -10, 10, 0)), []
    zones = zones.join(pd.DataFrame({f"a{number}": [1] for number in range(1990)}, index=zones.index))
    with pytest.raises(RequestError, match="cannot hold the table: got 2,0"):
        spacex.change(cube, of="naturalness", zones=zones, table=str(tmp_path / "t.gpkg"), report=done.append)
    assert not done


def test_a_table_needs_zones(cube, tmp_path):
    with pytest.raises(RequestError, match="table needs zones"):
        spacex.change(cube, table=str(tmp_path / "sites.csv"))
    with pytest.raises(RequestError, match="ending"):
        spacex.change(cube, zones=zones_over(shapely.box(0, -10, 10, 0)), table="sites.xlsx")


def test_the_page_explains_every_column():
    page = (Path(spacex.__file__).parent / "changes/README.md").read_text()
    assert {f"| `{name}` | {what} |" for name, what in COLUMNS.items()} <= set(page.splitlines())
