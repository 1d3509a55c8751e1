"""Change between two time steps of cubes whose values, and whose changes, are known."""

import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from scipy.stats import chi2

import spacex
from spacex.changes.difference import QUANTUM, Comparison, State, Step
from spacex.changes.fit import CELL, exceedances, haze_colour
from spacex.changes.places import MEASURED, MEASURED_OF_SCORES
from spacex.commands import change as command
from spacex.commands.app import invoke
from spacex.cube.layout import CubeSpec
from spacex.cube.overviews import make_overviews
from spacex.cube.store import Cube, TileMaps, create_cube
from spacex.errors import CubeError, RequestError
from spacex.execution.tasks import Status, TileTask
from spacex.model_card import Card, Scaling
from spacex.models.classifier import ClassifierSettings

SIDE = 1024
DAYS = (("2019-07-01", "2019-08-31"), ("2024-07-01", "2024-08-31"))


def area_of(width):
    """What is asked for of a cube: so many metres from its left, in degrees."""
    boxes = geopandas.GeoSeries([shapely.box(-3000, -13000, width, 3000)], crs=3035)
    return boxes.to_crs(4326)[0].__geo_interface__


ABOUT = {"request": {"chips": {"stride": 192}, "area": area_of(13_000)}}


def write_cube(uri, steps, *, noise=True, dissimilar=True, intervals=DAYS, crs="EPSG:3035", about=ABOUT,
               display=("B04", "B03", "B02")):  # fmt: skip
    """A cube of one tile with the maps of each time step; naturalness 0.6 and noise 0.02 where a step says nothing."""
    maps = {"naturalness_noise": "drawn by a test"} if noise else {}
    spec = CubeSpec(
        crs=crs, resolution=10, extent=(0, 0, SIDE, SIDE), tile_size=SIDE, intervals=intervals, maps=maps,
        dissimilarity="drawn by a test" if dissimilar else "", display=display,
    )  # fmt: skip
    cube = create_cube(uri, spec, "0123", about)
    for number, step in enumerate(steps):
        flat = {"naturalness": 0.6, "naturalness_noise": 0.02, "dissimilarity": 0.3}
        values = {name: step.get(name, np.full((SIDE, SIDE), level, "f4")) for name, level in flat.items()}
        composite = step.get("composite", np.full((3, SIDE, SIDE), 0.1, "f4"))
        cube.write(TileTask(number, 0, 0), TileMaps(values, np.ones((SIDE, SIDE), "u2"), composite))
        cube.finish(TileTask(number, 0, 0), Status.DONE, {})
    make_overviews(cube)
    return uri


def painted(level=0.6, **squares):
    """A map with squares (row, col, side) of other values."""
    values = np.full((SIDE, SIDE), level, "f4")
    for row, col, side, value in squares.values():
        values[row : row + side, col : col + side] = value
    return values


@pytest.fixture(scope="module")
def summers(tmp_path_factory):
    """Ground of three bands in two summers: the later one brighter and hazier by place, with noise of its own."""
    random = np.random.default_rng(4)
    coarse = np.kron(random.uniform(0.02, 0.1, (64, 64)), np.ones((16, 16)))
    ground = np.stack([coarse * tone for tone in (1.0, 0.8, 0.6)])
    across = np.linspace(0, 1, SIDE)[None, None, :]
    later = ground * (1.1 - 0.1 * across) + 0.01 * across

    def seen(reflectance, seed):
        return (reflectance + np.random.default_rng(seed).normal(0, 0.003, reflectance.shape)).astype("f4")

    changed = later.copy()
    changed[:, 300:320, 300:320] = [[[0.12]], [[0.10]], [[0.08]]]
    changed[:, 700:704, 100:104] = 0.3
    folder = tmp_path_factory.mktemp("summers")
    same = write_cube(str(folder / "same.zarr"), [{"composite": seen(ground, 1)}, {"composite": seen(later, 2)}])
    cut = write_cube(str(folder / "cut.zarr"), [{"composite": seen(ground, 1)}, {"composite": seen(changed, 3)}])
    return same, cut


