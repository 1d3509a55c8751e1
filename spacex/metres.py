"""What the CRS and the resolution of a cube must be: projected, in metres, and dividing whole kilometres."""

from __future__ import annotations

from functools import cache

from spacex.errors import RequestError

RESOLUTIONS = (1.0, 1000.0)
"""The smallest and the largest pixel in metres."""


@cache
def check_crs(crs: str) -> None:
    """Refuse a CRS that no cube can have.

    Args:
        crs: anything PROJ understands, e.g. ``EPSG:3035`` or WKT.

    Raises:
        RequestError: if PROJ does not know it, or it is not projected in metres.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise RequestError("the cube's CRS is unknown", got=repr(crs), do="Try EPSG:3035.") from error
    units = {axis.unit_name for axis in found.axis_info}
    if not found.is_projected or units != {"metre"} or len(found.axis_info) != 2:
        raise RequestError("the cube's CRS must be projected in metres", got=crs, do="Try EPSG:3035.")


def snap_metres(resolution: float) -> float:
    """The coarsest of 1, 2, 3, … km that is a whole number of overview pixels (4 × the resolution).

    Raises:
        RequestError: if no multiple of a kilometre up to 20 km fits, or the pixel is too small or too large.
    """
    if not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise RequestError("the resolution", got=f"{resolution} m", expected="1 to 1000 m, e.g. 10")
    for kilometres in range(1, 21):
        pixels = 1000 * kilometres / resolution
        if abs(pixels - round(pixels)) < 1e-9 and round(pixels) % 4 == 0:
            return 1000.0 * kilometres
    raise RequestError(
        "the resolution does not divide whole kilometres", got=f"{resolution} m", expected="e.g. 10, 20, 30, 60"
    )
