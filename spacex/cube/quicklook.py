"""Draw a cube as one PNG: composite, attribution maps and scores side by side, a row per time step."""

from __future__ import annotations

import io
import math
import textwrap
from functools import lru_cache
from typing import Any

import fsspec
import numpy as np
import shapely
import xarray as xr
from affine import Affine
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from spacex.attribution.names import NOISE, SPREAD
from spacex.cube.levels import open_level
from spacex.cube.store import Cube
from spacex.cube.summary import faint_line, summarise_maps
from spacex.display import FLOORS, to_rgb, white_and_gamma
from spacex.errors import RequestError
from spacex.execution.tasks import Status
from spacex.grid import Window

WIDEST = 900
"""Longest side of a panel in pixels; larger maps are averaged."""
PANEL = 4.4
"""Width of a panel in inches."""
GAPS = {
    "no data": "#b9b9b9",
    "outside the area": "#ffffff",
    "not mapped or failed": "#d98cb3",
}
"""Colours of pixels without a value, by the reason; none of them occurs in the colour scales."""
TITLES = {
    "attribution": ("attribution |x⁺ − x⁻|", "reflectance"),
    "lift": ("lift, x⁻ to x", "logit per pixel"),
    "path_attribution": ("path attribution, x⁻ to x", "logit per pixel"),
    "naturalness": ("naturalness", "classifier's score"),
    "dissimilarity": ("dissimilarity", "index over its threshold"),
    NOISE: ("noise of naturalness", "standard error"),
    SPREAD: ("spread of naturalness", "standard deviation"),
}
MEANINGS = {
    "attribution": "bright: what is changed to look more or less natural",
    "lift": "bright: what lifts the classifier's logit above x⁻",
    "path_attribution": "bright: what lifts the classifier's logit above x⁻",
    "naturalness": "yellow: natural to this classifier, blue: not",
    "dissimilarity": "above 1, hatched: unlike the training chips",
    NOISE: "bright: moves with other observations",
    SPREAD: "bright: classifiers disagree",
}
"""How to read a map, below its colour bar."""
COLOURS = {"naturalness": "cividis", "dissimilarity": "viridis"}
"""Colour scales other than inferno."""
TOPS = {"naturalness": 1.0, "dissimilarity": 2.0}
"""Upper ends of the colour scales of maps whose range is fixed."""
HATCH = "////"
"""Pattern over pixels outside the classifier's area of applicability."""

CHARACTERS = 12
"""Of the heading, on an inch."""

Image = NDArray[np.float32]
Extent = tuple[float, float, float, float]
"""Left, right, bottom, top in km from the upper-left corner."""


def draw(cube: Cube | str, picture: str, time: int | None = None) -> None:
    """Draw a cube (every time step, or one) into a PNG file.

    Args:
        cube: the cube, or its URI.
        picture: path or URI of the PNG file.
        time: index of the only time step to draw; None for all.

    Raises:
        RequestError: if the picture's name does not end in .png.
    """
    if not picture.lower().endswith(".png"):
        raise RequestError("the quicklook's name", got=picture, expected="a path or URI ending in .png")
    with fsspec.open(picture, "wb") as file:
        file.write(render(Cube(cube) if isinstance(cube, str) else cube, time))


def render(cube: Cube, time: int | None = None, site: BaseGeometry | None = None) -> bytes:
    """The picture of `draw` as the bytes of a PNG file; of a site, in the cube's CRS, its surroundings and outline."""
    steps = tuple(range(len(cube.spec.intervals))) if time is None else (time,)
    return _render(cube, steps, site, f"{cube.published_levels} {cube.statuses().tobytes()!r} {cube.attributes}")


# a run's report shows the picture that is drawn beside the cube, which takes more than a second
@lru_cache(maxsize=1)
def _render(cube: Cube, steps: tuple[int, ...], site: BaseGeometry | None, state: str) -> bytes:
    """`render` of some time steps; `state` is all by which the same cube may look different later."""
    window = cube.extent if site is None else _surroundings(cube, site)
    names = [name for name in (*cube.spec.maps, *cube.spec.scores) if name in TITLES]
    ratio = window.height / window.width
    size = PANEL * (1 + len(names)), len(steps) * (PANEL * ratio + 1.6)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    # a thin row for the colour bars under each row of maps keeps all maps of one size
    axes = figure.subplots(2 * len(steps), 1 + len(names), squeeze=False, height_ratios=[30 * ratio, 1] * len(steps))
    for index, step in enumerate(steps):
        _draw_step(figure, axes[2 * index], axes[2 * index + 1], cube, names, step, window)
        for axis in axes[2 * index] if site is not None else ():
            _outline(axis, cube, site, window)
    doubt = faint_line(summarise_maps(cube))
    meaning = textwrap.fill(cube.attributes["checkpoint"].get("meaning", ""), round(size[0] * CHARACTERS))
    heading = "\n".join(filter(None, (_heading(cube), meaning, doubt)))
    figure.suptitle(heading, fontsize=10, color="#b00020" if doubt else None)
    patches = [Patch(facecolor=colour, edgecolor="black", label=label) for label, colour in GAPS.items()]
    if cube.spec.dissimilarity:
        label = "unlike the training chips: not to be trusted"
        patches.append(Patch(facecolor="white", edgecolor="black", hatch=HATCH, label=label))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=9, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _surroundings(cube: Cube, site: BaseGeometry) -> Window:
    """The pixels around a site: a fifth of its length more on each side, and a kilometre at least."""
    left, bottom, right, top = site.bounds
    margin = max(1000.0, 0.2 * max(right - left, top - bottom))
    return cube.grid.window(left - margin, bottom - margin, right + margin, top + margin).intersect(cube.extent)


