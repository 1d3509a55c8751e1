import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacex.synthetic.noise import cells, hash01, ramp, smooth, triangle

starts = st.integers(-500_000, 500_000)
lengths = st.integers(1, 40)


def axes(col, row, width, height):
    return (np.arange(col, col + width) + 0.5) * 10.0, -(np.arange(row, row + height) + 0.5) * 10.0


@given(starts, starts, lengths, lengths, st.sampled_from([21.0, 47.0, 310.0, 26000.0]), st.integers(0, 2**32 - 1))
def test_a_regular_grid_takes_the_short_cut_to_the_very_same_bits(col, row, width, height, wavelength, key):
    x, y = axes(col, row, width, height)
    short = smooth(x[None, :], y[:, None], wavelength, key)
    full = smooth(*np.meshgrid(x, y), wavelength, key)
    assert np.array_equal(short, full)


@given(starts, starts, st.integers(0, 30), st.integers(0, 30), st.sampled_from([21.0, 900.0]))
def test_a_window_is_the_crop_of_a_larger_one(col, row, right, down, wavelength):
    x, y = axes(col, row, 64, 64)
    large = smooth(x[None, :], y[:, None], wavelength, 7)
    part = smooth(x[None, right : right + 17], y[down : down + 23, None], wavelength, 7)
    assert np.array_equal(part, large[down : down + 23, right : right + 17])


@given(starts, starts, st.sampled_from([130.0, 4000.0, 90_000.0]), st.booleans())
def test_sparse_points_get_the_values_of_dense_ones(col, row, step, regular):
    x, y = col * 10.0 + step * np.arange(7), row * 10.0 + step * np.arange(5)
    points = (x[None, :], y[:, None]) if regular else np.meshgrid(x, y)
    together = smooth(*points, 21.0, 7)
    alone = [[smooth(np.array([[east]]), np.array([[north]]), 21.0, 7)[0, 0] for east in x] for north in y]
    assert np.array_equal(together, np.array(alone))


def test_noise_has_mean_zero_and_variance_one():
    x, y = axes(431_000, -496_000, 600, 600)
    values = smooth(x[None, :], y[:, None], 33.0, 99)
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03


def test_fields_of_different_keys_are_unrelated():
    x, y = axes(431_000, -496_000, 400, 400)
    one, other = (smooth(x[None, :], y[:, None], 33.0, key).ravel() for key in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_hash_is_uniform_and_uncorrelated_along_both_axes():
    values = hash01(np.arange(-300, 300)[None, :], np.arange(-300, 300)[:, None], 12345).astype(float)
    counts = np.histogram(values, 20, (0, 1))[0]
    assert values.min() >= 0
    assert values.max() < 1
    # chi-square with 19 degrees of freedom exceeds 43.8 once in a thousand
    assert ((counts - values.size / 20) ** 2 / (values.size / 20)).sum() < 43.8
    assert abs(np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(values[1:].ravel(), values[:-1].ravel())[0, 1]) < 0.01


def test_cells_are_the_voronoi_mosaic_of_their_centres():
    x, y = np.meshgrid(*axes(1000, -1000, 150, 150))
    size, key = 300.0, 4
    found = cells(x, y, size, key)
    i, j = np.meshgrid(np.arange(found.i.min() - 1, found.i.max() + 2), np.arange(found.j.min() - 1, found.j.max() + 2))
    centre_x = (i + 0.6 * (hash01(i, j, key) - 0.5)) * size
    centre_y = (j + 0.6 * (hash01(i, j, key ^ 0x5BD1E995) - 0.5)) * size
    distance = np.hypot(x[..., None] - centre_x.ravel(), y[..., None] - centre_y.ravel())
    nearest = distance.argmin(axis=-1)
    right = (found.i == i.ravel()[nearest]) & (found.j == j.ravel()[nearest])
    assert right.mean() > 0.99  # the documented rare fifth neighbour
    gap = np.diff(np.partition(distance, 1, axis=-1)[..., :2], axis=-1)[..., 0]
    assert np.abs(found.edge - gap)[right].mean() < 2.0


def test_triangle_and_ramp_at_points_worked_out_by_hand():
    assert triangle(np.array([0.0, 0.25, 0.5, 0.75, 1.0, -0.25])).tolist() == [1, 0, -1, 0, 1, 0]
    assert ramp(np.array([-1, 0, 1, 2, 5], np.float32), 0.0, 2.0).tolist() == [0, 0, 0.5, 1, 1]
