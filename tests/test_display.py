"""One stretch for every picture."""

import numpy as np
import pytest
import torch

from spacex.display import to_rgb, white_and_gamma

DARK, BRIGHT = np.full((3, 8, 8), 0.05, "f4"), np.full((3, 8, 8), 0.2, "f4")


def test_red_green_and_blue_come_from_their_bands():
    chip = np.array([0.01, 0.05, 0.25], "f4")[:, None, None]
    assert to_rgb(chip, ("B02", "B03", "B04"))[0, 0] == pytest.approx([1.0, 0.2 ** (1 / 1.6), 0.04 ** (1 / 1.6)])
    assert to_rgb(np.stack([chip, chip]), ("B02", "B03", "B04")).shape == (2, 1, 1, 3)
    assert to_rgb(chip[2:], ("B08",))[0, 0] == pytest.approx([0.5 ** (1 / 1.6)] * 3)  # vegetation is bright there
    assert np.isnan(to_rgb(np.full((1, 1, 1), np.nan), ("B08",))).all()


def test_ordinary_pictures_are_shown_as_they_are():
    picture = np.array([0.2, 0.5, 1.0], "f4")[:, None, None]
    assert to_rgb(picture, ("red", "green", "blue"))[0, 0] == pytest.approx([0.2, 0.5, 1.0])
    assert white_and_gamma(("red", "green", "blue")) == (1.0, 1.0)


def test_the_same_land_has_one_colour_in_every_picture():
    """Whatever lies beside it: in training's sheet, in the figures, in the sheets of a made set."""
    from spacex.evaluation import figures
    from spacex.evaluation.gallery import Picture
    from spacex.training.image_sheets import contact_sheet

    bands = ("B04", "B03", "B02")
    expected = to_rgb(DARK, bands)[0, 0]
    for beside in (DARK, BRIGHT):
        x = torch.from_numpy(np.stack([DARK, beside]))
        assert contact_sheet(x, x, x, bands)[0, 0] == pytest.approx(np.floor(expected * 255), abs=1)
        chips = [Picture("a", False, bands, chip, np.zeros((8, 8), bool), 0.9, chip, chip) for chip in (DARK, beside)]
        drawn = np.asarray(figures.triples(chips).axes[0].images[0].get_array())
        assert drawn[0, 0] == pytest.approx(expected)
