"""Compare two time steps of a cube, or two cubes on one grid: places that differ by more than the noise.

    spacex change lapland.zarr --between 2019 2024 --output change.gpkg --map change.tif

    spacex change before.zarr after.zarr --of naturalness --output change.parquet

    spacex change lapland.zarr --zones natura.gpkg --table sites.csv

A place has its area, the mean change of naturalness and its standard error. Land unlike the training chips, and land
without data in one of the steps, is never reported as change, but counted.

Exit codes: 0 compared, whether something changed or not; 2 the request is wrong, and nothing was written.
"""

from __future__ import annotations

from spacex.api.change_settings import ChangeSettings
from spacex.commands.app import make_app
from spacex.commands.parameters import make_command


def change(asked: ChangeSettings) -> None:
    """Compare, and print what was found and what is doubtful."""
    from spacex.api.change import change

    settings = dict(asked)
    cubes = [settings.pop("cube"), settings.pop("other")]
    changes = change(*cubes, **settings)  # type: ignore[arg-type]
    compared = changes.areas["unchanged"] + changes.areas["changed"]
    hectares = changes.places.area_ha.sum()
    count = len(changes.places)
    print(
        f"{count:,} place{'s' * (count != 1)} changed, {hectares:,.0f} ha of {compared:,.1f} km² compared; "
        f"{changes.too_small:,} smaller than {asked['min_area']:g} ha are left out"
    )
    if changes.sites is not None:
        touched, count = int((changes.sites["places"] > 0).sum()), len(changes.sites)
        kept = "" if asked["table"] else "; --table FILE keeps what is said of each"
        print(f"places changed in {touched:,} of {count:,} zones{kept}")
    for doubt in changes.doubts:
        print(doubt)
    for file in filter(None, (asked["output"], asked["map"], asked["table"])):
        print(f"written: {file}")


app = make_app(make_command(ChangeSettings, change), __doc__)
