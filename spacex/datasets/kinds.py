"""Names of data sets whose folder alone does not tell how to read them: ``eurosat:FOLDER`` and its like."""

from __future__ import annotations

KINDS = ("eurosat", "bigearthnet", "tiles")
"""What may stand before the colon."""


def split_kind(data: str) -> tuple[str, str]:
    """The kind and the folder of a data set, ``eurosat:chips/`` being ("eurosat", "chips/"); "" where none is named."""
    kind, colon, folder = data.partition(":")
    return (kind, folder) if colon and kind in KINDS else ("", data)
