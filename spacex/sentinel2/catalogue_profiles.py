"""How each catalogue of Sentinel-2 Level-2A serves its scenes: addresses, asset keys, the offset rule, signing.

A :class:`CatalogueProfile` may be used at another address (``get_catalogue(name, url=…, collection=…)``): a mirror, a
private archive, a test; and for a list of its items in a file (``items=…``, :mod:`spacex.sentinel2.item_list`).

Links of Planetary Computer need a token that expires after about 45 minutes. It is added when a file is opened, never
before, and never stored: :class:`~spacex.sentinel2.scenes.Scene` holds unsigned items. The Copernicus Data Space
(``cdse``) serves JPEG 2000 from ``s3://eodata``; it needs the user's own keys in ``CDSE_S3_ACCESS_KEY`` and
``CDSE_S3_SECRET_KEY`` (names of their own, because the ``AWS_*`` variables belong to the store the cube is written to).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from pydantic import field_validator

from spacex.errors import CatalogueError
from spacex.sentinel2 import signing
from spacex.sentinel2.links import is_local
from spacex.sentinel2.reflectance import OffsetRule
from spacex.settings import SENTINEL2_BANDS, Settings

S3_KEYS = {"AWS_ACCESS_KEY_ID": "CDSE_S3_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "CDSE_S3_SECRET_KEY"}  # nosec B105
"""GDAL's names of the keys of an S3 store that is not AWS, and the variables that hold them."""


class CatalogueProfile(Settings):
    """How one catalogue describes and serves Sentinel-2 Level-2A."""

    name: str
    """The name users type."""
    url: str
    """Root of the STAC API, or the file of the list of items; empty for the embedded landscape's, which has no API."""
    listed: bool = False
    """Whether `url` is a file of items, not an API."""
    collection: str
    """Collection that holds Level-2A."""
    assets: dict[str, str]
    """Band name (B02 …) to asset key."""
    scl: str
    """Asset key of the scene classification."""
    rule: OffsetRule
    """How its items tell whether pixels carry the +1000 offset."""
    signing: Literal["none", "planetary-computer"] = "none"
    """How a link is signed just before it is opened."""
    s3_endpoint: str | None = None
    """Host of the S3 service behind s3:// links, where it is not AWS."""

    @field_validator("assets")
    @classmethod
    def _known_bands(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := set(value) - set(SENTINEL2_BANDS):
            raise ValueError(f"unknown bands {sorted(unknown)}, expected some of {SENTINEL2_BANDS}")
        return value

    def keys(self, bands: Iterable[str]) -> list[str]:
        """Asset keys of bands; raises `CatalogueError` if the catalogue lacks one."""
        if missing := [band for band in bands if band not in self.assets]:
            raise CatalogueError(
                f"the catalogue {self.name} lacks bands",
                got=", ".join(missing),
                expected=", ".join(self.assets),
                do="Use a checkpoint made for these bands.",
            )
        return [self.assets[band] for band in bands]

    @property
    def title(self) -> str:
        """What messages call it: its name, or the file."""
        return self.url if self.listed else self.name

    def check_credentials(self, links: Iterable[str] = ()) -> None:
        """Refuse to begin where the catalogue's own files cannot be read for want of keys; raises `CatalogueError`.

        The files of its own API always need them; those of another API or of a list, where one of the `links` does.
        """
        missing = [name for name in S3_KEYS.values() if not os.environ.get(name)]
        own = self.url == CATALOGUES[self.name].url or any(link.startswith("s3://") for link in links)
        if self.s3_endpoint is not None and missing and own:
            raise CatalogueError(
                f"the files of the catalogue {self.name} need keys",
                got=f"no {' and no '.join(missing)} in the environment",
                do="Make S3 keys at dataspace.copernicus.eu, and set both variables wherever scenes are read.",
            )

    def sign(self, href: str) -> str:
        """The link to open right now; the result expires and must not be kept or shown. Raises `OSError`."""
        return signing.sign(href) if self.signing == "planetary-computer" else href

    def s3_options(self) -> dict[str, str]:
        """GDAL options for s3:// links: the store's endpoint and the keys made for it, if there are any.

        The keys in the environment are those of the store the cube goes to. They are used for a catalogue on this
        machine (then this is empty), never for one on the network: its links could name whatever those keys can read.
        """
        if self.s3_endpoint is None:
            return {} if is_local(self.url) else {"AWS_NO_SIGN_REQUEST": "YES"}
        options = {"AWS_S3_ENDPOINT": self.s3_endpoint, "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_HTTPS": "YES"}
        return options | {name: value for name, variable in S3_KEYS.items() if (value := os.environ.get(variable))}


_COLOURS = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2", "B07": "rededge3",
    "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
_TEN_METRES = ("B02", "B03", "B04", "B08")
_EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"

_PROFILES = (
    CatalogueProfile(name="demo", url="", collection="sentinel-2-l2a", assets=_COLOURS, scl="scl", rule="host-flag"),
    CatalogueProfile(
        name="earth-search", url=_EARTH_SEARCH, collection="sentinel-2-l2a", assets=_COLOURS, scl="scl",
        rule="host-flag",
    ),
    CatalogueProfile(
        name="earth-search-c1", url=_EARTH_SEARCH, collection="sentinel-2-c1-l2a", assets=_COLOURS, scl="scl",
        rule="metadata",
    ),
    CatalogueProfile(
        name="planetary-computer", url="https://planetarycomputer.microsoft.com/api/stac/v1",
        collection="sentinel-2-l2a", assets={band: band for band in SENTINEL2_BANDS}, scl="SCL", rule="baseline",
        signing="planetary-computer",
    ),
    CatalogueProfile(
        name="cdse", url="https://stac.dataspace.copernicus.eu/v1", collection="sentinel-2-l2a",
        assets={b: f"{b}_{10 if b in _TEN_METRES else 20}m" for b in SENTINEL2_BANDS}, scl="SCL_20m",
        rule="metadata", s3_endpoint="eodata.dataspace.copernicus.eu",
    ),
)  # fmt: skip

CATALOGUES: dict[str, CatalogueProfile] = {profile.name: profile for profile in _PROFILES}
"""The catalogues known by name."""


def get_catalogue(
    name: str, url: str | None = None, collection: str | None = None, items: str | None = None
) -> CatalogueProfile:
    """A catalogue's profile by name, optionally at another address or for a list of its items; `demo` needs either.

    Raises:
        CatalogueError: if there is no such catalogue, or it has no address.
    """
    if name not in CATALOGUES:
        raise CatalogueError("unknown catalogue", got=name, expected=", ".join(CATALOGUES))
    profile = CATALOGUES[name]
    if not (url := items or url or profile.url):
        raise CatalogueError(f"the catalogue {name} has no address of its own", do="Give its url.")
    collection = collection or profile.collection
    return profile.model_copy(update={"url": url, "collection": collection, "listed": items is not None})
