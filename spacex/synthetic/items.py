"""STAC items for the embedded archive, modelled on recorded items of Earth Search v1 (`sentinel-2-l2a`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from spacex.settings import SENTINEL2_BANDS, WAVELENGTHS
from spacex.synthetic.sensor import COARSE

COLLECTION = "sentinel-2-l2a"
_KEYS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")
ASSETS = dict(zip(SENTINEL2_BANDS, _KEYS, strict=True))
"""Earth Search's asset key of each band; the common names of the electro-optical extension, but for nir08."""
_COMMON = ("blue", "green", "red", "rededge", "rededge", "rededge", "nir", "nir08", "swir16", "swir22")
_EXTENSIONS = "eo/v1.1.0 projection/v1.1.0 raster/v1.1.0 view/v1.0.0 grid/v1.1.0 mgrs/v1.0.0 sentinel-2/v1.0.0"
_EXTENSIONS += " processing/v1.1.0"
_SCL_NAMES = {3: "cloud_shadow", 4: "vegetation", 5: "not_vegetated", 6: "water"}
_SCL_NAMES |= {8: "medium_proba_clouds", 9: "high_proba_clouds", 10: "thin_cirrus", 11: "snow_ice"}


@dataclass(frozen=True)
class Product:
    """How a scene was processed and published."""

    date: str
    """ISO day of the overpass."""
    platform: str
    """sentinel-2a or sentinel-2b."""
    baseline: str
    """Processing baseline, e.g. "05.00"."""
    applied: bool
    """Whether the host has already taken the offset of baseline 04.00 off the pixels."""
    sun_elevation: float
    """Degrees above the horizon."""

    @property
    def offset(self) -> int:
        """The offset that the pixels still contain: 1000, or 0."""
        return 0 if self.applied or self.baseline < "04.00" else 1000


def item(product: Product, tile: str, geobox: GeoBox, classes: NDArray[np.uint8]) -> dict[str, Any]:
    """A scene's STAC item; hrefs are file names, to be completed by whoever writes the archive.

    `tile` is its MGRS tile, e.g. "34WED", `geobox` its 10 m grid, `classes` its SCL at 20 m, for the statistics.
    """
    name = f"{product.platform.replace('sentinel-', 'S').upper()}_{tile}_{product.date.replace('-', '')}_0_L2A"
    footprint = geobox.extent.to_crs("EPSG:4326", resolution=2000)
    west, south, east, north = footprint.boundingbox.bbox
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in _EXTENSIONS.split()],
        "id": name,
        "collection": COLLECTION,
        "geometry": footprint.json,
        "bbox": [west, south, east, north],
        "properties": _properties(product, tile, geobox, classes, name),
        "links": [],
        "assets": _assets(product, geobox),
    }


def _properties(product: Product, tile: str, geobox: GeoBox, classes: NDArray[np.uint8], name: str) -> dict[str, Any]:
    stamp = product.date.replace("-", "")
    number = product.baseline.replace(".", "")
    middle = geobox.extent.to_crs("EPSG:4326").centroid.coords[0]
    made = f"{product.date}T14:02:11.000000Z"
    return {
        "created": "2020-09-06T08:14:40.000Z",
        "updated": "2020-09-06T08:14:40.000Z",
        "platform": product.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "proj:epsg": epsg_of(geobox),
        "proj:centroid": {"lat": round(middle[1], 5), "lon": round(middle[0], 5)},
        "mgrs:utm_zone": int(tile[:2]),
        "mgrs:latitude_band": tile[2],
        "mgrs:grid_square": tile[3:],
        "grid:code": f"MGRS-{tile}",
        "view:sun_azimuth": 168.4,
        "view:sun_elevation": product.sun_elevation,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": product.baseline,
        "s2:product_uri": f"{name[:3]}_MSIL2A_{stamp}T100031_N{number}_R122_T{tile}_{stamp}T140211.SAFE",
        "s2:generation_time": made,
        "s2:datastrip_id": f"{name[:3]}_OPER_MSI_L2A_DS_SYN_{stamp}T140211_S{stamp}T100031_N{product.baseline}",
        "datetime": f"{product.date}T10:00:31.000000Z",
        "s2:sequence": "0",
        "earthsearch:boa_offset_applied": product.applied,
    } | _statistics(classes)


def epsg_of(geobox: GeoBox) -> int:
    """EPSG number of a grid's CRS; 0 if it has none."""
    return int(geobox.crs.epsg or 0) if geobox.crs else 0


def _statistics(classes: NDArray[np.uint8]) -> dict[str, float]:
    """Percentages as in real items: no data of all pixels, the classes of the pixels with data."""
    counts = np.bincount(classes.ravel(), minlength=12)
    share = 100.0 * counts / max(1, int(counts[1:].sum()))
    named = {f"s2:{name}_percentage": round(float(share[number]), 6) for number, name in _SCL_NAMES.items()}
    cloudy = round(float(share[[8, 9, 10]].sum()), 6)
    empty = round(float(100.0 * counts[0] / classes.size), 6)
    return named | {"eo:cloud_cover": cloudy, "s2:nodata_pixel_percentage": empty}


def _assets(product: Product, geobox: GeoBox) -> dict[str, Any]:
    # what a catalogue advertises follows the baseline, whether or not the offset is still in the pixels
    advertised = -0.1 if product.baseline >= "04.00" else 0.0
    assets = {}
    for number, band in enumerate(SENTINEL2_BANDS):
        gsd = 20 if number in COARSE else 10
        raster = {"nodata": 0, "data_type": "uint16", "spatial_resolution": gsd, "scale": 0.0001, "offset": advertised}
        name = {"name": band, "common_name": _COMMON[number], "center_wavelength": WAVELENGTHS[band]}
        assets[ASSETS[band]] = _asset(f"{band}.tif", band, gsd, geobox, raster, ["data", "reflectance"])
        assets[ASSETS[band]]["eo:bands"] = [name]
    raster = {"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}
    return assets | {"scl": _asset("SCL.tif", "Scene classification map", 20, geobox, raster, ["data"])}


def _asset(href: str, title: str, gsd: int, geobox: GeoBox, raster: dict[str, Any], roles: list[str]) -> dict[str, Any]:
    step = gsd // 10
    affine = geobox.affine
    return {
        "href": href,
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "title": title,
        "gsd": gsd,
        "proj:shape": [geobox.height // step, geobox.width // step],
        "proj:transform": [gsd, 0, affine.c, 0, -gsd, affine.f],
        "raster:bands": [raster],
        "roles": roles,
    }
