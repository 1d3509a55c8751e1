"""Tables of sites as files: GeoParquet, GeoPackage or CSV, by the name's ending."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyogrio

from spacex.cube.sites import Sites
from spacex.storage import local_path, publish_file
from spacex.vectors import storable

ENDINGS = (".parquet", ".gpkg", ".csv")
"""Endings of a table's name."""
LAYERS = ("sites", "land_cover")
"""Layers of a GeoPackage."""


def write_sites(sites: Sites, output: str) -> list[str]:
    """Write the table, and the one by land cover: a second layer of a GeoPackage, else a file beside it.

    Args:
        sites: the tables.
        output: path or fsspec URI that ends in one of `ENDINGS`. A GeoPackage and GeoParquet hold the zones' outlines
            in the CRS of their file; CSV has none.

    Returns:
        The files, each of which appears only when it is complete.
    """
    ending = "." + output.lower().rpartition(".")[2]
    local = local_path(output)
    with TemporaryDirectory(prefix=".sites-", dir=None if local is None else local.parent) as work:
        table, land = Path(work) / f"table{ending}", Path(work) / f"land{ending}"
        _write(sites.table, table, LAYERS[0])
        files = {table: output}
        if sites.land_cover is not None:
            into = table if ending == ".gpkg" else land
            _write(sites.land_cover, into, LAYERS[1])
            if into == land:
                files[land] = f"{output[: -len(ending)]}.{LAYERS[1]}{ending}"
        for file, target in files.items():
            publish_file(file, target)
    return list(files.values())


def _write(table: pd.DataFrame, file: Path, layer: str) -> None:
    """Write one table into a new file, or as a further layer of a GeoPackage."""
    geometry = getattr(table, "_geometry_column_name", None)
    # lists, categories and mixed types, which files of zones may have, become what every format holds
    plain = table.assign(**{name: storable(table[name]) for name in table.columns if name != geometry})
    if file.suffix == ".gpkg":
        pyogrio.write_dataframe(plain, file, layer=layer, driver="GPKG", append=file.exists())
    elif file.suffix == ".parquet":
        plain.to_parquet(file, index=False)
    else:
        plain.drop(columns=geometry or []).to_csv(file, index=False, float_format="%.8g")
