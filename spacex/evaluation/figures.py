"""The paper's figures 1, 3, 4 and 5, drawn from the chips of a :class:`~spacex.evaluation.gallery.Gallery`.

Chips are drawn in the colours of `spacex.display`. Every method's maps are divided by one scale for all chips, the 99th
percentile over them (and no less than the floor of `spacex.display.FLOORS`), so that all share one colour bar from 0
to 1 and a weak map looks weak. Maps alone are drawn in viridis, which reads the same for colour-blind eyes and in grey
print; laid over a chip they are see-through where they are 0. The region is outlined in white on black.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from spacex.display import FLOORS, to_rgb
from spacex.evaluation.gallery import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = colormaps["viridis"]
OVERLAY = ListedColormap([(*colormaps["plasma"](share)[:3], min(0.8, 1.6 * share)) for share in np.linspace(0, 1, 256)])
"""Of maps over a chip: the lower the value, the more of the chip shows."""
LABELS = {
    "deeplift": "DeepLIFT",
    "occlusion": "Occlusion",
    "gradcam-last": "Grad-CAM\nlast",
    "attribution": "|x+ − x−|",
    "lift": "lift map",
    "path": "path map",
    "gradcam-first": "Grad-CAM\nfirst",
    "integrated": "Integrated\nGradients",
    "brightness": "brightness",
    "sobel": "Sobel",
    "brightness x gradcam-first": "brightness ×\nGrad-CAM first",
}
"""Methods side by side in figure 4, as far as they ran, and how they are written: the paper's three rivals and its own
map in its order, then the others."""
UNITS = {"lift": "logits per pixel", "path": "logits per pixel", "attribution": "reflectance"}
LEAST_CHANGE = 0.02
"""Changes of the colours shown, of 0..1, below which figure 3 enlarges no further: a generator that changes next to
nothing looks like one."""

Array = NDArray[np.float32]


def scale(pictures: Sequence[Picture], method: str) -> float:
    """What the colour bar's 1 means for a method: the 99th percentile of its maps over all chips, or the floor."""
    values = np.concatenate([picture.maps[method].ravel() for picture in pictures])
    floor = FLOORS.get("path_attribution" if method == "path" else method, 1e-12)
    return max(float(np.percentile(values, 99)), floor)


def flow(picture: Picture, pictures: Sequence[Picture]) -> Figure:
    """Figure 1: x in the middle, x− and x+ beside it with their scores, and the two maps over x."""
    names = [name for name in ("attribution", "lift") if name in picture.maps]
    figure, axes = _grid(1, 3 + len(names), 2.35, title_space=0.55, bar=True)
    x, plus, minus = _versions(picture)
    titles = ("x−  (minimised)", "x  (as seen)", "x+  (maximised)")
    for axis, title, (chip, score) in zip(axes[0], titles, (minus, x, plus), strict=False):
        axis.imshow(to_rgb(chip, picture.bands), interpolation="nearest")
        axis.set_title(f"{title}\nscore {score:.2f}", fontsize=10)
    for axis, name in zip(axes[0][3:], names, strict=True):
        limit = scale(pictures, name)
        _overlay(axis, picture, name, limit)
        axis.set_title(f"{LABELS[name]}\n1 is {limit:.2g} {UNITS[name]}", fontsize=10)
    _colour_bar(figure, axes, OVERLAY, "map, of its scale")
    return figure


def triples(pictures: Sequence[Picture]) -> Figure:
    """Figure 3: x, x+ and x− with their scores, one chip per row, and what each changes, enlarged."""
    plus, minus = (enlargement(pictures, version) for version in (1, 2))
    figure, axes = _grid(len(pictures), 5, 1.9, title_space=0.45)
    for row, picture in zip(axes, pictures, strict=True):
        shown = [(to_rgb(chip, picture.bands), score) for chip, score in _versions(picture)]
        for axis, (colours, score) in zip(row, shown, strict=False):
            axis.imshow(colours, interpolation="nearest")
            _write_score(axis, score)
        for axis, (colours, _), factor in zip(row[3:], shown[1:], (plus, minus), strict=True):
            # mid-grey is no change
            change = np.clip(0.5 + factor * (colours - shown[0][0]) / 2, 0, 1)
            axis.imshow(change, interpolation="nearest")
    changes = f"(x+ − x) × {plus:g}\ngrey: no change", f"(x− − x) × {minus:g}\ngrey: no change"
    _label(axes, pictures, ("x", "x+ (maximised)", "x− (minimised)", *changes))
    return figure


