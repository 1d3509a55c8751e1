"""Layer styles for QGIS: a QML file that draws a GeoTIFF of `spacex export` in the colours of the quicklook.

QGIS loads `naturalness_….qml` by itself with the `.tif` of the same name. Its values are those of the band's scale and
offset, as everywhere, so the ends of the colour scales are in the map's own unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from spacex.display import display_band_indices, white_and_gamma

STOPS = 17
"""Colours that a scale is written with; between them QGIS interpolates."""
HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def map_style(colours: str, top: float) -> str:
    """QML of a map of one band.

    Args:
        colours: matplotlib's name of the colour scale.
        top: where it ends; it begins at 0, and larger values have its last colour.
    """
    root, pipe = _root()
    ends = {"classificationMin": "0", "classificationMax": f"{top:.6g}"}
    about = {"type": "singlebandpseudocolor", "band": "1", "opacity": "1", "alphaBand": "-1", **ends}
    scale = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"}
    limits = {"minimumValue": "0", "maximumValue": f"{top:.6g}"}
    shader = ElementTree.SubElement(ElementTree.SubElement(pipe, "rasterrenderer", about), "rastershader")
    ramp = ElementTree.SubElement(shader, "colorrampshader", scale | limits)
    for share in np.linspace(0, 1, STOPS):
        value, colour = f"{share * top:.6g}", to_hex(colormaps[colours](share))
        ElementTree.SubElement(ramp, "item", {"value": value, "label": value, "color": colour, "alpha": "255"})
    return HEAD + ElementTree.tostring(root, encoding="unicode")


def picture_style(bands: Sequence[str]) -> str:
    """QML of a picture of reflectance, by the names of its bands: the stretch of `spacex.display`."""
    root, pipe = _root()
    white, gamma = white_and_gamma(bands)
    colours = dict(zip(("red", "green", "blue"), display_band_indices(bands), strict=True))
    numbers = {f"{colour}Band": str(band + 1) for colour, band in colours.items()}
    about = {"type": "multibandcolor", "opacity": "1", "alphaBand": "-1", **numbers}
    renderer = ElementTree.SubElement(pipe, "rasterrenderer", about)
    for colour in colours:
        stretch = ElementTree.SubElement(renderer, f"{colour}ContrastEnhancement")
        for name, text in (("minValue", "0"), ("maxValue", f"{white:g}"), ("algorithm", "StretchToMinimumMaximum")):
            ElementTree.SubElement(stretch, name).text = text
    ElementTree.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma=f"{gamma:g}")
    return HEAD + ElementTree.tostring(root, encoding="unicode")


def _root() -> tuple[ElementTree.Element, ElementTree.Element]:
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    return root, ElementTree.SubElement(root, "pipe")