def _outline(axis: Axes, cube: Cube, site: BaseGeometry, window: Window) -> None:
    """Draw a site's outline in km from the window's upper-left corner, white on black."""
    transform = cube.grid.transform(window)
    for ring in shapely.get_rings(shapely.get_parts(site)):
        x, y = shapely.get_coordinates(ring).T
        for colour, width in (("black", 2.4), ("white", 1.0)):
            axis.plot((x - transform.c) / 1000, (transform.f - y) / 1000, color=colour, linewidth=width)


def colour_scale(cube: Cube, name: str, step: int) -> tuple[str, float]:
    """Matplotlib's name of a map's colour scale, and where it ends at a time step; it begins at 0."""
    return COLOURS.get(name, "inferno"), _top(name, _overview(cube, [name], step, cube.extent)[0][name].values)[0]


def _overview(cube: Cube, names: list[str], step: int, window: Window) -> tuple[xr.Dataset, int]:
    """Maps of a window with at most `WIDEST` pixels a side, and how many of full resolution make one side of these."""
    # the coarsest level that is still sharp enough; the composite begins at level 1
    level = max(1, min(cube.published_levels - 1, math.ceil(math.log2(max(window.shape) / WIDEST))))
    data = open_level(cube.uri, level, chunks={})[names].isel(time=step)
    if window != cube.extent:
        left, bottom, right, top = cube.grid.geobox(window).boundingbox
        data = data.sel(x=slice(left, right), y=slice(top, bottom))
    factor = max(1, math.ceil(max(data.sizes["y"], data.sizes["x"]) / WIDEST))
    data = data.coarsen(y=factor, x=factor, boundary="trim").mean().compute()  # type: ignore[attr-defined]
    return data, 2**level * factor


def _draw_step(
    figure: Figure, row: Any, bars: Any, cube: Cube, names: list[str], step: int, window: Window
) -> None:  # fmt: skip
    data, factor = _overview(cube, ["composite", *names], step, window)
    gaps = _gaps(cube, step, data["y"].values, data["x"].values, factor)
    kilometres = cube.spec.resolution * factor / 1000
    extent = (0.0, data.sizes["x"] * kilometres, data.sizes["y"] * kilometres, 0.0)
    first, last = cube.spec.intervals[step]
    _panel(row[0], to_rgb(data["composite"].values, cube.spec.display), gaps, extent)
    row[0].set_title(f"composite, {first} to {last}", fontsize=10)
    bars[0].set_axis_off()
    colours = " as red, green, blue" if len(cube.spec.display) == 3 else " in grey"
    white, gamma = white_and_gamma(cube.spec.display)
    about = f"{', '.join(cube.spec.display)}{colours}\nwhite: reflectance {white:g}; gamma {gamma:g}"
    bars[0].text(0.5, 0.0, about, ha="center", va="center", fontsize=9)
    _scale_bar(row[0], extent[1])
    _north(row[0], cube)
    for axis, bar, name in zip(row[1:], bars[1:], names, strict=True):
        values = data[name].values
        top, faint = _top(name, values)
        image = _panel(axis, values, gaps, extent, cmap=COLOURS.get(name, "inferno"), vmin=0, vmax=top)
        if "dissimilarity" in data:
            _hatch(axis, data["dissimilarity"].values, extent)
        title, unit = TITLES[name]
        axis.set_title(title, fontsize=10)
        extend = "neither" if name == "naturalness" else "max"
        figure.colorbar(image, cax=bar, extend=extend, orientation="horizontal", ticks=MaxNLocator(5))
        meaning = "doubtful: the generators change next to nothing" if faint else MEANINGS[name]
        bar.set_xlabel(f"{unit}\n{meaning}", fontsize=9)


def _top(name: str, values: Image) -> tuple[float, bool]:
    """Where a map's colour scale ends, and whether the map is so faint that its floor decides."""
    if name in TOPS:
        return TOPS[name], False
    top, floor = _percentile(values, 99), FLOORS.get(name, 0.0)
    return (floor, True) if top < floor else (_round_up(top), False)


