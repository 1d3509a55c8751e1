"""Base of all settings that are stored: frozen models, checked when they are made, with a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from spacex.errors import RequestError

Made = TypeVar("Made")

SENTINEL2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten land bands in the order AnthroProtect and MapInWild store them."""

WAVELENGTHS = dict(zip(SENTINEL2_BANDS, (0.49, 0.56, 0.665, 0.704, 0.74, 0.783, 0.842, 0.865, 1.61, 2.19), strict=True))
"""Middles of the bands, micrometres."""

RGB = ("B04", "B03", "B02")
"""Bands shown as red, green, blue."""

PICTURE_BANDS = ("red", "green", "blue")
"""Bands of ordinary pictures: brightness as shown, 0..1, which is no reflectance."""


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def unused(self) -> dict[str, str]:
        """Settings that change nothing beside the others as they are, inner ones with dots, and what each one needs."""
        inner = {name: part for name in type(self).model_fields if isinstance(part := getattr(self, name), Settings)}
        return {f"{name}.{last}": why for name, part in inner.items() for last, why in part.unused().items()}


def fingerprint(*parts: object) -> str:
    """Sixteen hexadecimal digits that name pydantic models or plain JSON values, independent of key order."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checked(make: Callable[[], Made]) -> Made:
    """Make settings from values that a caller gave.

    Raises:
        RequestError: in one line, naming the first value that does not fit.
    """
    try:
        return make()
    except ValidationError as error:
        raise refusal(error) from error


def refusal(error: ValidationError) -> RequestError:
    """What is wrong with the first value that does not fit, in one line."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or error.title
    # pydantic puts "Value error" before the message of a validator of ours
    return RequestError(name, got=repr(first["input"]), expected=first["msg"].removeprefix("Value error, "))
