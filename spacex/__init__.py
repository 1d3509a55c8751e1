"""SpacEX maps what makes land look natural.

The public surface is small: :func:`load_checkpoint` gives trained networks,
:mod:`spacex.attribution.patterns` turns chips into maps with them, and :mod:`spacex.mapping` does that for
regions. Importing this package is cheap: torch is loaded when it is first needed.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacex.checkpoint import load_checkpoint

try:
    __version__ = version("spacex-naturalness")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load_checkpoint"]


def __getattr__(name: str) -> object:
    if name == "load_checkpoint":
        from spacex.checkpoint import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
