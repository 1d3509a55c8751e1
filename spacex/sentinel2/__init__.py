"""Sentinel-2 scenes in, composites of surface reflectance out.

Read in this order: `styles` and `catalogue` (where scenes come from), `scenes` (what they are), `reflectance`
(what their numbers mean), `assets` and `sampling` (how a file is opened and brought to the cube's grid),
`composite`.
"""

from spacex.sentinel2.composite import Composite, read_composite
from spacex.sentinel2.observation import CompositeSettings
from spacex.sentinel2.reflectance import Offset, offset_of, to_reflectance
from spacex.sentinel2.scenes import Scene, SceneIndex, scene_of, touching
from spacex.sentinel2.search import CATALOGUES, CatalogueProfile, get_catalogue, search

__all__ = [
    "CATALOGUES",
    "CatalogueProfile",
    "Composite",
    "CompositeSettings",
    "Offset",
    "Scene",
    "SceneIndex",
    "get_catalogue",
    "offset_of",
    "read_composite",
    "scene_of",
    "search",
    "to_reflectance",
    "touching",
]