def _panel(axis: Axes, values: Image, gaps: NDArray[np.uint8], extent: Extent, **colours: Any) -> Any:
    missing = np.isnan(values).any(axis=-1) if values.ndim == 3 else np.isnan(values)
    shown = np.nan_to_num(values) if values.ndim == 3 else values
    image = axis.imshow(shown, extent=extent, interpolation="nearest", **colours)
    palette = ListedColormap(list(GAPS.values()))
    background = np.ma.masked_where(~missing, gaps)
    axis.imshow(background, cmap=palette, vmin=-0.5, vmax=len(GAPS) - 0.5, extent=extent, interpolation="nearest")
    axis.set_xlabel("km", fontsize=8)
    axis.tick_params(labelsize=8)
    return image


def _hatch(axis: Axes, dissimilarity: Image, extent: Extent) -> None:
    """Hatch the pixels outside the area of applicability."""
    outside = np.nan_to_num(dissimilarity) > 1
    if outside.any():
        where: dict[str, Any] = {"extent": extent, "origin": "upper"}
        with rc_context({"hatch.color": "white", "hatch.linewidth": 0.6}):
            axis.contourf(outside, levels=[0.5, 1.5], colors="none", hatches=[HATCH], **where)
        axis.set(xlim=extent[:2], ylim=extent[2:])


def _gaps(cube: Cube, step: int, y: NDArray[np.float64], x: NDArray[np.float64], factor: int) -> NDArray[np.uint8]:
    """The reason why each pixel of the picture would have no value, (height, width) uint8 index into `GAPS`.

    Args:
        cube: what is drawn.
        step: index of the time step.
        y: of the picture's pixel centres, in metres of the cube's CRS.
        x: likewise.
        factor: pixels of full resolution along one side of the picture's.
    """
    reasons = np.zeros((len(y), len(x)), np.uint8)
    size = cube.spec.resolution
    # the tile under each centre; the last overview pixel may have its centre outside the last tile
    unfinished = np.isin(cube.statuses()[step], (Status.PENDING, Status.FAILED))
    rows = (-y / size - cube.spec.stored.row).astype(int) // cube.spec.tile_size
    cols = (x / size - cube.spec.stored.col).astype(int) // cube.spec.tile_size
    tiles = np.ix_(np.minimum(rows, unfinished.shape[0] - 1), np.minimum(cols, unfinished.shape[1] - 1))
    reasons[unfinished[tiles]] = 2
    side = size * factor
    transform = Affine(side, 0.0, x[0] - side / 2, 0.0, -side, y[0] + side / 2)
    reasons[geometry_mask([cube.region.outline], reasons.shape, transform)] = 1
    return reasons


def _percentile(values: Image, q: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, q)) if finite.size else q / 100


def _round_up(value: float) -> float:
    """The next larger number with two significant digits: a readable end of a colour bar."""
    if not value > 0:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step) * step


def _scale_bar(axis: Axes, width: float) -> None:
    """Draw the longest round length of at most a quarter of the panel's width (km)."""
    length = max(n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if n <= max(0.1, width / 4))
    label, thickness = f"{length:g} km", width / 150
    bar = AnchoredSizeBar(axis.transData, length, label, "lower right", frameon=True, size_vertical=thickness, pad=0.4)
    axis.add_artist(bar)


def _heading(cube: Cube) -> str:
    """Latitudes, longitudes, CRS and checkpoint of the maps."""
    west, south, east, north = shape(cube.attributes["request"]["area"]).bounds
    card = cube.attributes["checkpoint"]
    networks = f"checkpoint “{card['preset'] or card['kind']}”, trained on {card['data'].get('name', 'unknown data')}"
    return f"{_degrees(south, north, 'NS')}, {_degrees(west, east, 'EW')} ({cube.spec.crs}); {networks}"


def _degrees(low: float, high: float, names: str) -> str:
    return " to ".join(f"{abs(value):.2f}° {names[value < 0]}" for value in (low, high))


def _north(axis: Axes, cube: Cube) -> None:
    """Draw an arrow to true north, which differs from the direction of a projected grid's columns."""
    left, bottom, right, top = cube.grid.geobox(cube.extent).boundingbox
    to_degrees = Transformer.from_crs(cube.grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
    # a short piece of the meridian through the centre, projected back onto the grid, gives the arrow's direction
    x, y = to_degrees.transform([lon, lon], [lat - 0.01, lat + 0.01], direction="INVERSE")
    angle = math.atan2(y[1] - y[0], x[1] - x[0])
    dx, dy = 0.06 * math.cos(angle), 0.06 * math.sin(angle)
    axis.annotate(
        "N", (0.1 - dx, 0.9 - dy), (0.1 + dx, 0.9 + dy), "axes fraction", "axes fraction", ha="center", va="center",
        fontsize=9,
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        arrowprops={"arrowstyle": "<|-", "color": "black", "shrinkA": 7},
    )  # fmt: skip