def side_by_side(pictures: Sequence[Picture]) -> Figure:
    """Figure 4: chip, region, then every method of `LABELS`; each method has one scale for all chips."""
    names = [name for name in LABELS if name in pictures[0].maps]
    figure, axes = _grid(len(pictures), 2 + len(names), 1.35, bar=True)
    for row, picture in zip(axes, pictures, strict=True):
        row[0].imshow(to_rgb(picture.x, picture.bands), interpolation="nearest")
        row[1].imshow(picture.inside, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axis, name in zip(row[2:], names, strict=True):
            shown = picture.maps[name] / scale(pictures, name)
            axis.imshow(shown, cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
            _outline(axis, picture)
    _label(axes, pictures, ["x", "region", *(LABELS[name] for name in names)], size=8)
    _colour_bar(figure, axes, COLOURS, "map, of its method's scale")
    return figure


def inputs_over_maps(pictures: Sequence[Picture], method: str) -> Figure:
    """Figure 5: the chips above, their maps laid over them below, with the colour bar all of them share."""
    limit = scale(pictures, method)
    figure, axes = _grid(2, len(pictures), 1.75, bar=True)
    for above, below, picture in zip(*axes, pictures, strict=True):
        above.imshow(to_rgb(picture.x, picture.bands), interpolation="nearest")
        _write_score(above, picture.score)
        _overlay(below, picture, method, limit)
    name = LABELS.get(method, method).replace("\n", " ")
    _colour_bar(figure, axes, OVERLAY, f"{name}, 1 is {limit:.2g} {UNITS.get(method, 'of its own unit')}")
    return figure


def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def enlargement(pictures: Sequence[Picture], version: int) -> float:
    """The factor, 1, 2, 5, 10, …, by which the changes of x+ (`version` 1) or x− (2) are enlarged for all chips.

    It is the largest at which 99 % of the changed colours stay within the picture, and ends at `LEAST_CHANGE`.
    """
    pairs = [(to_rgb(p.x, p.bands), to_rgb(_versions(p)[version][0], p.bands)) for p in pictures]
    size = float(np.percentile([abs(changed - x) for x, changed in pairs], 99))
    steps = [digit * 10.0**power for power in range(4) for digit in (1, 2, 5)]
    return max((step for step in steps if step * max(size, LEAST_CHANGE) <= 1), default=1.0)


def _versions(picture: Picture) -> list[tuple[Array, float]]:
    """x, x+ and x− with their scores, for pictures that have all three."""
    assert picture.x_plus is not None
    assert picture.x_minus is not None
    chips = picture.x, picture.x_plus, picture.x_minus
    return list(zip(chips, (picture.score, picture.score_plus, picture.score_minus), strict=True))


def _grid(
    rows: int, columns: int, side: float, title_space: float = 0.3, bar: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(
        figsize=(columns * side + (0.9 if bar else 0.35), rows * side + title_space),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0),
    )
    axes: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
    for axis in (axis for row in axes for axis in row):
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def _overlay(axis: Axes, picture: Picture, name: str, limit: float) -> None:
    """Lay a map over its chip, which is drawn in grey."""
    grey = to_rgb(picture.x, picture.bands).mean(axis=-1)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.imshow(picture.maps[name] / limit, cmap=OVERLAY, vmin=0, vmax=1, interpolation="nearest")
    _outline(axis, picture)


def _outline(axis: Axes, picture: Picture) -> None:
    if picture.inside.any() and not picture.inside.all():
        for colour, width in (("black", 1.4), ("white", 0.6)):
            axis.contour(picture.inside, levels=[0.5], colors=colour, linewidths=width)


def _write_score(axis: Axes, score: float) -> None:
    """Write a score into the corner."""
    box = {"facecolor": "black", "alpha": 0.65, "pad": 1.5, "edgecolor": "none"}
    axis.text(0.03, 0.96, f"{score:.2f}", transform=axis.transAxes, va="top", color="white", fontsize=8, bbox=box)


def _colour_bar(figure: Figure, axes: list[list[Axes]], colours: Colormap, label: str) -> None:
    """Draw the bar from 0 to 1 that all maps of a figure share."""
    shown = ScalarMappable(Normalize(0, 1), colours)
    every = [axis for row in axes for axis in row]
    bar = figure.colorbar(shown, ax=every, ticks=[0, 0.25, 0.5, 0.75, 1], extend="max", shrink=0.9, pad=0.015)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _label(axes: list[list[Axes]], pictures: Sequence[Picture], titles: Sequence[str], size: int = 9) -> None:
    """Titles above the columns, and beside every row how its chip was chosen."""
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=size)
    for row, picture in zip(axes, pictures, strict=True):
        row[0].set_ylabel("hard" if picture.hard else "as it comes", fontsize=8)
