"""Cut and blend: the inverse of each other for any size, stride and mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacex.errors import RequestError
from spacex.grid import Window, chip_windows
from spacex.mapping.chips import Blend, check_stride, extract_chips, sensitivity_field, taper

windows = st.builds(Window, st.integers(-5000, 5000), st.integers(-5000, 5000), st.integers(1, 90), st.integers(1, 90))


@st.composite
def layouts(draw):
    """Chip size, frame and stride that leave no gap."""
    size = 4 * draw(st.integers(4, 16))
    frame = draw(st.integers(0, size // 2 - 4))
    stride = 4 * draw(st.integers(1, (size - 2 * frame) // 4))
    return size, frame, stride


def read(window: Window, seed: int, holes: float, margin: int) -> tuple[Window, np.ndarray]:
    inside = window.pad(margin)
    rng = np.random.default_rng(seed)
    image = rng.random((2, *inside.shape), dtype=np.float32)
    image[:, rng.random(inside.shape) < holes] = np.nan
    return inside, image


@given(windows, layouts(), st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.9]))
def test_blending_what_was_cut_gives_the_image_back(window, layout, seed, holes):
    size, frame, stride = layout
    inside, image = read(window, seed, holes, size)
    blend = Blend(window, frame, size)
    for chip in extract_chips(image, inside, chip_windows(window, stride, size), min_valid=0.0):
        blend.add(chip.window, chip.pixels[1])
    rows, cols = window.slices(inside)
    expected = image[1, rows, cols]
    valid = np.isfinite(expected)
    np.testing.assert_allclose(blend.mean()[valid], expected[valid], rtol=1e-6)


@given(windows, layouts())
def test_weights_are_a_partition_of_unity(window, layout):
    size, frame, stride = layout
    blend = Blend(window, frame, size)
    for chip in chip_windows(window, stride, size):
        blend.add(chip, 1.0)
    np.testing.assert_array_equal(blend.mean(), np.ones(window.shape, np.float32))


@given(windows, layouts(), st.integers(0, 99))
def test_a_part_equals_the_crop_of_the_whole_to_the_bit(window, layout, seed):
    size, frame, stride = layout
    rng = np.random.default_rng(seed)
    half = Window(window.row + window.height // 2, window.col, window.height - window.height // 2, window.width)
    whole, part = Blend(window, frame, size), Blend(half, frame, size)
    for chip in chip_windows(window, stride, size):
        values = rng.random((size, size), dtype=np.float32)
        whole.add(chip, values)
        part.add(chip, values)
    rows, cols = half.slices(window)
    np.testing.assert_array_equal(part.mean(), whole.mean()[rows, cols])


@given(windows, layouts(), st.integers(0, 99))
def test_what_every_chip_has_in_common_is_divided_out(window, layout, seed):
    size, _, stride = layout
    cells = np.random.default_rng(seed).random((size // 4, size // 4)) + 0.3
    field = sensitivity_field(cells, size)
    assert field.shape == (size, size)
    blend = Blend(window, 0, size, field=field)
    for chip in chip_windows(window, stride, size):
        blend.add(chip, (3 * field).astype(np.float32))
    np.testing.assert_allclose(blend.mean(), 3.0, rtol=1e-5)
    # the level of a map stays: under a chip's weights the field has the mean 1
    weights = taper(size, 0)
    assert (field * weights[:, None] * weights).sum() == pytest.approx(weights.sum() ** 2)


def test_overlap_by_hand():
    # two chips of 4 pixels, 2 apart: Hann of 4 is sin²(22.5°, 67.5°, ...) = .1464, .8536, .8536, .1464
    blend = Blend(Window(0, 2, 1, 2), frame=0, size=4)
    blend.add(Window(0, 0, 4, 4), 1.0)
    blend.add(Window(0, 2, 4, 4), 0.0)
    np.testing.assert_allclose(blend.mean(), [[0.8536, 0.1464]], atol=1e-4)


def test_frame_weighs_nothing():
    weights = taper(256, 32)
    assert not weights[:32].any()
    assert not weights[-32:].any()
    assert (weights[32:-32] > 0).all()


def test_chips_with_too_little_data_are_left_out_and_gaps_are_filled_with_the_band_mean():
    image = np.full((1, 4, 8), np.nan, np.float32)
    image[0, :, :2] = [[1, 3]] * 4  # left chip half valid, right chip empty
    left, right = Window(0, 0, 4, 4), Window(0, 4, 4, 4)
    cuts = extract_chips(image, Window(0, 0, 4, 8), [left, right], min_valid=0.5)
    assert [chip.window for chip in cuts] == [left]
    np.testing.assert_array_equal(cuts[0].pixels[0, 0], [1, 3, 2, 2])
    assert extract_chips(image, Window(0, 0, 4, 8), [left], min_valid=0.51) == []


@pytest.mark.parametrize(("stride", "frame"), [(0, 0), (130, 0), (196, 32), (260, 0)])
def test_strides_that_leave_gaps_are_refused(stride, frame):
    with pytest.raises(RequestError, match="multiple of 4"):
        check_stride(stride, frame, 256)
