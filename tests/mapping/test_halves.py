"""The noise of a score from halves of the observations: worked out by hand, by simulation, and in a cube."""

import numpy as np
import pytest
import xarray as xr

from spacex.cube.levels import crop
from spacex.cube.store import Cube
from spacex.errors import CubeError
from spacex.execution.local import run_local
from spacex.grid import Window, chip_windows
from spacex.mapping.halves import extract_pairs, gap, logit_noise, noise_map, pair_stride
from spacex.mapping.request import chip_settings

NOISY = "naturalness_noise"
MAPS = ("attribution", "lift", "naturalness", "dissimilarity", "observations")


def opened(path, level=0):
    data = xr.open_zarr(path, group=str(level), chunks=None, mask_and_scale=False)
    return crop(data, Cube(str(path)).spec, level).load()


def test_a_gap_is_a_difference_of_logits():
    logit = np.array([2.0, -1.5])
    first, second = 1 / (1 + np.exp(-logit))
    assert gap(first, second) == pytest.approx(3.5)
    assert gap(1.0, 0.0) == 32.0


def test_equal_gaps_and_scores_are_one_number():
    window = Window(100, -60, 64, 90)
    chips = chip_windows(window, 192, 256)
    far = chip_windows(window.pad(256), 192, 256)
    noise = logit_noise(window, dict.fromkeys(far, -0.6), 256)
    np.testing.assert_allclose(noise, 0.3, rtol=1e-6)
    error = noise_map(window, noise, dict.fromkeys(chips, 0.2), 256)
    np.testing.assert_allclose(error, 0.2 * 0.8 * 0.3, rtol=1e-6)


def test_halves_are_scored_of_chips_that_hardly_overlap():
    assert [pair_stride(stride, 256) for stride in (192, 128, 64, 48)] == [192, 256, 256, 240]


@pytest.mark.parametrize(("number", "accuracy"), [(2, 0.03), (4, 0.10), (6, 0.10), (8, 0.10), (3, 0.10)])
def test_the_noise_is_the_standard_error_of_a_score_from_all_observations(number, accuracy):
    # chips of one pixel whose logit is their median: the truth is the spread over many summers
    random = np.random.default_rng(number)
    seen = random.normal(0, 1, (40_000, number))
    first, second = np.median(seen[:, ::2], axis=1), np.median(seen[:, 1::2], axis=1)
    told = np.sqrt(np.mean((first - second) ** 2 / 4))
    assert told == pytest.approx(np.median(seen, axis=1).std(), rel=accuracy)


def test_pairs_need_two_observations_in_enough_of_a_chip():
    inside = Window(0, 0, 8, 16)
    reflectance = np.full((2, 8, 16), 0.3, np.float32)
    halves = np.stack([reflectance - 0.1, reflectance + 0.1])
    halves[..., 10:] = np.nan
    left, right = Window(0, 0, 8, 8), Window(0, 8, 8, 8)
    pairs = extract_pairs(halves, reflectance, inside, [left, right], 0.5)
    assert [pair.window for pair in pairs] == [left]
    half = extract_pairs(halves, reflectance, inside, [right], 0.2)[0].pixels.reshape(2, 2, 8, 8)
    np.testing.assert_allclose(half[:, 0, 0], [[0.2] * 2 + [0.3] * 6, [0.4] * 2 + [0.3] * 6], rtol=1e-6)


@pytest.fixture(scope="module")
def request_noise(make_request, tiny_checkpoint):
    chips = chip_settings(tiny_checkpoint.card, ("attribution", "lift"), uncertainty=("pixels",))
    return lambda **values: make_request(**{"chips": chips, **values})


@pytest.fixture(scope="module")
def noisy(request_noise, map_offline, tmp_path_factory):
    path = tmp_path_factory.mktemp("noisy") / "noisy.zarr"
    assert map_offline(request_noise(tile_size=2048), path).complete
    return path


def test_noise_has_a_value_where_a_pixel_has_two_observations(noisy):
    data = opened(noisy)
    mapped = np.isfinite(data[NOISY].values)
    assert 0.3 < mapped.mean() < 1
    assert not mapped[data.observations.values < 2].any()
    assert (data[NOISY].values[mapped] > 0).all()
    assert (data[NOISY].values[mapped] < 0.5).all()
    assert "two halves" in data[NOISY].attrs["comment"]


def test_without_the_option_every_other_map_has_the_same_bits(noisy, make_request, map_offline, tmp_path):
    map_offline(make_request(tile_size=2048), tmp_path / "plain.zarr")
    plain, data = opened(tmp_path / "plain.zarr"), opened(noisy)
    assert NOISY not in plain
    for name in MAPS:
        np.testing.assert_array_equal(data[name].values, plain[name].values, err_msg=name)


def test_small_tiles_in_another_order_and_a_smaller_area_give_the_same_noise(
    noisy, request_noise, map_offline, tmp_path
):
    def backwards(job, queue, on_tick):
        queue.todo.reverse()
        run_local(job, queue, on_tick)

    whole = opened(noisy)
    map_offline(request_noise(tile_size=512), tmp_path / "tiles.zarr", backwards, threads=2, batch=3)
    np.testing.assert_array_equal(opened(tmp_path / "tiles.zarr")[NOISY].values, whole[NOISY].values)
    small = request_noise(box=(23.96, 67.965, 24.03, 67.985))
    map_offline(small, tmp_path / "crop.zarr")
    part = opened(tmp_path / "crop.zarr")
    inside = small.region.inside(small.region.extent)
    expected = whole.sel(x=part.x, y=part.y)[NOISY].values[0][inside]
    np.testing.assert_array_equal(part[NOISY].values[0][inside], expected)
    assert np.isfinite(expected).sum() > 1000


def test_a_cube_with_noise_is_no_continuation_of_one_without(noisy, make_request, map_offline):
    with pytest.raises(CubeError, match=r"chips\.uncertainty was \['pixels'\] and is now \[\]"):
        map_offline(make_request(tile_size=2048), noisy)
