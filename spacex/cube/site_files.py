"""Tables of sites as files: GeoParquet, GeoPackage or CSV, by the name's ending."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyogrio

from spacex.cube.sites import Sites
from spacex.errors import RequestError
from spacex.storage import local_path, publish_file
from spacex.vectors import Polygons, storable

ENDINGS = (".parquet", ".gpkg", ".csv")
"""Endings of a table's name."""
LAYERS = ("sites", "land_cover")
"""Layers of a GeoPackage."""
MOST_COLUMNS = 1998
"""Attributes of a GeoPackage's layer: SQLite takes 2,000 columns, of which two are a feature's number and outline."""


def check_columns(output: str | None, zones: Polygons, columns: Collection[str]) -> None:
    """Refuse a GeoPackage for a table of zones, with their attributes and `columns`, that is too wide for one.

    Raises:
        RequestError: before any work is done.
    """
    count = len(zones.table.columns) + len(columns)
    if output is not None and output.lower().endswith(".gpkg") and count > MOST_COLUMNS:
        got, do = f"{count:,} columns, the attributes of the zones among them", "Give it the ending .parquet or .csv."
        raise RequestError(f"{output} cannot hold the table", got=got, expected=f"at most {MOST_COLUMNS:,}", do=do)


def write_sites(sites: Sites, output: str) -> list[str]:
    """Write the table of sites, and the one by land cover, as `write_tables`."""
    return write_tables(dict(zip(LAYERS, (sites.table, sites.land_cover), strict=True)), output)


def write_tables(tables: Mapping[str, pd.DataFrame | None], output: str) -> list[str]:
    """Write a table, and each further one as a layer of a GeoPackage, else into a file beside the first.

    Args:
        tables: by the names of their layers; None is left out.
        output: path or fsspec URI that ends in one of `ENDINGS`. A GeoPackage and GeoParquet hold the zones' outlines
            in the CRS of their file; CSV has none.

    Returns:
        The files, each of which appears only when it is complete.
    """
    ending, files = "." + output.lower().rpartition(".")[2], dict[Path, str]()
    local = local_path(output)
    with TemporaryDirectory(prefix=".sites-", dir=None if local is None else local.parent) as work:
        for layer, table in tables.items():
            if table is None:
                continue
            into = Path(work) / f"table{ending}"
            if not files or ending == ".gpkg":
                files[into] = output
            else:
                into = Path(work) / f"{layer}{ending}"
                files[into] = f"{output[: -len(ending)]}.{layer}{ending}"
            _write(table, into, layer)
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
