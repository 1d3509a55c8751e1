import numpy as np
import pytest
from matplotlib.figure import Figure

from spacex.evaluation import figures
from spacex.evaluation.gallery import Picture

BANDS = ("B02", "B03", "B04")


def picture(level=0.1, bands=BANDS, **maps):
    x = np.stack([np.full((32, 32), level * (i + 1), np.float32) for i in range(len(bands))])
    inside = np.zeros((32, 32), bool)
    inside[8:20, 8:20] = True
    made = Picture("a.tif", False, bands, x, inside, 0.9, x + 0.01, x - 0.01, 0.95, 0.1)
    made.maps = maps or {"path": np.full((32, 32), level, np.float32)}
    return made


def test_red_green_and_blue_come_from_their_bands():
    chip = picture().x
    shown = figures.rgb(chip, BANDS, np.array([0.3, 0.2, 0.1], np.float32))
    assert shown.shape == (32, 32, 3)
    assert shown[0, 0] == pytest.approx([1.0, 1.0, 1.0])  # B04 is 0.3, B03 0.2, B02 0.1
    grey = figures.rgb(chip[:1], ("B08",), np.full(3, 0.2, np.float32))
    assert grey[0, 0, 0] == grey[0, 0, 1] == grey[0, 0, 2]


def test_one_scale_for_all_chips():
    chips = [picture(0.1), picture(1.0)]
    assert figures.scale(chips, "path") == pytest.approx(1.0)
    figure = figures.inputs_over_maps(chips, "path")
    maps = [axis.images[0] for axis in figure.axes[2:4]]
    assert [image.get_clim() for image in maps] == [(0.0, pytest.approx(1.0))] * 2


def test_changes_are_enlarged_by_one_round_factor():
    top = np.full(3, 0.5, np.float32)
    assert figures.enlargement([picture(), picture(0.2)], top) == 20.0  # 0.01 of 0.5 is 2 %; 50 would just be 1
    assert figures.enlargement([picture()], np.full(3, 0.51, np.float32)) == 50.0


@pytest.mark.parametrize("draw", ["flow", "triples", "side_by_side", "inputs_over_maps"])
def test_every_figure_becomes_a_png(draw):
    chips = [picture(), picture(0.2)]
    arguments = {
        "flow": (chips[0], chips), "triples": (chips,), "side_by_side": (chips,), "inputs_over_maps": (chips, "path"),
    }[draw]  # fmt: skip
    figure = getattr(figures, draw)(*arguments)
    assert isinstance(figure, Figure)
    assert figures.png(figure, dpi=40).startswith(b"\x89PNG")
