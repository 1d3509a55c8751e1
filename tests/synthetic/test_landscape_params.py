"""The second embedded country differs from the first in densities and colours, and in nothing else."""

import numpy as np

from spacex.synthetic.landscape import Landscape
from spacex.synthetic.landscape_params import SECOND_COUNTRY, cover_tints, params_of
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.spectra import Cover

X, Y = np.arange(4_500_000.0, 4_900_000.0, 1600.0), np.arange(4_300_000.0, 4_700_000.0, 1600.0)


def shares(seed):
    cover = Landscape(seed).paint(X, Y).cover
    return np.bincount(cover.ravel(), minlength=17) / cover.size


def test_the_second_country_has_more_mire_and_lakes_and_less_fell():
    first, second = shares(DEMO_SEED), shares(SECOND_COUNTRY)
    assert second[Cover.MIRE] > 1.15 * first[Cover.MIRE]
    assert second[Cover.LAKE] > 1.1 * first[Cover.LAKE]
    assert second[[Cover.ROCK, Cover.HEATH]].sum() < 0.8 * first[[Cover.ROCK, Cover.HEATH]].sum()


def test_its_covers_have_other_colours_and_the_other_countries_have_one_palette():
    assert cover_tints(DEMO_SEED) is None
    assert params_of(DEMO_SEED) == params_of(DEMO_SEED + 1)
    tints = cover_tints(SECOND_COUNTRY)
    assert 0.1 < np.log(tints[:, 1:]).std() < 0.35
    assert np.ptp(tints[:3, Cover.MIRE] / tints[:3, Cover.CONIFER]) > 0.02  # other hues, not only another light


def test_leaving_a_pattern_out_still_changes_no_other_pixel():
    land = Landscape(SECOND_COUNTRY)
    x, y = X[100] + 10.0 * np.arange(256), Y[120] + 10.0 * np.arange(256)
    full, bare = land.paint(x, y), land.paint(x, y, without=("mire", "fell"))
    beside = ~full.pattern
    np.testing.assert_array_equal(full.reflectance[:, beside], bare.reflectance[:, beside])
    assert full.reflectance.min() > 0
