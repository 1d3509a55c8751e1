import numpy as np
import pytest

from spacex.synthetic.sensor import COARSE, MARGIN, Sky, haze_of, observe, to_dn

QUIET = Sky(seed=1, noise=0.0)
NO_HAZE = np.zeros((20, 30), np.float32)


def flat(value):
    return np.full((10, 20 + 2 * MARGIN, 30 + 2 * MARGIN), value, np.float32)


def test_the_optics_spread_light_but_lose_none():
    ground = flat(0.0)
    ground[:, 11, 16] = 1.0
    seen = observe(ground, NO_HAZE, QUIET)
    assert seen.sum(axis=(1, 2)) == pytest.approx(np.ones(10), abs=1e-5)
    assert seen[0, 9, 14] == pytest.approx(0.7 * 0.7, abs=1e-6)  # two of three taps' middle weight


def test_coarse_bands_come_in_blocks_and_fine_ones_do_not():
    ground = flat(0.1) + np.random.default_rng(0).normal(0, 0.01, flat(0).shape).astype(np.float32)
    seen = observe(ground, NO_HAZE, Sky(seed=1))
    blocks = seen.reshape(10, 10, 2, 15, 2)
    equal = (blocks == blocks[:, :, :1, :, :1]).all(axis=(1, 2, 3, 4))
    assert equal.tolist() == [band in COARSE for band in range(10)]


def test_gain_noise_and_haze_do_what_they_say():
    base = flat(0.1)
    assert observe(base, NO_HAZE, Sky(seed=1, gain=1.1, noise=0.0)) == pytest.approx(0.11, abs=1e-6)
    noisy = observe(base, NO_HAZE, Sky(seed=1, noise=0.002))
    assert noisy[0].std() == pytest.approx(0.002, rel=0.1)
    hazy = observe(base, NO_HAZE + 0.1, QUIET)
    lift = hazy.mean(axis=(1, 2)) - 0.1
    assert lift[0] == pytest.approx(0.1 * (0.62 - 0.1), abs=1e-5)
    assert (np.diff(lift) <= 0).all()  # falls from blue to short-wave infrared


def test_haze_is_bounded_by_its_level_and_patchy():
    x, y = np.arange(4.8e6, 4.83e6, 100.0)[None, :], np.arange(5.0e6, 5.03e6, 100.0)[:, None]
    haze = haze_of(Sky(seed=3, haze=0.1), x, y)
    assert haze.min() == 0
    assert 0.05 < haze.max() <= 0.1


def test_same_sky_over_other_ground_differs_only_near_the_change():
    one, other = flat(0.1), flat(0.1)
    other[:, 8:12, 10:14] = 0.3
    sky = Sky(seed=5, gain=1.03, haze=0.1)
    changed = (observe(one, NO_HAZE + 0.03, sky) != observe(other, NO_HAZE + 0.03, sky)).any(axis=0)
    rows, cols = np.nonzero(changed)
    assert rows.min() >= 6 - 2
    assert rows.max() <= 9 + 2
    assert cols.min() >= 8 - 2
    assert cols.max() <= 11 + 2


def test_digital_numbers_are_rounded_offset_and_never_no_data():
    values = np.array([-0.01, 0.0, 0.00004, 0.12345, 9.0], np.float32)
    assert to_dn(values).tolist() == [1, 1, 1, 1234, 65535]  # 1234.5 rounds to even
    assert to_dn(values, 1000).tolist() == [900, 1000, 1000, 2234, 65535]
