"""Check a cube: compute one of its tiles anew from the scenes that its provenance names, and compare every bit.

    spacex reproduce finland.zarr --at 24.1,67.95

    spacex reproduce finland.zarr --tile t0-n494-e478 --items scenes.parquet

Says what differs, and what was different from when the tile was made: scenes that are gone or were reprocessed, code,
library, processor. Nothing is written.

Exit codes: 0 every bit agrees; 1 it differs, or something unexpected; 2 the request is wrong or no scene is to be had.
"""

from __future__ import annotations

import typer

from spacex.api.map_settings import ReproduceSettings
from spacex.commands.app import UNEXPECTED, make_app
from spacex.commands.parameters import make_command


def reproduce(asked: ReproduceSettings) -> None:
    """Compute the tile and print what came out."""
    from spacex.api.reproduction import reproduce

    settings = dict(asked)
    result = reproduce(str(settings.pop("cube")), **settings)  # type: ignore[arg-type]
    for name, what in {**result.scenes, **result.making}.items():
        print(f"{name}: {what}")
    for name, pixels in result.differing.items():
        print(f"{name} differs in {pixels:,} pixels")
    print(f"tile {result.tile}: {'the same to the bit' if result.same else 'differs'} ({', '.join(result.variables)})")
    if not result.same:
        raise typer.Exit(UNEXPECTED)


app = make_app(make_command(ReproduceSettings, reproduce), __doc__)
