"""Encoding of maps: each variable's type, packing and precision, and the downsampling from one level to the next.

An overview pixel is the mean of the valid ones among the four *stored* pixels below it. A level therefore depends on
the level below alone: it has the same bits for any tile size, whether a tile or `make_overviews` wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numcodecs.bitround import BitRound
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

KEEP_BITS = 10
"""Mantissa bits kept of float32 maps: a relative error of at most 2^-11, 0.05 %."""
NAN = "AAAAAAAA+H8="
"""float64 NaN in base 64: how xarray spells `_FillValue` NaN in Zarr format 3."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Variable:
    """One (time, …, y, x) variable: its storage type, no-data value, attributes and packing."""

    name: str
    dtype: str
    fill: float | int
    encode: Callable[[NDArray[Any]], NDArray[Any]]
    """From float32 with NaN (or counts) to what is stored."""
    decode: Callable[[NDArray[Any]], Array]
    """Back to float32 with NaN."""
    attributes: dict[str, Any] = field(default_factory=dict)
    bands: tuple[str, ...] = ()
    """Names along an extra dimension; empty for none."""
    band_dimension: tuple[str, ...] = ()
    """The name of that dimension, if there is one: the composite has other bands than the pictures."""
    first: int = 0
    """The finest level that holds it."""
    overviews: bool = True
    """Whether coarser levels hold it too."""


def compressors(dtype: str) -> list[BloscCodec | ZstdCodec]:
    """Codecs of a map's chunks: bit shuffle and zstd, then a checksum."""
    # bit shuffling makes float32 maps a fifth to a third smaller
    blosc = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize)
    # Blosc has no checksum, so a flipped bit would be read as data; an outer zstd adds one at almost no cost.
    # crc32c would do the same, but GDAL 3.12 cannot read it.
    return [blosc, ZstdCodec(level=1, checksum=True)]


def float_map(name: str, made: str, quantity: str) -> Variable:
    """An attribution map.

    Args:
        name: of the variable.
        made: one sentence on how it was made.
        quantity: what its values measure, in words; all are dimensionless.
    """
    attributes = {"long_name": name.replace("_", " "), "units": "1", "quantity": quantity, "comment": made}
    return Variable(name, "f4", np.nan, bitround, _as_float, {**attributes, "_FillValue": NAN})


def naturalness() -> Variable:
    """The classifier's score, in steps of 0.004."""
    made = "the classifier's score of the chips around a pixel, blended; 1 = natural"
    return score("naturalness", made)


def score(name: str, made: str) -> Variable:
    """A score from 0 to 1, in steps of 0.004; `made` says in one sentence how it was."""
    about = {"long_name": name.replace("_", " "), "comment": made}
    attributes = {**about, "units": "1", "quantity": "classifier's score"}
    return _packed(name, "u1", attributes, steps=250, zero=1, largest=251)


def observations() -> Variable:
    """Counts of clear observations; at full resolution only."""
    attributes = {"long_name": "clear observations in the composite", "units": "1"}
    return Variable("observations", "u2", 0, _as_count, _as_float, attributes, overviews=False)


def composite(bands: tuple[str, ...]) -> Variable:
    """Surface reflectance of the composite, from level 1 on."""
    return _reflectance("composite", "surface reflectance", bands, band_dimension=("band",), first=1)


def picture(name: str, made: str, bands: tuple[str, ...]) -> Variable:
    """A generated picture, surface reflectance of all bands; `made` says in one sentence how it was."""
    variable = _reflectance(name, name.replace("_", " "), bands, band_dimension=("input_band",))
    variable.attributes["comment"] = made
    return variable


def _reflectance(name: str, long_name: str, bands: tuple[str, ...], **more: Any) -> Variable:
    attributes = {"long_name": long_name, "units": "1", "quantity": "reflectance"}
    return _packed(name, "u2", attributes, steps=10_000, zero=0, largest=65_535, bands=bands, **more)


def _packed(
    name: str, dtype: str, attributes: dict[str, Any], *, steps: int, zero: int, largest: int, **more: Any
) -> Variable:
    """A variable stored as whole numbers: `zero` for 0 and `steps` more for 1, from 1 to `largest`; 0 means no data."""

    def encode(values: NDArray[Any]) -> NDArray[Any]:
        # clipped at 1, so that a valid pixel never becomes 0
        codes = np.clip(np.nan_to_num(values, posinf=largest, neginf=0) * steps + zero, 1, largest)
        return np.rint(np.where(np.isnan(values), 0, codes)).astype(dtype)

    def decode(codes: NDArray[Any]) -> Array:
        values = (codes.astype(np.float32) - zero) / steps
        return np.where(codes == 0, np.nan, values).astype(np.float32)

    packing = {"scale_factor": 1 / steps, "add_offset": -zero / steps, "_FillValue": 0}
    return Variable(name, dtype, 0, encode, decode, attributes | packing, **more)


def downsample_2x(values: Array) -> Array:
    """Mean of the valid pixels of each 2 × 2 block.

    Args:
        values: (…, height, width) float32, NaN = no data; an odd side is padded with NaN.

    Returns:
        (…, ceil(height / 2), ceil(width / 2)) float32; NaN where none of the four is valid.
    """
    height, width = values.shape[-2:]
    if height % 2 or width % 2:
        edge = [(0, 0)] * (values.ndim - 2) + [(0, height % 2), (0, width % 2)]
        values = np.pad(values, edge, constant_values=np.nan)
    quarters = [values[..., row::2, col::2] for row in (0, 1) for col in (0, 1)]
    a, b, c, d = (np.nan_to_num(quarter, posinf=0, neginf=0).astype(np.float64) for quarter in quarters)
    count = sum(np.isfinite(quarter).astype(np.uint8) for quarter in quarters)
    # one fixed order of additions: a library's reduction may choose it by the block's size, which changes last bits
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Array = (((a + b) + (c + d)) / count).astype(np.float32)
    return means


def bitround(values: NDArray[Any]) -> Array:
    """Round float32 to `KEEP_BITS` mantissa bits, half to even, so that compression works; NaN stays NaN."""
    codec = BitRound(KEEP_BITS)
    rounded: Array = codec.decode(codec.encode(np.asarray(values, np.float32)))
    rounded[np.isnan(values)] = np.nan  # rounding turns some NaN bit patterns into zero
    return rounded


def _as_float(stored: NDArray[Any]) -> Array:
    return stored.astype(np.float32)


def _as_count(values: NDArray[Any]) -> NDArray[np.uint16]:
    return values.astype(np.uint16)
