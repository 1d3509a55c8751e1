"""Names of the maps and precisions that can be asked for; importable without loading a network."""

from typing import Literal, get_args

MapName = Literal["attribution", "lift", "path_attribution"]
MAP_NAMES: tuple[MapName, ...] = get_args(MapName)
"""`spacex.attribution.attributor` says what each map is. The score, `naturalness`, is always computed."""
DEFAULT_MAPS: tuple[MapName, ...] = ("attribution", "lift")
PICTURES = ("x_plus", "x_minus")
"""On request: the chips that the generators make, in all bands."""
RAISED, LOWERED = "raised", "lowered"
"""On request: the scores of x+ and of x-."""
GENERATED = (*PICTURES, RAISED, LOWERED)
NOISE = "naturalness_noise"
"""On request: the standard error of the score (`spacex.mapping.halves`)."""
SPREAD = "naturalness_spread"
"""On request: the standard deviation of the scores of a checkpoint's classifiers (`spacex.models.members`)."""
LOW, HIGH = "naturalness_low", "naturalness_high"
"""With both: an interval of the score (`spacex.mapping.bounds`)."""
SURE = (NOISE, SPREAD, LOW, HIGH)
"""The maps that say how sure the score is."""
UNCERTAINTIES = ("pixels", "classifiers")
"""What the uncertainty of the score is known from: halves of every pixel's observations, several classifiers."""
LOCAL = ("attribution", *PICTURES)
"""Maps whose values depend on a pixel's surroundings only; all others depend on the whole chip."""
PATH_STEPS = 4
"""Gauss-Legendre points on the path; they localise as well as eight midpoints (.780 against .781)."""

Precision = Literal["float32", "bfloat16"]
"""Number format of the networks' inner layers."""
PRECISIONS = ("auto", "float32", "bfloat16")
"""What can be asked for: `auto` is bfloat16 where the processor or GPU multiplies it natively."""
