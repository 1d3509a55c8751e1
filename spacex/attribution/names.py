"""The maps and the arithmetic one may ask for: words that the command line knows without loading a network."""

from typing import Literal, get_args

MapName = Literal["attribution", "lift", "path_attribution"]
MAP_NAMES: tuple[MapName, ...] = get_args(MapName)
"""Maps by name; `spacex.attribution.attributor` says what each is. The score, `naturalness`, always comes along."""
DEFAULT_MAPS: tuple[MapName, ...] = ("attribution", "lift")
PATH_STEPS = 4
"""Gauss-Legendre points on the path; they localise as well as eight midpoints (.780 against .781)."""

Precision = Literal["float32", "bfloat16"]
"""Of the networks' inner layers."""
PRECISIONS = ("auto", "float32", "bfloat16")
"""What may be asked for: `auto` is bfloat16 where the processor or GPU multiplies it natively."""
