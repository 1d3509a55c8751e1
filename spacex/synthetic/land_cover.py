"""Reflectance of forest, water, shore, mire and fell: ground without people, before any sensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spacex.synthetic.noise import Floats, cells, ramp, triangle
from spacex.synthetic.spectra import Cover, spectrum
from spacex.synthetic.terrain import Terrain

Codes = NDArray[np.uint8]


def mix(low: str, high: str, share: Floats) -> Floats:
    """Reflectance (10, ...) of two materials mixed linearly, `share` of the second."""
    return overlay(_spread(spectrum(low), share), spectrum(high), share)


def overlay(ground: Floats, material: Floats, share: Floats) -> Floats:
    """`ground` (10, ...) with `share` of it covered by another material (10,) or (10, ...)."""
    on_top = material if material.ndim > 1 else _spread(material, share)
    return np.asarray(ground + (on_top - ground) * share)


def _spread(material: Floats, like: Floats) -> Floats:
    return material.reshape(10, *[1] * like.ndim)


def forest(land: Terrain) -> tuple[Codes, Floats]:
    """Conifer and birch forest in stands of different age, with smooth clear-cuts; covers every point.

    Like all layers: cover codes u1 (...) and reflectance f4 (10, ...), of the points' broadcast shape.
    """
    pine = ramp(land.noise("pine", (3300, 0.7), (900, 0.55), (210, 0.35)), -0.9, 1.3)
    leaf = land.noise("leaf", (1700, 0.75), (420, 0.45), (120, 0.3))
    birch = ramp(leaf + np.float32(0.3) * land.height, 0.55, 1.9)
    crooked = land.noise("crooked", (420, 1.0), (130, 0.5)) * np.float32(55.0)
    stand = cells(land.x + crooked, land.y - crooked, 360.0, land.fields.key("stand"))
    age, use = stand.random(land.fields.key("age")), stand.random(land.fields.key("use"))
    grain = land.noise("crowns", (21, 0.085), (47, 0.085), (130, 0.06))
    light = (1 + grain + np.float32(0.045) * land.relief) * (np.float32(0.84) + np.float32(0.32) * age)
    reflectance = mix("spruce", "pine", pine)
    reflectance = overlay(reflectance, spectrum("birch"), birch) * light
    cover = np.where(birch > 0.6, Cover.BROADLEAF, np.where(birch > 0.25, Cover.MIXED, Cover.CONIFER))
    cover = cover.astype(np.uint8)
    grown, cut = (use > 0.07) & (use < 0.16), use < 0.07
    even = 1 + np.float32(0.28) * grain
    reflectance[:, grown] = mix("young", "brushwood", age[grown]) * even[grown]
    fresh = mix("clearcut", "brushwood", age[cut])
    # retention trees and slash keep a cut from being flat
    reflectance[:, cut] = overlay(fresh, spectrum("pine"), np.float32(0.12) * pine[cut]) * even[cut]
    cover[grown], cover[cut] = Cover.YOUNG, Cover.CLEARCUT
    return cover, reflectance


def water(land: Terrain) -> tuple[Codes, Floats]:
    """Lakes from humic to clear with shallow margins, and rivers, at water points."""
    clear = ramp(land.noise("clarity", (4200, 1.0)), -1.0, 1.2)
    shallow = np.float32(0.75) * (1 - ramp(land.basin, 0.0, 0.16))
    shallow = shallow * ramp(land.noise("shoal", (600, 0.9), (160, 0.4)), -0.6, 1.2)
    river = land.basin <= 0
    shallow = np.where(river, np.float32(0.25), shallow)
    reflectance = overlay(mix("water_humic", "water_clear", clear), spectrum("water_shallow"), shallow)
    cover = np.where(river, Cover.RIVER, Cover.LAKE).astype(np.uint8)
    return cover, reflectance


def shore(land: Terrain) -> tuple[Codes, Floats]:
    """Sandy beaches, and sedge where there is no sand, at shore points."""
    sandy = ramp(land.noise("sand", (1900, 0.9), (500, 0.45)), -0.2, 0.5)
    grain = 1 + land.noise("crowns", (21, 0.06), (47, 0.06))
    reflectance = mix("sedge_shore", "sand", sandy * (np.float32(0.55) + np.float32(0.45) * ramp(land.shore, 0, 0.03)))
    return np.full(land.shore.shape, Cover.SHORE, np.uint8), reflectance * grain


def mire(land: Terrain) -> tuple[Codes, Floats]:
    """Aapa mire at mire points: strings along the contours, wet or grassy flarks between them, and pools.

    Strings are the crests of a wave over a warped plane: their spacing is some 45 to 110 m, their bearing
    turns by tens of degrees over a few kilometres, and where the pattern fades the mire is a lawn of sedge or
    Sphagnum.
    """
    warp = land.noise("flow", (2600, 5.2), (620, 0.75), (160, 0.16))
    wave = triangle((0.0090 * land.x + 0.0118 * land.y) + warp)
    ragged = wave + land.noise("ragged", (75, 0.30), (28, 0.14))
    patterned = ramp(land.noise("patterned", (1300, 0.8), (380, 0.4)), -1.0, 0.1)
    wet = land.noise("wet", (1500, 0.8), (330, 0.45), (110, 0.2))
    moss = ramp(land.noise("moss", (900, 0.8), (190, 0.5), (60, 0.25)), -0.9, 1.2)
    lawn = mix("sedge", "sphagnum", moss)
    flark = overlay(lawn, spectrum("flark_wet"), ramp(wet, -0.25, 0.75))
    strings = patterned * ramp(ragged, 0.15, 0.6)
    reflectance = overlay(flark, spectrum("string"), strings)
    pools = patterned * ramp(wet, 0.35, 0.8) * (1 - ramp(ragged, -0.75, -0.4))
    reflectance = overlay(reflectance, spectrum("pool"), pools)
    tone = ramp(land.noise("tone", (2100, 0.9), (500, 0.4)), -1.7, 1.7) * np.float32(0.9) + np.float32(0.6)
    grain = 1 + land.noise("crowns", (21, 0.05), (47, 0.05))
    return np.full(wet.shape, Cover.MIRE, np.uint8), reflectance * (tone * grain)


def fell(land: Terrain) -> tuple[Codes, Floats]:
    """Bare fell at fell points: rough rock and boulder fields, pale lichen and dark dwarf-shrub heath."""
    rough = land.noise("rough", (24, 0.55), (52, 0.5), (120, 0.35))
    bare = land.noise("bare", (1200, 0.7), (330, 0.5), (95, 0.35)) + np.float32(0.35) * rough
    dark = ramp(land.noise("shade", (1600, 0.8), (300, 0.4)) - np.float32(0.25) * rough, -0.9, 1.1)
    ground = mix("lichen", "heath", dark)
    stone = mix("rock", "rock_dark", ramp(land.noise("stone", (2300, 1.0), (260, 0.4)), -1.3, 1.3))
    stones = ramp(bare, 0.05, 0.75)
    tone = ramp(land.noise("fell tone", (2400, 1.0)), -1.8, 1.8) * np.float32(0.6) + np.float32(0.7)
    texture = np.float32(0.20) * rough * (np.float32(0.45) + stones)
    light = tone * (1 + texture + np.float32(0.09) * land.relief)
    cover = np.where(stones > 0.5, Cover.ROCK, Cover.HEATH).astype(np.uint8)
    return cover, overlay(ground, stone, stones) * np.maximum(light, np.float32(0.25))
