import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from spacex.errors import RequestError
from spacex.grid import Grid, Window
from spacex.settings import SENTINEL2_BANDS
from spacex.synthetic.landscape import DISTRACTOR_GAP, Landscape, pixel_centres
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.spectra import ANTHROPOGENIC, CORINE_OF, Cover

LAND = Landscape(DEMO_SEED)
RED, NIR = SENTINEL2_BANDS.index("B04"), SENTINEL2_BANDS.index("B08")
# parts of the embedded region, found by looking: mire and fell by a lake, and villages among fields
MIRES = Window(-503460, 490980, 160, 160)
VILLAGES = Window(-505020, 490740, 160, 160)
sizes = st.integers(2, 48)


def same(one, other):
    return np.array_equal(one.cover, other.cover) and np.array_equal(one.reflectance, other.reflectance)


def crop(ground, rows, cols):
    return type(ground)(ground.cover[rows, cols], ground.reflectance[:, rows, cols])


@settings(max_examples=12)
@given(st.integers(-540_000, -400_000), st.integers(430_000, 530_000), sizes, sizes, sizes, sizes, st.booleans())
def test_any_window_painted_alone_equals_the_crop_of_a_larger_one(row, col, up, left, height, width, distractors):
    level = 1.0 if distractors else None
    alone = LAND.paint_window(Window(row, col, height, width), distractor_level=level)
    around = LAND.paint_window(Window(row - up, col - left, height + up + 9, width + left + 5), distractor_level=level)
    assert same(alone, crop(around, slice(up, up + height), slice(left, left + width)))


@settings(max_examples=10)
@given(st.integers(-540_000, -400_000), st.integers(430_000, 530_000), sizes, sizes, st.sampled_from("CF"))
def test_coordinates_pixel_by_pixel_give_the_same_bits_as_two_axes(row, col, height, width, order):
    x, y = pixel_centres(Window(row, col, height, width), Grid())
    full = (np.asarray(part, order=order) for part in np.meshgrid(x, y))
    assert same(LAND.paint(*full), LAND.paint(x, y))


@pytest.mark.parametrize("window", [MIRES, VILLAGES])
def test_large_pictures_are_painted_in_blocks_without_seams(window):
    tall = Window(window.row, window.col, 700, window.width)  # more than one block of rows
    rows = slice(300, 420)
    part = LAND.paint_window(Window(window.row + 300, window.col, 120, window.width))
    assert same(part, crop(LAND.paint_window(tall), rows, slice(None)))


@pytest.mark.parametrize("without", [("mire",), ("fell",), ("mire", "fell")])
def test_leaving_a_pattern_out_shows_neutral_ground_and_changes_nothing_else(without):
    ground, bare = LAND.paint_window(MIRES), LAND.paint_window(MIRES, without=without)
    gone = {"mire": [Cover.MIRE], "fell": [Cover.ROCK, Cover.HEATH]}
    removed = np.isin(ground.cover, [code for name in without for code in gone[name]])
    assert removed.any()
    assert np.array_equal(ground.cover[~removed], bare.cover[~removed])
    assert np.array_equal(ground.reflectance[:, ~removed], bare.reflectance[:, ~removed])
    assert not np.isin(bare.cover[removed], [*ANTHROPOGENIC, *(code for name in without for code in gone[name])]).any()
    assert (ground.reflectance[:, removed] != bare.reflectance[:, removed]).any(axis=0).all()


def test_the_two_sample_windows_hold_what_they_are_named_for():
    mires, villages = LAND.paint_window(MIRES), LAND.paint_window(VILLAGES)
    assert {Cover.MIRE, Cover.ROCK, Cover.HEATH, Cover.CONIFER} <= set(np.unique(mires.cover))
    assert set(ANTHROPOGENIC) <= set(np.unique(villages.cover))
    assert not np.isin(mires.cover, ANTHROPOGENIC).any()


