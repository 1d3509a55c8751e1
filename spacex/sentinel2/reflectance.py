"""From stored numbers to surface reflectance: which offset, decided per item, recorded, and checked.

ESA adds 1000 to every digital number (DN) of Level-2A products from processing baseline 04.00 on. Whether the pixels
of an item still carry it depends on the host, not on the date: Collection-1 reprocessed old years with the offset, and
Earth Search subtracts it before it publishes. README.md in this folder has the rule of every catalogue.

The result has the scale of AnthroProtect: DN 1 .. 65534 = reflectance * 10000, and 0 = no data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spacex.errors import CatalogueError

OffsetRule = Literal["host-flag", "metadata", "baseline"]
"""How a catalogue tells whether its pixels carry the offset; see `offset_of`."""
QUANTIFICATION = 10_000
"""DN per unit of reflectance (Sentinel-2 Products Specification, QUANTIFICATION_VALUE of Level-2A)."""
DN_MAX = 65_534
"""Largest DN kept; 65535 is left free to mark missing observations in the composite's sort."""
FIRST_WITH_OFFSET = "04.00"
"""The first processing baseline whose products carry the offset (in force from 2022-01-25)."""
DARK = 1000
"""DN that water, shade and forest stay below in some band, and nothing does that still carries the offset."""
MIN_CLEAR_PIXELS = 10_000
"""Clear pixels (1 km² at 10 m) needed as evidence for or against an offset."""


@dataclass(frozen=True)
class Offset:
    """What must be added to a scene's DN, and why."""

    dn: int
    """Added to every valid DN: 0 or -1000."""
    reason: str
    """The evidence in the item, in words; recorded in the cube's provenance."""


@dataclass(frozen=True)
class DarkPixels:
    """Evidence of the clear pixels of one band of one scene about its offset; counts, so that parts add up."""

    clear: int = 0
    """Clear pixels with data."""
    dark: int = 0
    """Those of less than `DARK` DN, as stored."""
    floored: int = 0
    """Those that the offset takes to zero or below."""

    def __add__(self, other: DarkPixels) -> DarkPixels:
        return DarkPixels(self.clear + other.clear, self.dark + other.dark, self.floored + other.floored)


def offset_of(item: Mapping[str, Any], rule: OffsetRule, assets: Iterable[str]) -> Offset:
    """Decide the offset of one STAC item from its own metadata, never from its date.

    Args:
        item: a STAC item as JSON, of any of the known catalogues.
        rule: ``host-flag``: 0 if ``boa_offset_applied`` is true, whatever is advertised; ``metadata``: the advertised
            ``raster:offset``. Where these are absent, and with ``baseline``: -1000 from processing baseline 04.00 on.
        assets: keys of the reflectance bands (not of SCL), whose advertised offsets are read.

    Raises:
        CatalogueError: if the item states nothing to decide by, or its bands contradict each other.
    """
    flags = (item["properties"].get(f"{host}:boa_offset_applied") for host in ("earthsearch", "sentinel"))
    if rule == "host-flag" and any(flag is True for flag in flags):
        return Offset(0, "boa_offset_applied is true: the host has already removed it")
    if rule == "metadata":
        offsets = {_advertised(item["assets"][key]) for key in assets if key in item["assets"]} or {None}
        if len(offsets) > 1:
            got = sorted(map(str, offsets))
            raise CatalogueError(f"the bands of {item['id']} advertise different offsets", got=got, expected="one")
        if (advertised := offsets.pop()) is not None:
            if abs(advertised) >= DN_MAX:
                expected = f"DN between -{DN_MAX} and {DN_MAX}, such as -1000"
                raise CatalogueError(
                    f"the bands of {item['id']} advertise no offset", got=advertised, expected=expected
                )
            return Offset(advertised, f"the assets advertise {advertised} DN")
    if (baseline := baseline_of(item)) is None:
        raise CatalogueError(
            f"cannot tell whether the pixels of {item['id']} carry the +1000 offset",
            got="no processing baseline and no advertised offset",
            expected="s2:processing_baseline, processing:version or a product name with _Nxxxx_",
            do="Leave the item out, or use a catalogue that records it.",
        )
    dn, side = (-1000, "04.00 or later") if baseline >= FIRST_WITH_OFFSET else (0, "before 04.00")
    because = "boa_offset_applied is not true; " if rule == "host-flag" else ""
    return Offset(dn, f"{because}processing baseline {baseline} is {side}")


