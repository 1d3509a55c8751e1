"""STAC items of our own with the fields of four services, for tests that need items as the real services send them.

Written after what each service documents: Earth Search v1 (`sentinel-2-l2a`, `sentinel-2-c1-l2a`), Planetary Computer,
Copernicus Data Space. They hold what SpacEX reads, and beside it what it must pass over: metadata, masks, other
resolutions, other formats. tests/sentinel2/test_scenes.py compares them with recorded items where those are at hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from odc.geo.geobox import GeoBox

TILE = GeoBox.from_bbox((600_000, 7_490_220, 709_800, 7_600_020), "EPSG:32634", resolution=10)
"""The 10 m grid of a whole MGRS tile."""
COG, JP2 = "image/tiff; application=geotiff; profile=cloud-optimized", "image/jp2"
# pixel in metres, centre in µm; the key of Earth Search; the common names of Earth Search, Planetary Computer and CDSE
_BANDS = {
    "B01": (60, 0.443, "coastal", "coastal", "coastal", "coastal"),
    "B02": (10, 0.49, "blue", "blue", "blue", "blue"),
    "B03": (10, 0.56, "green", "green", "green", "green"),
    "B04": (10, 0.665, "red", "red", "red", "red"),
    "B05": (20, 0.704, "rededge1", "rededge", "rededge", "rededge071"),
    "B06": (20, 0.74, "rededge2", "rededge", "rededge", "rededge075"),
    "B07": (20, 0.783, "rededge3", "rededge", "rededge", "rededge078"),
    "B08": (10, 0.842, "nir", "nir", "nir", "nir"),
    "B8A": (20, 0.865, "nir08", "nir08", "rededge", "nir08"),
    "B09": (60, 0.945, "nir09", "nir09", None, "nir09"),
    "B11": (20, 1.61, "swir16", "swir16", "swir16", "swir16"),
    "B12": (20, 2.19, "swir22", "swir22", "swir22", "swir22"),
}
_SHARES = ("nodata_pixel", "saturated_defective_pixel", "degraded_msi_data", "cloud_shadow", "vegetation", "water",
           "not_vegetated", "unclassified", "medium_proba_clouds", "high_proba_clouds", "thin_cirrus",
           "snow_ice")  # fmt: skip
_CLASSES = ("no_data", "saturated_or_defective", "dark_area_pixels", "cloud_shadows", "vegetation", "not_vegetated",
            "water", "unclassified", "cloud_medium_probability", "cloud_high_probability", "thin_cirrus",
            "snow")  # fmt: skip
"""Names of the scene classes 0 to 11."""


@dataclass(frozen=True)
class Product:
    """One Sentinel-2 Level-2A product, from which every service's item of it follows."""

    grid: GeoBox = TILE
    """At 10 m."""
    tile: str = "34WFA"
    sensed: str = "20200703T100031"
    processed: str = "20230612T214223"
    satellite: str = "2B"
    baseline: str = "05.00"
    cloud_cover: float = 18.0
    sun_elevation: float = 43.29
    applied: bool = True
    """Whether Earth Search's `sentinel-2-l2a` has taken the offset off the pixels."""

    @property
    def epsg(self) -> int:
        return int(self.grid.crs.epsg)

    @property
    def advertised(self) -> float:
        """The offset in reflectance that goes with the baseline."""
        return -0.1 if self.baseline >= "04.00" else 0.0

    @property
    def safe(self) -> str:
        """The product's name."""
        number = self.baseline.replace(".", "")
        return f"S{self.satellite}_MSIL2A_{self.sensed}_N{number}_R122_T{self.tile}_{self.processed}"

    @property
    def strip(self) -> str:
        """When the datastrip began: half a minute before the scene."""
        return f"{self.sensed[:8]}T095958"

    @property
    def datastrip(self) -> str:
        return f"S{self.satellite}_OPER_MSI_L2A_DS_2BPS_{self.processed}_S{self.strip}_N{self.baseline}"

    def shape(self, gsd: int) -> list[int]:
        return [side * 10 // gsd for side in self.grid.shape]

    def transform(self, gsd: int) -> list[float]:
        return [gsd, 0, self.grid.affine.c, 0, -gsd, self.grid.affine.f]


def item_of(service: str, product: Product) -> dict[str, Any]:
    """The item of a product as one of `SERVICES` would send it, with links to that service's files."""
    return dict(json.loads(json.dumps(SERVICES[service](product))))  # lists, not tuples, and nothing shared


def with_files(item: dict[str, Any], links: dict[str, str]) -> dict[str, Any]:
    """The item with these assets alone, by key, each with its own link."""
    return {**item, "assets": {key: {**item["assets"][key], "href": href} for key, href in links.items()}}


def _iso(stamp: str) -> str:
    return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%S').isoformat()}.024000Z"


def _document(product: Product, name: str, collection: str, extensions: str, **parts: Any) -> dict[str, Any]:
    footprint = product.grid.extent.to_crs("EPSG:4326", resolution=20_000)
    urls = [f"https://stac-extensions.github.io/{extension}/schema.json" for extension in extensions.split()]
    return {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": urls, "id": name, "collection": collection,
        "geometry": footprint.json, "bbox": list(footprint.boundingbox.bbox), "links": [], **parts,
    }  # fmt: skip


def _s2(product: Product) -> dict[str, Any]:
    """Properties of the sentinel-2 extension."""
    return {f"s2:{name}_percentage": 0.0 for name in _SHARES} | {
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": product.baseline,
        "s2:product_uri": f"{product.safe}.SAFE",
        "s2:generation_time": _iso(product.processed),
        "s2:datatake_id": f"GS{product.satellite}_{product.sensed}_017327_N{product.baseline}",
        "s2:datatake_type": "INS-NOBS",
        "s2:datastrip_id": product.datastrip,
        "s2:reflectance_conversion_factor": 0.97,
    }


def _earth_search(product: Product, collection_1: bool = False) -> dict[str, Any]:
    tile, platform = product.tile, f"sentinel-{product.satellite.lower()}"
    own: dict[str, Any] = {"s2:sequence": "0", "earthsearch:boa_offset_applied": product.applied}
    name = f"S{product.satellite}_{tile}_{product.sensed[:8]}_0_L2A"
    if collection_1:
        own = {"storage:platform": "AWS", "storage:region": "us-west-2", "storage:requester_pays": False}
        name = f"S{product.satellite}_T{tile}_{product.sensed}_L2A"
    extensions = "eo/v1.1.0 grid/v1.1.0 mgrs/v1.0.0 processing/v1.1.0 projection/v1.1.0 raster/v1.1.0 view/v1.0.0"
    return _document(
        product, name, "sentinel-2-c1-l2a" if collection_1 else "sentinel-2-l2a", extensions,
        properties={
            "created": _iso(product.processed), "updated": _iso(product.processed), "datetime": _iso(product.sensed),
            "platform": platform, "constellation": "sentinel-2", "instruments": ["msi"],
            "eo:cloud_cover": product.cloud_cover, "proj:epsg": product.epsg,
            "proj:centroid": {"lat": 68.0, "lon": 23.9},
            "mgrs:utm_zone": int(tile[:2]), "mgrs:latitude_band": tile[2], "mgrs:grid_square": tile[3:],
            "grid:code": f"MGRS-{tile}", "view:sun_azimuth": 168.4, "view:sun_elevation": product.sun_elevation,
            **_s2(product), **own,
        },
        assets=_earth_search_assets(product, collection_1, f"20/{name}"),
    )  # fmt: skip


def _earth_search_assets(product: Product, collection_1: bool, path: str) -> dict[str, Any]:
    def raster(file: str, gsd: int, dtype: str, **scale: float) -> dict[str, Any]:
        band = {"nodata": 0, "data_type": dtype, "spatial_resolution": gsd, **scale}
        place = {"proj:shape": product.shape(gsd), "proj:transform": product.transform(gsd), "raster:bands": [band]}
        sizes = {"file:size": 4_702_862, "file:checksum": "1220" + 64 * "0"} if collection_1 else {}
        named = {"href": f"https://cogs.example.org/{path}/{file}.tif", "title": f"{file} - {gsd}m", "roles": ["data"]}
        return {"type": COG, "gsd": gsd, **named, **place, **sizes}

    assets = {"visual": raster("TCI", 10, "uint8"), "scl": raster("SCL", 20, "uint8")}
    assets["aot"] = raster("AOT", 20, "uint16", scale=0.001, offset=0)
    for band, (gsd, centre, key, common, _, _) in _BANDS.items():
        names = {"name": band, "common_name": common, "center_wavelength": centre}
        assets[key] = raster(band, gsd, "uint16", scale=0.0001, offset=product.advertised)
        assets[key] |= {"eo:bands": [names], "roles": ["data", "reflectance"]}
    if not collection_1:  # the files as ESA delivers them, beside those made of them
        copies = {f"{key}-jp2": {**asset, "type": JP2} for key, asset in assets.items()}
        assets |= {key: {**asset, "href": asset["href"].replace(".tif", ".jp2")} for key, asset in copies.items()}
    metadata = {"href": f"s3://cogs/{path}/metadata.xml", "type": "application/xml", "roles": ["metadata"]}
    return assets | {"granule_metadata": metadata, "product_metadata": metadata}


def _planetary_computer(product: Product) -> dict[str, Any]:
    root = f"https://sentinel2.blob.core.windows.net/sentinel2-l2/{product.safe}.SAFE"

    def raster(key: str, gsd: int) -> dict[str, Any]:
        place = {"proj:shape": product.shape(gsd), "proj:transform": product.transform(gsd)}
        bounds = {"proj:bbox": list(product.grid.boundingbox.bbox)}
        return {
            "href": f"{root}/{key}_{gsd}m.tif",
            "type": COG,
            "gsd": float(gsd),
            **place,
            **bounds,
            "roles": ["data"],
        }

    assets = {key: raster(key, gsd) for key, gsd in (("AOT", 10), ("WVP", 10), ("visual", 10), ("SCL", 20))}
    for band, (gsd, centre, _, _, common, _) in _BANDS.items():
        names = {"name": band, "description": f"Band {band}", "center_wavelength": centre}
        assets[band] = {**raster(band, gsd), "eo:bands": [names | ({"common_name": common} if common else {})]}
    assets["safe-manifest"] = {"href": f"{root}/manifest.safe", "type": "application/xml", "roles": ["metadata"]}
    number = f"_N{product.baseline.replace('.', '')}"
    return _document(
        product, product.safe.replace(number, ""), "sentinel-2-l2a", "eo/v1.0.0 sat/v1.0.0 projection/v1.0.0",
        properties={
            "datetime": _iso(product.sensed), "platform": f"Sentinel-{product.satellite}",
            "constellation": "Sentinel 2", "instruments": ["msi"], "proj:epsg": product.epsg,
            "s2:mgrs_tile": product.tile, "eo:cloud_cover": product.cloud_cover,
            "sat:orbit_state": "descending", "sat:relative_orbit": 122,
            "s2:mean_solar_zenith": 90 - product.sun_elevation, "s2:mean_solar_azimuth": 168.4, **_s2(product),
        },
        assets=assets,
    )  # fmt: skip


def _copernicus_data_space(product: Product) -> dict[str, Any]:
    names = {"AOT": (10, 20, 60), "WVP": (10, 20, 60), "TCI": (10, 20, 60), "SCL": (20, 60)}
    assets = {f"{name}_{gsd}m": _cdse_asset(product, name, gsd) for name, sizes in names.items() for gsd in sizes}
    for band, (own, *_) in _BANDS.items():
        coarser: Iterable[int] = (10,) if band == "B08" else (gsd for gsd in (10, 20, 60) if gsd >= own)
        assets |= {f"{band}_{gsd}m": _cdse_asset(product, band, gsd) for gsd in coarser}
    for name in ("safe_manifest", "granule_metadata", "inspire_metadata", "product_metadata", "datastrip_metadata"):
        assets[name] = _cdse_links(product, f"{name}.xml") | {"type": "application/xml", "roles": ["metadata"]}
    return _document(
        product, product.safe, "sentinel-2-l2a", "eo/v2.0.0 raster/v2.0.0 projection/v2.0.0 grid/v1.1.0 file/v2.1.0",
        stac_version="1.1.0",
        properties={
            "gsd": 10, "datetime": _iso(product.sensed), "start_datetime": _iso(product.sensed),
            "platform": f"sentinel-{product.satellite.lower()}", "constellation": "sentinel-2", "instruments": ["msi"],
            "grid:code": f"MGRS-{product.tile}", "eo:cloud_cover": product.cloud_cover, "eo:snow_cover": 0.0,
            "statistics": dict.fromkeys(("water", "nodata", "vegetation", "thin_cirrus", "cloud_shadow"), 0.0),
            "view:sun_azimuth": 168.4, "view:sun_elevation": product.sun_elevation, "product:type": "S2MSI2A",
            "processing:level": "L2", "processing:version": product.baseline,
            "processing:datetime": _iso(product.processed), "processing:facility": "ESA",
            "eopf:datastrip_id": product.datastrip, "sat:relative_orbit": 122,
        },
        assets=assets,
    )  # fmt: skip


def _cdse_links(product: Product, file: str) -> dict[str, Any]:
    path = f"{product.safe}.SAFE/GRANULE/{file}"
    there = {"href": f"https://download.dataspace.copernicus.eu/odata/{path}/$value", "auth:refs": ["oidc"]}
    return {
        "href": f"s3://eodata/Sentinel-2/MSI/L2A/{path}", "alternate:name": "S3", "auth:refs": ["s3"],
        "alternate": {"https": {**there, "storage:refs": [], "alternate:name": "HTTPS"}},
        "storage:refs": ["cdse-s3", "creodias-s3"], "file:size": 4_702_862, "file:checksum": "1620" + 64 * "0",
    }  # fmt: skip


def _cdse_asset(product: Product, name: str, gsd: int) -> dict[str, Any]:
    asset = _cdse_links(product, f"{name}_{gsd}m.jp2") | {
        "type": JP2, "title": f"{name} - {gsd}m", "gsd": gsd, "nodata": 0,
        "file:local_path": f"{product.safe}.SAFE/GRANULE/{name}_{gsd}m.jp2",
        "data_type": "uint8" if name in ("SCL", "TCI") else "uint16",
        "proj:code": f"EPSG:{product.epsg}", "proj:bbox": list(product.grid.boundingbox.bbox),
        "proj:shape": product.shape(gsd), "proj:transform": product.transform(gsd),
        "roles": ["data", "sampling:original", f"gsd:{gsd}m"],
    }  # fmt: skip
    if name == "SCL":
        asset["classification:classes"] = [{"name": known, "value": at} for at, known in enumerate(_CLASSES)]
    if name in _BANDS:
        _, centre, *_, common = _BANDS[name]
        asset["bands"] = [{"name": name, "eo:common_name": common, "eo:center_wavelength": centre}]
        asset |= {"view:azimuth": 112.3, "view:incidence_angle": 4.9, "roles": ["data", "reflectance", f"gsd:{gsd}m"]}
        asset |= {"raster:scale": 0.0001, "raster:offset": product.advertised}
    return asset


SERVICES: dict[str, Callable[[Product], dict[str, Any]]] = {
    "earth-search": _earth_search,
    "earth-search-c1": lambda product: _earth_search(product, collection_1=True),
    "planetary-computer": _planetary_computer,
    "cdse": _copernicus_data_space,
}
"""By the names of `spacex.sentinel2.CATALOGUES`."""