def test_a_place_without_mapped_noise_has_no_error_and_the_order_of_steps_does_not_matter(tmp_path):
    """Pixels with one observation in a step have no noise. A warning of numpy's would be an error here."""
    random = np.random.default_rng(7).normal(0.1, 0.003, (2, 3, SIDE, SIDE)).astype("f4")
    random[1, :, 300:320, 300:320] = 0.3
    noise = painted(0.02, here=(290, 290, 40, np.nan))
    uri = write_cube(str(tmp_path / "c.zarr"), [{"composite": c, "naturalness_noise": noise} for c in random])
    (place,) = spacex.change(uri).places.itertuples()
    assert np.isnan(place.change_se)
    assert place.exceedance > 1
    (turned,) = spacex.change(uri, between=("2024", "2019")).places.itertuples()
    assert (turned.geometry, turned.exceedance, turned.change) == (place.geometry, place.exceedance, place.change)


def test_haze_and_gain_are_no_change_and_a_clearing_is(summers):
    same, cut = summers
    assert len(spacex.change(same, min_area=0).places) <= 1
    found = spacex.change(cut)
    (place,) = found.places.itertuples()
    assert place.geometry.intersection(square(300, 300, 20)).area == pytest.approx(200**2, rel=0.2)
    assert 3 < place.area_ha < 7
    # a clearing of 16 pixels is seen, and smaller than a hectare
    assert found.too_small >= 1
    assert found.areas["unchanged"] + found.areas["changed"] == pytest.approx((SIDE / 100) ** 2)


def square(row, col, side):
    from shapely.geometry import box

    return box(col * 10, -(row + side) * 10, (col + side) * 10, -row * 10)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    after = painted(fell=(100, 100, 200, 0.2), unlike=(600, 600, 200, 0.1), gone=(100, 700, 100, np.nan))
    unlike = painted(0.3, here=(600, 600, 200, 1.5))
    uri = str(tmp_path_factory.mktemp("scored") / "scored.zarr")
    return write_cube(uri, [{}, {"naturalness": after, "dissimilarity": unlike}])


def test_a_score_changed_by_more_than_its_noise(scored, tmp_path):
    output, picture = str(tmp_path / "change.gpkg"), str(tmp_path / "change.tif")
    found = spacex.change(scored, between=("2019", "2024-07"), of="naturalness", output=output, map=picture)
    (place,) = geopandas.read_file(output).itertuples()
    assert place.area_ha == pytest.approx(400)
    assert place.change == pytest.approx(-0.4, abs=0.004)
    assert place.change_se == pytest.approx(np.sqrt(2 * (0.02**2 + QUANTUM**2)), rel=1e-3)
    assert place.naturalness_before == pytest.approx(0.6, abs=0.002)
    assert str(found.places.crs) == "EPSG:3035"
    # land that is unlike the training chips, or has no data in a step, is counted and not reported
    assert found.areas == pytest.approx(
        {"unchanged": 104.8576 - 9, "changed": 4, "outside": 4, "one_step": 1, "untold": 0, "unmapped": 0}, abs=1e-6
    )
    assert [note.split(" km²")[0] for note in found.doubts[:-1]] == ["4.0", "1.0"]
    # what was measured stands beside what is asked for
    assert found.doubts[-1].startswith("thresholds aim at 10 false places per 1,000 km²; measured: where 1")
    with rasterio.open(picture) as file:
        assert file.descriptions == ("naturalness_before", "change", "standard_error", "exceedance", "state")
        assert file.res == (20.0, 20.0)
        assert file.read(5)[[75, 350, 75], [75, 350, 370]].tolist() == [State.CHANGED, State.OUTSIDE, State.ONE_STEP]
        limit = np.sqrt(chi2.isf(10 * (192 * 10) ** 2 / 1e9, 1))
        assert file.read(4)[75, 75] == pytest.approx(0.4 / place.change_se / limit, rel=0.01)


def test_without_a_map_of_the_noise_the_differences_tell_it(tmp_path):
    random = np.random.default_rng(0)
    shapes = [np.kron(random.normal(0.6, 0.03, (64, 64)), np.ones((16, 16))).astype("f4") for _ in DAYS]
    shapes[1][:200, :200] = 0.1
    cube = write_cube(str(tmp_path / "plain.zarr"), [{"naturalness": values} for values in shapes], noise=False)
    found = spacex.change(cube, of="naturalness", false_alarms=1e-3)
    assert len(found.places) == 1
    # a little wider than the truth, for a twenty-fifth of the land changed; and scores are stored in steps of 0.004
    assert 1 < found.places.change_se[0] / (0.03 * np.sqrt(2)) < 1.3
    assert "from the sizes of the differences themselves" in found.doubts[0]