def test_knolls_keep_their_distance_and_hide_nothing_else():
    field = LAND.distractor_field(*pixel_centres(MIRES, Grid()))
    level = float(np.median(field[np.isfinite(field)]))
    plain, planted = LAND.paint_window(MIRES), LAND.paint_window(MIRES, distractor_level=level)
    distractors = planted.distractors
    assert np.array_equal(distractors, field > level)
    assert distractors.any()
    assert np.array_equal(plain.pattern, planted.pattern)
    assert distance_transform_edt(~plain.pattern)[distractors].min() > DISTRACTOR_GAP
    assert np.array_equal(plain.reflectance[:, ~distractors], planted.reflectance[:, ~distractors])
    assert (planted.reflectance[RED, distractors] > planted.reflectance[1, distractors]).all()  # reddish: B04 over B03


def test_covers_have_corine_codes_of_three_digits_and_plausible_spectra():
    for window in (MIRES, VILLAGES):
        ground = LAND.paint_window(window)
        assert ground.reflectance.dtype == np.float32
        assert ground.corine.dtype == np.uint16
        assert ground.reflectance.min() > 0
        assert ground.reflectance.max() < 0.6
        ndvi = (ground.reflectance[NIR] - ground.reflectance[RED]) / (ground.reflectance[NIR] + ground.reflectance[RED])
        assert np.median(ndvi[ground.cover == Cover.CONIFER]) > 0.5
        water = ndvi[np.isin(ground.cover, (Cover.LAKE, Cover.RIVER))]
        assert water.size == 0 or np.median(water) < 0
    assert all(111 <= CORINE_OF[cover] <= 523 for cover in Cover)


def test_mires_reach_from_darker_than_forest_to_far_brighter():
    x, y = (np.arange(start, start + 160_000.0, 500.0) for start in (4_600_000.0, 4_800_000.0))
    ground = LAND.paint(x, y)
    visible = ground.reflectance[:3].mean(axis=0)
    forest = np.median(visible[np.isin(ground.cover, (Cover.CONIFER, Cover.MIXED, Cover.BROADLEAF))])
    low, high = np.quantile(visible[ground.cover == Cover.MIRE], [0.1, 0.9]) / forest
    assert low < 1.0
    assert high > 2.0


def test_every_cover_occurs_and_none_takes_the_country():
    x, y = np.arange(4_500_000.0, 4_900_000.0, 1600.0), np.arange(4_300_000.0, 4_700_000.0, 1600.0)
    shares = np.bincount(LAND.paint(x, y).cover.ravel(), minlength=17) / (x.size * y.size)
    assert all(shares[cover] > 0.0005 for cover in Cover if cover != Cover.DISTRACTOR)
    assert 0.3 < shares[[Cover.CONIFER, Cover.MIXED, Cover.BROADLEAF]].sum() < 0.7
    assert 0.08 < shares[[Cover.MIRE, Cover.ROCK, Cover.HEATH]].sum() < 0.4
    assert 0.05 < shares[[Cover.LAKE, Cover.RIVER]].sum() < 0.2


def test_another_seed_is_another_country():
    assert not np.array_equal(LAND.paint_window(MIRES).cover, Landscape(DEMO_SEED + 1).paint_window(MIRES).cover)


def test_the_masks_are_those_of_the_painted_ground():
    x, y = pixel_centres(VILLAGES, Grid())
    masks, ground = LAND.cover_masks(x, y), LAND.paint(x, y)
    assert np.array_equal(masks.anthropogenic, np.isin(ground.cover, ANTHROPOGENIC))
    assert np.array_equal(masks.pattern, ground.pattern)


def test_wrong_requests_are_refused_in_one_line():
    x, y = pixel_centres(MIRES, Grid())
    with pytest.raises(RequestError, match="unknown pattern to leave out: got \\['bog'\\]"):
        LAND.paint(x, y, without=["bog"])
    with pytest.raises(RequestError, match="coordinates do not fit"):
        LAND.paint(x[:5], np.zeros((3, 3)))
    with pytest.raises(RequestError, match="distractors need a regular grid"):
        LAND.paint(*np.meshgrid(x[:9], y[:9]), distractor_level=1.0)