def _advertised(asset: Mapping[str, Any]) -> int | None:
    """The offset in DN that an asset, or its band, advertises; None if it does not.

    STAC 1.1 has ``bands`` and the prefix ``raster:`` in them, STAC 1.0 has ``raster:bands`` without it.
    """
    first_bands = [(asset.get(name) or [{}])[0] for name in ("raster:bands", "bands")]
    own = {key: value for key, value in asset.items() if key.startswith("raster:")}
    stated = {
        key.removeprefix("raster:"): value
        for place in (*first_bands, own)  # what the asset itself says comes last and counts
        for key, value in place.items()
        if value is not None
    }
    scale, offset = stated.get("scale"), stated.get("offset")
    if offset == 0:
        return 0
    return None if offset is None or not scale else round(offset / scale)


def baseline_of(item: Mapping[str, Any]) -> str | None:
    """The processing baseline as "05.00", from whichever property or product name carries it."""
    properties = item["properties"]
    names = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
    stated = next((str(properties[name]) for name in names if properties.get(name)), "")
    if match := re.fullmatch(r"(\d{1,2})\.(\d{2})", stated):
        return f"{int(match[1]):02d}.{match[2]}"
    for product in (properties.get("s2:product_uri"), properties.get("sentinel:product_id"), item["id"]):
        if match := re.search(r"_N(\d{2})(\d{2})_", str(product)):
            return f"{match[1]}.{match[2]}"
    return None


def harmonise(dn: NDArray[np.uint16], offset: Offset, missing: int = 0) -> NDArray[np.uint16]:
    """Bring stored DN to the scale without offset: ``max(DN + offset, 1)``, while 0 stays no data.

    A valid pixel that the offset would take to zero or below becomes 1, so that it is never mistaken for no data (as in
    rslearn's harmonisation and on AnthroProtect's scale).

    Any shape; no data becomes `missing`, valid DN become 1 .. 65534.
    """
    lowest, highest = max(1, 1 - offset.dn), min(65_535, DN_MAX - offset.dn)
    out = np.clip(dn, np.uint16(lowest), np.uint16(highest))
    out += np.uint16(offset.dn % 65_536)  # modulo 65536 a negative offset is exact, in a quarter of the time of 32 bits
    if (no_data := dn == 0).any():  # rare, and the test costs a twentieth of the masked copy
        np.copyto(out, np.uint16(missing), where=no_data)
    return out


def to_reflectance(dn: NDArray[np.uint16], offset: Offset) -> NDArray[np.float32]:
    """Surface reflectance (1.0 = 10000 DN, NaN = no data) of stored DN (0 = no data) of any shape."""
    harmonised = harmonise(dn, offset)
    out = harmonised.astype(np.float32) / np.float32(QUANTIFICATION)
    out[harmonised == 0] = np.nan
    return out


def dark_pixels(dn: NDArray[np.uint16], clear: NDArray[np.bool_], offset: Offset) -> DarkPixels:
    """Count the pixels that are evidence about the decided offset, in the stored DN of one band where it is clear."""
    valid = clear & (dn > 0)
    masks = (valid, valid & (dn < DARK), valid & (dn <= max(0, -offset.dn)))
    return DarkPixels(*(int(np.count_nonzero(mask)) for mask in masks))


def contradiction(bands: Mapping[str, DarkPixels], offset: Offset) -> str | None:
    """How the pixels contradict the decided offset, as a warning; None if they do not.

    The check never decides: a decision from the pixels of one tile would give neighbouring tiles different offsets, and
    reading the whole of every item would cost as much as the map. The warning goes into the tile's provenance, so that
    wrong flags (Earth Search has published some) can be found there.
    """
    counted = {name: dark for name, dark in bands.items() if dark.clear >= MIN_CLEAR_PIXELS}
    name, worst = max(counted.items(), key=lambda pair: pair[1].floored / pair[1].clear, default=("", DarkPixels(1)))
    share = worst.floored / worst.clear
    if offset.dn < 0 and share > 0.05:
        return (
            f"{share:.0%} of the clear pixels in {name} are at or below zero after {offset.dn} DN: "
            "the host has probably removed the offset already"
        )
    if counted and offset.dn == 0 and all(dark.dark <= dark.clear // 1000 for dark in counted.values()):
        return (
            f"in no band more than one clear pixel in a thousand is darker than {DARK} DN: "
            "the +1000 offset is probably still there"
        )
    return None
