"""Simulates a Sentinel-2 scene on a UTM grid: ground, sky, clouds, and their classification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from spacex.synthetic.chip import INNER, scene_classes
from spacex.synthetic.landscape import Ground, Landscape
from spacex.synthetic.noise import Bools, Coords, Floats, key_of, ramp, smooth
from spacex.synthetic.sensor import MARGIN, Sky, haze_of, observe, to_dn
from spacex.synthetic.spectra import Cover

_NODE = 32  # pixels between exactly projected points; linear interpolation between them errs by some millimetres
_SHADOW, _MEDIUM, _HIGH, _CIRRUS, _SNOW = 3, 8, 9, 10, 11
_CLOUD_REFLECTANCE = np.array((0.62, 0.62, 0.61, 0.61, 0.62, 0.62, 0.63, 0.63, 0.42, 0.33), np.float32)
_SNOW_REFLECTANCE = np.array((0.80, 0.79, 0.77, 0.76, 0.74, 0.72, 0.70, 0.68, 0.12, 0.09), np.float32)
_SHADOW_SHIFT = (-520.0, 760.0)
"""Metres from a cloud to its shadow: away from the sun in the south-east, as for clouds some 800 m high."""


@dataclass(frozen=True)
class Overpass:
    """One pass of a satellite over the whole region; both zones' scenes share it."""

    date: str
    """ISO day."""
    sky: Sky
    """Air and electronics."""
    clouds: float
    """Clouds stand where their field exceeds this level; 1.2 is broken cloud, 3 none."""
    snow: bool = False
    """Late snow patches on the fells."""
    edge: float | None = None
    """Westernmost easting seen, in EPSG:3035 metres at the region's middle latitude; None: all of it."""


@dataclass(frozen=True)
class SceneGround:
    """The ground of a scene's grid, and the coordinates of its pixels."""

    geobox: GeoBox
    """The 10 m grid, even numbers of rows and columns."""
    x: Coords
    """Eastings in EPSG:3035, (h, w)."""
    y: Coords
    """Northings in EPSG:3035, (h, w)."""
    painted: Ground
    """Cover and reflectance with `MARGIN` pixels more on every side."""


def render_ground(geobox: GeoBox, landscape: Landscape) -> SceneGround:
    """Project a UTM grid to EPSG:3035 and paint its ground."""
    x, y = project(geobox.pad(MARGIN))
    return SceneGround(geobox, x[INNER], y[INNER], landscape.paint(x, y))


def project(geobox: GeoBox) -> tuple[Coords, Coords]:
    """EPSG:3035 coordinates of all pixel centres, each (h, w): exact every 32 pixels, bilinear between."""
    rows, cols = (np.arange(0, size + _NODE, _NODE, dtype=np.float64) for size in geobox.shape)
    across, down = np.meshgrid(cols + 0.5, rows + 0.5)
    to_metres = Transformer.from_crs(geobox.crs, "EPSG:3035", always_xy=True)
    affine = geobox.affine
    exact = to_metres.transform(affine.c + affine.a * across, affine.f + affine.e * down)
    height, width = geobox.shape
    x, y = (_interpolate(_interpolate(axis, width).T, height).T for axis in exact)
    return x, y


def _interpolate(nodes: Coords, size: int) -> Coords:
    at, part = np.divmod(np.arange(size), _NODE)
    share = part / _NODE
    return np.ascontiguousarray(nodes[:, at] * (1 - share) + nodes[:, at + 1] * share)


def simulate_scene(
    ground: SceneGround, overpass: Overpass, offset: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A scene's digital numbers and its classification.

    Returns:
        DN (10, h, w) u2 with `offset` added, 20 m bands as equal 2 x 2 blocks, 0 = no data; and SCL (h / 2, w / 2) u1.
    """
    haze = haze_of(overpass.sky, ground.x, ground.y)
    reflectance = observe(ground.painted.reflectance, haze, overpass.sky)
    snow, cloud, shade = _snow_and_clouds(ground, overpass)
    reflectance[:, snow] = _SNOW_REFLECTANCE[:, None] * np.float32(0.9)
    reflectance *= 1 - np.float32(0.6) * shade
    reflectance += (_CLOUD_REFLECTANCE[:, None, None] - reflectance) * cloud
    classes = _classify(ground, haze, snow, cloud, shade)
    dn = to_dn(reflectance, offset)
    unseen = np.zeros(cloud.shape, bool)
    if overpass.edge is not None:
        # the swath's edge leans with the orbit, and falls on whole 20 m pixels
        along = ground.x[::2, ::2] + 0.22 * (ground.y[::2, ::2] - 5_043_000.0)
        unseen = (along < overpass.edge).repeat(2, axis=0).repeat(2, axis=1)
    dn[:, unseen] = 0
    classes[unseen[::2, ::2]] = 0
    return dn, classes


def _snow_and_clouds(ground: SceneGround, overpass: Overpass) -> tuple[Bools, Floats, Floats]:
    """Snow, and the shares of light that clouds replace and shadows take; (h, w), equal over 2 x 2 blocks."""
    x, y = ground.x[::2, ::2], ground.y[::2, ::2]
    cloud = _clouds(x, y, overpass)
    shade = _clouds(x - _SHADOW_SHIFT[0], y - _SHADOW_SHIFT[1], overpass) * (1 - cloud)
    cover = ground.painted.cover[INNER][::2, ::2]
    patches = smooth(x, y, 130.0, key_of(overpass.sky.seed, "snow"))
    snow = np.isin(cover, (Cover.ROCK, Cover.HEATH)) & (patches > 1.9) & overpass.snow
    return tuple(part.repeat(2, axis=0).repeat(2, axis=1) for part in (snow, cloud, shade))  # type: ignore[return-value]


def _clouds(x: Coords, y: Coords, overpass: Overpass) -> Floats:
    seed = overpass.sky.seed
    field = smooth(x, y, 5200.0, key_of(seed, "cloud"))
    for size, weight in ((1500.0, 0.5), (420.0, 0.25), (130.0, 0.1)):
        field += np.float32(weight) * smooth(x, y, size, key_of(seed, "cloud", size))
    return ramp(field, overpass.clouds, overpass.clouds + 0.5)


def _classify(ground: SceneGround, haze: Floats, snow: Bools, cloud: Floats, shade: Floats) -> NDArray[np.uint8]:
    # 20 m pixels; from what counts least to what counts most
    every = (slice(None, None, 2), slice(None, None, 2))
    classes = scene_classes(ground.painted.cover[INNER][every], np.zeros_like(snow[every]))
    classes[snow[every]] = _SNOW
    classes[shade[every] > 0.12] = _SHADOW
    classes[haze[every] > 0.05] = _CIRRUS
    for threshold, name in ((0.02, _CIRRUS), (0.25, _MEDIUM), (0.6, _HIGH)):
        classes[cloud[every] > threshold] = name
    return classes