def test_seasons_widen_the_mapped_noise(tmp_path):
    random = np.random.default_rng(0)
    shapes = [np.kron(random.normal(0.6, 0.06, (64, 64)), np.ones((16, 16))).astype("f4") for _ in DAYS]
    cube = write_cube(str(tmp_path / "wide.zarr"), [{"naturalness": values} for values in shapes])
    found = spacex.change(cube, of="naturalness", false_alarms=100)
    assert found.doubts[0].startswith("standard errors of naturalness are 3.0 times those of the scenes' noise")


def test_two_cubes_on_one_grid(scored, tmp_path):
    later = write_cube(str(tmp_path / "later.zarr"), [{"naturalness": painted(fell=(100, 100, 100, 0.2))}],
                       intervals=DAYS[1:])  # fmt: skip
    found = spacex.change(scored, later, between=("2019", "2024"), of="naturalness")
    assert found.places.area_ha.tolist() == [100.0]


@pytest.mark.parametrize("of", ["naturalness", "composite"])
def test_land_that_was_not_asked_for_or_not_finished_is_called_so(scored, tmp_path, of):
    half = painted()
    half[:, SIDE // 2 :] = np.nan
    picture = np.full((3, SIDE, SIDE), 0.1, "f4")
    picture[:, :, SIDE // 2 :] = np.nan
    about = {"request": {**ABOUT["request"], "area": area_of(SIDE * 5)}}
    steps = [{"naturalness": half, "composite": picture}]
    later = write_cube(str(tmp_path / "half.zarr"), steps, intervals=DAYS[1:], about=about)
    found = spacex.change(scored, later, of=of)
    assert found.areas["unmapped"] == pytest.approx((SIDE / 100) ** 2 / 2)
    assert found.areas["one_step"] == 0
    assert any("52.4 km² not mapped in one of the steps" in doubt for doubt in found.doubts)
    nothing = {"naturalness": np.full((SIDE, SIDE), np.nan, "f4"), "composite": np.full((3, SIDE, SIDE), np.nan, "f4")}
    failed = write_cube(str(tmp_path / "failed.zarr"), [{}, nothing])
    Cube(failed).finish(TileTask(1, 0, 0), Status.FAILED, {})
    found = spacex.change(failed, of=of)
    assert found.areas["unmapped"] == pytest.approx((SIDE / 100) ** 2)


def test_scores_of_different_networks_are_not_compared(tmp_path):
    card = Card(bands=("B02",), scaling=Scaling.identity(1), classifier=ClassifierSettings(bands=1), kind="classifier")
    cards = [card.model_copy(update={"hashes": {"classifier-x": digest}}) for digest in ("a", "b")]
    cubes = [
        write_cube(str(tmp_path / f"{n}.zarr"), [{}], intervals=[days],
                   about={**ABOUT, "checkpoint": card.model_dump(mode="json")})
        for n, (days, card) in enumerate(zip(DAYS, cards, strict=True))
    ]  # fmt: skip
    with pytest.raises(RequestError, match="different checkpoints, so naturalness differs"):
        spacex.change(*cubes, of="naturalness")
    assert "different checkpoints" in spacex.change(*cubes).doubts[0]


def test_a_cube_by_two_names_is_one(scored, tmp_path):
    (tmp_path / "link.zarr").symlink_to(scored)
    with pytest.raises(RequestError, match="cannot be compared with itself"):
        spacex.change(scored, str(tmp_path / "link.zarr"), between=("2019", "2019"))


def test_an_answer_does_not_depend_on_what_is_compared_around_it(summers):
    cube = Cube(summers[1])
    whole = Comparison(Step(cube, 0), Step(cube, 1), "composite", 1.0, 1.0)
    (block,) = whole.blocks()
    pictures = [step.read("composite", block.window.pad(CELL)) for step in (whole.earlier, whole.later)]
    # two cells, of which one is compared, with the pixels that averages at their edge need
    part = (slice(None), slice(CELL - 8, 4 * CELL + 8), slice(2 * CELL - 8, 5 * CELL + 8))
    cut = [np.pad(picture[part], ((0, 0), (CELL - 8,) * 2, (CELL - 8,) * 2), constant_values=np.nan)
           for picture in pictures]  # fmt: skip
    alone = exceedances(*cut, whole.share, haze_colour(("B04", "B03", "B02")))[CELL : 2 * CELL, CELL : 2 * CELL]
    expected = block.exceedance[CELL : 2 * CELL, 2 * CELL : 3 * CELL]
    np.testing.assert_allclose(alone, expected, rtol=1e-4)  # running sums round by where they begin
    assert np.isfinite(alone).all()


def test_noise_exceeds_in_the_share_that_is_allowed():
    random = np.random.default_rng(1)
    before = random.uniform(0.1, 0.3, (3, 3 * CELL, 3 * CELL))
    after = 0.9 * before + 0.02 + random.normal(0, 0.01, before.shape)
    for share in (0.2, 0.1):
        above = (exceedances(before.astype("f4"), after.astype("f4"), share) > 1).mean()
        # the exponential lies above normal noise, and the restlessness of a place never lowers a threshold
        assert 0 < above < share
    before[:, :, CELL:] = np.nan
    assert np.isnan(exceedances(before.astype("f4"), after.astype("f4"), 0.01)).all()


def test_land_that_changes_every_year_is_measured_by_its_own_kind():
    """A field of another crop beside forest is no change; a clearing of a smaller contrast within the forest is."""
    random = np.random.default_rng(2)
    fields = np.kron(random.uniform(0.10, 0.25, (2, 48, 24)), np.ones((8, 8)))  # of one summer and of the next
    forest = 0.03 + 0.002 * np.kron(random.normal(size=(96, 48)), np.ones((4, 4)))
    tone = np.array([0.8, 1.0, 0.6])[:, None, None]
    before, after = (
        (np.concatenate([forest, crops], axis=1) * tone + random.normal(0, 0.001, (3, 384, 384))).astype("f4")
        for crops in fields
    )
    after[:, 180:190, 150:160] += 0.02
    found = exceedances(before, after, 1e-5) > 1
    assert found[54:60, 24:30].all()
    assert found[:, 70:].mean() < 0.01
    found[50:64, 20:34] = False
    assert not found[:, :60].any()


def test_a_puff_of_haze_is_no_change_and_a_shade_is_unless_it_is_faint():
    random = np.random.default_rng(3)
    ground = np.kron(random.uniform(0.04, 0.06, (48, 48)), np.ones((8, 8))) * np.array([0.7, 1.0, 0.8])[:, None, None]
    before, after = (ground + random.normal(0, 4e-4, ground.shape) for _ in range(2))
    colour = haze_colour(("B02", "B03", "B04"))
    after[:, 140:155, 140:155] += 0.01 * (colour / colour[1])[:, None, None]
    after[1, 200:215, 140:155] += 0.01
    after[1, 140:155, 200:215] += 0.002
    puff, shade, faint = ((slice(a - CELL + 2, a - CELL + 13), slice(b - CELL + 2, b - CELL + 13))
                          for a, b in ((140, 140), (200, 140), (140, 200)))  # fmt: skip
    pictures = before.astype("f4"), after.astype("f4")
    found, without = exceedances(*pictures, 1e-5, colour) > 1, exceedances(*pictures, 1e-5) > 1
    assert (found[puff].mean(), found[shade].mean(), found[faint].mean()) == (0, 1, 0)
    # all three are far beyond the noise, which alone would tell
    assert min(without[puff].mean(), without[shade].mean(), without[faint].mean()) > 0.9


def test_covers_of_one_brightness_are_told_apart_by_their_shade():
    """Of two covers as bright as each other the season changes one; a patch of it that changes otherwise is found."""
    random = np.random.default_rng(5)
    brightness = 0.06 * np.exp(0.7 * np.kron(random.normal(size=(48, 48)), np.ones((8, 8))))
    mire = np.kron(random.random((12, 12)) < 0.05, np.ones((32, 32))).astype(bool)
    mire[130:250, 130:250] = True
    tone = np.where(mire, *(np.array(shades)[:, None, None] for shades in ((0.78, 1.0, 0.85), (0.74, 1.0, 0.80))))
    season = np.where(mire, *(np.array(gains)[:, None, None] for gains in ((1.15, 1.25, 1.10), (1.0, 1.0, 1.0))))
    drained = season.copy()
    drained[:, 180:200, 180:200] = np.array([1.15, 1.10, 1.10])[:, None, None]
    before, after = (
        (brightness * tone * gain + random.normal(0, 5e-4, tone.shape)).astype("f4") for gain in (1.0, drained)
    )
    found = exceedances(before, after, 1e-5, haze_colour(("B02", "B03", "B04"))) > 1
    patch = (slice(180 - CELL, 200 - CELL),) * 2
    assert found[patch][3:-3, 3:-3].mean() > 0.9
    found[patch] = False
    assert found.mean() < 0.01


def test_pictures_of_other_bands_are_not_compared(scored, tmp_path):
    later = write_cube(str(tmp_path / "swir.zarr"), [{}], intervals=DAYS[1:], display=("B12", "B08", "B04"))
    with pytest.raises(RequestError, match="pictures have different bands: got B04 B03 B02 and B12 B08 B04"):
        spacex.change(scored, later, between=("2019", "2024"))


def test_a_constant_that_stays_has_not_changed():
    """Nothing is left of it, and its noise is nothing; a warning of numpy's would be an error here."""
    nothing = np.zeros((1, 3 * CELL, 3 * CELL), "f4")
    assert (exceedances(nothing, nothing, 1e-5) == 0).all()
    assert (exceedances(nothing + 0.1, nothing, 1e-5) < 1).all()


def test_haze_has_a_colour_where_bands_are_known():
    assert haze_colour(("B02", "B08")) == pytest.approx([1 / 0.49, 1 / 0.842])
    assert haze_colour(("B02", "VV")) is None
    assert haze_colour(("B02",)) is None
    assert haze_colour(()) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"between": ("2019", "2020")}, "which time step"),
        ({"between": ("2019", "2019")}, "cannot be compared with itself"),
        ({"of": "lift"}, "has no such map"),
        ({"output": "change.shp"}, "another ending"),
        ({"between": ("2019",)}, "two time steps"),
        ({"false_alarms": 0.0}, "false_alarms"),
    ],
)
def test_wrong_requests_are_one_line(scored, settings, message):
    with pytest.raises(RequestError, match=message):
        spacex.change(scored, **settings)


