"""Sentinel-2 scenes in, composites of surface reflectance out.

Read in this order: `catalogue_profiles` and `scene_search` (where scenes come from), `scenes` (what they are),
`reflectance` (what their numbers mean), `assets` and `block_reader` (how files are read), `resampling` (how pixels are
brought to the cube's grid), `composite`.
"""

from spacex.sentinel2.catalogue_profiles import CATALOGUES, CatalogueProfile, get_catalogue
from spacex.sentinel2.composite import Composite, read_composite
from spacex.sentinel2.reflectance import Offset, offset_of, to_reflectance
from spacex.sentinel2.scene_request import CompositeSettings
from spacex.sentinel2.scene_search import search
from spacex.sentinel2.scenes import Scene, SceneIndex, scene_of, touching

__all__ = [
    "CATALOGUES", "CatalogueProfile", "Composite", "CompositeSettings", "Offset", "Scene", "SceneIndex",
    "get_catalogue", "offset_of", "read_composite", "scene_of", "search", "to_reflectance", "touching",
]  # fmt: skip
