"""How pixels are remembered: packed without loss, because what a worker remembers it need not fetch again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from spacex.sentinel2.median import MISSING
from spacex.sentinel2.reflectance import QUANTIFICATION

PACKING = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
"""Half their size for visible bands, at 3 ms to pack and 2 ms to unpack a megapixel."""

Pixels = NDArray[Any]


@dataclass(frozen=True)
class RawArray:
    """An array that is used once and not remembered, in the manner of `CompressedArray`."""

    values: Pixels

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.values.nbytes

    def pixels(self) -> Pixels:
        """The values."""
        return self.values


@dataclass(frozen=True)
class CompressedArray:
    """An array as it is remembered."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, pixels: Pixels) -> CompressedArray:
        """Packs an array of any shape."""
        data: bytes = PACKING.encode(np.ascontiguousarray(pixels))
        return cls(data, pixels.shape, pixels.dtype.str)

    @property
    def nbytes(self) -> int:
        """Bytes it takes packed."""
        return len(self.data)

    def pixels(self) -> Pixels:
        """The values again."""
        return np.frombuffer(PACKING.decode(self.data), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class CompressedReflectance:
    """Medians of DN as they are remembered: a third of their size.

    A median is one DN or the mean of two. So twice itself is a whole number, which has 16 bits unless the ground is
    brighter than a white sheet three times over.
    """

    packed: CompressedArray

    @classmethod
    def of(cls, reflectance: NDArray[np.float32]) -> CompressedReflectance:
        """Packs reflectance from `spacex.sentinel2.median.median`; other values are kept as they are."""
        missing = np.isnan(reflectance)
        twice = np.rint(reflectance * _TWICE)
        np.copyto(twice, np.float32(MISSING), where=missing)
        whole = np.clip(twice, 0, MISSING, out=twice).astype(np.uint16)
        exact = ((_reflectance(whole) == reflectance) | missing).all()
        return cls(CompressedArray.of(whole if exact else reflectance))

    def pixels(self) -> NDArray[np.float32]:
        """The reflectance again, to the bit."""
        kept = self.packed.pixels()
        return _reflectance(kept) if kept.dtype == np.uint16 else kept


_TWICE = np.float32(2 * QUANTIFICATION)


def _reflectance(whole: NDArray[np.uint16]) -> NDArray[np.float32]:
    values = whole.astype(np.float32) / _TWICE
    np.copyto(values, np.float32(np.nan), where=whole == MISSING)
    return values