def test_cubes_on_other_grids_and_unfinished_ones_are_refused(scored, tmp_path):
    other = write_cube(str(tmp_path / "other.zarr"), [{}], intervals=DAYS[1:], crs="EPSG:32635")
    with pytest.raises(RequestError, match="different grids"):
        spacex.change(scored, other)
    spec = Cube(scored).spec.model_copy(update={"tile_size": 512})
    empty = create_cube(str(tmp_path / "empty.zarr"), spec, "0", ABOUT)
    assert empty.published_levels == 1
    with pytest.raises(CubeError, match="no overviews"):
        spacex.change(empty.uri)


def test_the_command_says_what_was_found(scored, tmp_path, capsys):
    output = str(tmp_path / "change.parquet")
    words = [scored, "--between", "2019", "2024", "--of", "naturalness", "--output", output]
    assert invoke(command.app, words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "1 place changed, 400 ha of 99.9 km² compared; 0 smaller than 1 ha are left out"
    assert told[-1] == f"written: {output}"
    assert geopandas.read_parquet(output).area_ha.tolist() == [400.0]


def test_what_a_comparison_says_was_measured_is_what_its_page_has():
    page = (Path(spacex.__file__).parent / "changes/README.md").read_text()

    def counts(row, of):
        return [int(n) for n in re.findall(of, page.split(f"| {row} |", 1)[1].split("\n")[0])]

    farmed = counts("places on farmed land where nothing but the crop changed, per 1,000 km²", r"\d+")
    places, km2 = map(int, re.findall(r"false places elsewhere, per 1,000 km² \((\d+) in (\d+) km²\)", page)[0])
    months = ("May to June", "May to July", "June to July")
    # the first of a row is that of `spacex change`
    real = [counts(pair, r"(\d+) place")[0] for pair in months]
    real_km2 = float(re.findall(r"in May, June and July \((\d+\.\d+) km²", page)[0])
    assert MEASURED == (  # noqa: SIM300
        f"where 10 were asked for, simulated land gave {1000 * places / km2:.0f} beside fields and {min(farmed)} to "
        f"{max(farmed)} on them, two months of real land {min(real)} to {max(real)} in {real_km2:.0f} km²"
    )
    scores = re.search(r"false places of scores were (\d+) per 1,000 km² at 1, (\d+) at 10", " ".join(page.split()))
    assert scores is not None
    assert ["1", scores[1], "10", scores[2]] == re.findall(r"\d+", MEASURED_OF_SCORES)
