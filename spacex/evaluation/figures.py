"""The paper's figures 1, 3, 4 and 5, drawn from the chips of a :class:`~spacex.evaluation.gallery.Gallery`.

One scale for all chips: pictures share one stretch, and each method's maps share one colour scale, from 0 to the
99th percentile over all chips drawn. A weak map then looks weak. Viridis throughout: it
reads the same for colour-blind eyes and in grey print. The region is outlined in white on black.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from spacex.evaluation.gallery import Picture
from spacex.settings import display_band_indices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLOURS = "viridis"
LABELS = {
    "lift": "lift map",
    "path": "path map",
    "attribution": "|x+ − x−|",
    "deeplift": "DeepLIFT",
    "occlusion": "Occlusion",
    "gradcam-last": "Grad-CAM\nlast",
    "gradcam-first": "Grad-CAM\nfirst",
    "integrated": "Integrated\nGradients",
    "brightness": "brightness",
    "sobel": "Sobel",
    "brightness x gradcam-first": "brightness ×\nGrad-CAM first",
}
"""Methods side by side in figure 4, as far as they ran, and how they are written."""
UNITS = {"lift": "logits per pixel", "path": "logits per pixel", "attribution": "reflectance"}

Array = NDArray[np.float32]


def rgb(chip: Array, bands: Sequence[str], top: Array) -> Array:
    """Reflectance ``(bands, h, w)`` as a picture ``(h, w, 3)`` in 0..1; grey if a visible band is missing.

    `top (3,)` is the reflectance that is shown as full brightness, per channel.
    """
    shown = np.clip(chip[display_band_indices(bands)] / top[:, None, None], 0, 1) ** 0.8
    return np.asarray(shown.transpose(1, 2, 0), dtype=np.float32)


def stretch(pictures: Sequence[Picture]) -> Array:
    """The one stretch of all pictures: the 99.5th percentile of each channel over all chips."""
    chosen = display_band_indices(pictures[0].bands)
    values = np.concatenate([picture.x[chosen].reshape(3, -1) for picture in pictures], axis=1)
    return np.asarray(np.maximum(np.percentile(values, 99.5, axis=1), 1e-3), dtype=np.float32)


def scale(pictures: Sequence[Picture], method: str) -> float:
    """The one colour limit of a method: the 99th percentile of its maps over all chips."""
    values = np.concatenate([picture.maps[method].ravel() for picture in pictures])
    return max(float(np.percentile(values, 99)), 1e-12)


def flow(picture: Picture, pictures: Sequence[Picture]) -> Figure:
    """Figure 1: x in the middle, x− and x+ beside it with their scores, and the two maps."""
    top = stretch(pictures)
    names = [name for name in ("attribution", "lift") if name in picture.maps]
    figure, axes = _grid(1, 3 + len(names), 2.35, title_space=0.55)
    x, plus, minus = _versions(picture)
    titles = ("x−  (minimised)", "x  (as seen)", "x+  (maximised)")
    for axis, title, (chip, score) in zip(axes[0], titles, (minus, x, plus), strict=False):
        _chip(axis, chip, picture, top)
        axis.set_title(f"{title}\nscore {score:.2f}", fontsize=10)
    for axis, name in zip(axes[0][3:], names, strict=True):
        _map(axis, picture, name, scale(pictures, name))
        axis.set_title(f"{LABELS[name]}\nregion outlined", fontsize=10)
    return figure


def triples(pictures: Sequence[Picture]) -> Figure:
    """Figure 3: x, x+ and x− with their scores, one chip per row, and the enlarged changes."""
    top = stretch(pictures)
    factor = enlargement(pictures, top)
    figure, axes = _grid(len(pictures), 5, 1.9)
    for row, picture in zip(axes, pictures, strict=True):
        versions = _versions(picture)
        for axis, (chip, score) in zip(row, versions, strict=False):
            _chip(axis, chip, picture, top, score)
        for axis, (chip, _) in zip(row[3:], versions[1:], strict=True):
            # mid-grey is no change; the same stretch as the pictures
            change = (chip - picture.x)[display_band_indices(picture.bands)] / top[:, None, None]
            shown = np.clip(0.5 + factor * change / 2, 0, 1).transpose(1, 2, 0)
            axis.imshow(shown, interpolation="nearest")
    _label(axes, pictures, ("x", "x+", "x−", f"(x+ − x) × {factor:g}", f"(x− − x) × {factor:g}"))
    return figure


def side_by_side(pictures: Sequence[Picture]) -> Figure:
    """Figure 4: the region, then every method of `LABELS`; each method has one colour scale for all chips."""
    names = [name for name in LABELS if name in pictures[0].maps]
    top = stretch(pictures)
    figure, axes = _grid(len(pictures), 2 + len(names), 1.35)
    for row, picture in zip(axes, pictures, strict=True):
        _chip(row[0], picture.x, picture, top)
        row[1].imshow(picture.inside, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axis, name in zip(row[2:], names, strict=True):
            _map(axis, picture, name, scale(pictures, name))
    _label(axes, pictures, ["x", "region", *(LABELS[name] for name in names)], size=8)
    return figure


def inputs_over_maps(pictures: Sequence[Picture], method: str) -> Figure:
    """Figure 5: the chips above, their maps below, with the colour bar all of them share."""
    top, limit = stretch(pictures), scale(pictures, method)
    figure, axes = _grid(2, len(pictures), 1.75, bar=True)
    for above, below, picture in zip(*axes, pictures, strict=True):
        _chip(above, picture.x, picture, top, picture.score)
        image = _map(below, picture, method, limit)
    bar = figure.colorbar(image, ax=[axis for row in axes for axis in row], shrink=0.8, pad=0.015)
    bar.set_label(f"{LABELS.get(method, method)} ({UNITS.get(method, 'own unit')})", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def enlargement(pictures: Sequence[Picture], top: Array) -> float:
    """One factor for all chips, 1, 2, 5, 10, …, at which 99.5 % of the changes stay within the picture."""
    pairs = [(p, chip) for p in pictures for chip, _ in _versions(p)[1:]]
    changes = [abs(chip - p.x)[display_band_indices(p.bands)] for p, chip in pairs]
    size = float(np.percentile(np.stack(changes) / top[:, None, None], 99.5))
    steps = [digit * 10.0**power for power in range(4) for digit in (1, 2, 5)]
    return max((step for step in steps if step * size <= 1), default=1.0)


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


def _chip(axis: Axes, chip: Array, picture: Picture, top: Array, score: float | None = None) -> None:
    """Draw a chip of the picture in colour, and its score in the corner."""
    axis.imshow(rgb(chip, picture.bands, top), interpolation="nearest")
    if score is not None:
        box = {"facecolor": "black", "alpha": 0.65, "pad": 1.5, "edgecolor": "none"}
        axis.text(0.03, 0.96, f"{score:.2f}", transform=axis.transAxes, va="top", color="white", fontsize=8, bbox=box)


def _map(axis: Axes, picture: Picture, name: str, limit: float) -> AxesImage:
    image = axis.imshow(picture.maps[name], cmap=COLOURS, vmin=0, vmax=limit, interpolation="nearest")
    if picture.inside.any() and not picture.inside.all():
        for colour, width in (("black", 1.4), ("white", 0.6)):
            axis.contour(picture.inside, levels=[0.5], colors=colour, linewidths=width)
    return image


def _label(axes: list[list[Axes]], pictures: Sequence[Picture], titles: Sequence[str], size: int = 9) -> None:
    """Titles above the columns, and beside every row how its chip was chosen."""
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=size)
    for row, picture in zip(axes, pictures, strict=True):
        row[0].set_ylabel("hard" if picture.hard else "as it comes", fontsize=8)
