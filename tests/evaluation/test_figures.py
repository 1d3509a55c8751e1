import numpy as np
import pytest
from matplotlib.figure import Figure

from spacex.display import FLOORS
from spacex.evaluation import figures
from spacex.evaluation.gallery import Picture

BANDS = ("B02", "B03", "B04")


def picture(level=0.1, bands=BANDS, change=0.01, **maps):
    x = np.stack([np.full((32, 32), level * (i + 1) / 2, np.float32) for i in range(len(bands))])
    inside = np.zeros((32, 32), bool)
    inside[8:20, 8:20] = True
    made = Picture("a.tif", False, bands, x, inside, 0.9, x + change, x - 0.01, 0.95, 0.1)
    made.maps = maps or {"path": np.full((32, 32), level, np.float32)}
    return made


def test_one_scale_for_all_chips_from_zero_to_one():
    chips = [picture(0.1), picture(1.0)]
    assert figures.scale(chips, "path") == pytest.approx(1.0)
    figure = figures.inputs_over_maps(chips, "path")
    maps = [axis.images[1] for axis in figure.axes[2:4]]
    assert [image.get_clim() for image in maps] == [(0.0, 1.0)] * 2
    assert [float(image.get_array().max()) for image in maps] == pytest.approx([0.1, 1.0])
    assert figure.axes[-1].get_ylim() == (0.0, 1.0)  # the colour bar
    assert "1 is 1 logits per pixel" in figure.axes[-1].get_ylabel()


def test_a_map_lies_over_its_chip():
    shown = figures.inputs_over_maps([picture()], "path").axes[1].images
    assert [image.get_cmap().name == "gray" for image in shown] == [True, False]
    assert shown[1].get_cmap()(0.0)[3] == 0  # the chip shows where the map is 0
    assert shown[1].get_cmap()(1.0)[3] == pytest.approx(0.8)  # and still does where it is high


def test_maps_of_generators_that_change_nothing_are_not_stretched():
    faint = {name: np.full((32, 32), value, "f4") for name, value in (("attribution", 0.0012), ("lift", 7e-6))}
    assert figures.scale([picture(**faint)], "attribution") == FLOORS["attribution"]
    assert figures.scale([picture(**faint)], "lift") == FLOORS["lift"]


def test_changes_of_x_plus_and_x_minus_are_enlarged_each_by_its_own_factor():
    """With one factor for both, the smaller change was one flat grey."""
    chips = [picture(change=0.002), picture(0.2, change=0.002)]
    assert figures.enlargement(chips, 1) > 2 * figures.enlargement(chips, 2) > 1
    change = figures.triples(chips).axes[3].images[0].get_array()
    assert abs(change - 0.5).max() > 0.2
    # but what is next to nothing stays grey
    assert figures.enlargement([picture(change=1e-6)], 1) == 50.0


def test_the_paper_s_methods_come_first_and_occlusion_among_them():
    names = ("brightness", "lift", "attribution", "gradcam-last", "occlusion", "deeplift")
    chips = [picture(**{name: np.full((32, 32), 0.1, "f4") for name in names})]
    titles = [axis.get_title() for axis in figures.side_by_side(chips).axes[:-1]]
    expected = ["x", "region", "DeepLIFT", "Occlusion", "Grad-CAM\nlast", "|x+ − x−|", "lift map", "brightness"]
    assert titles == expected


@pytest.mark.parametrize("draw", ["flow", "triples", "side_by_side", "inputs_over_maps"])
def test_every_figure_becomes_a_png(draw):
    chips = [picture(), picture(0.2)]
    arguments = {
        "flow": (chips[0], chips), "triples": (chips,), "side_by_side": (chips,), "inputs_over_maps": (chips, "path"),
    }[draw]  # fmt: skip
    figure = getattr(figures, draw)(*arguments)
    assert isinstance(figure, Figure)
    assert figures.png(figure, dpi=40).startswith(b"\x89PNG")
