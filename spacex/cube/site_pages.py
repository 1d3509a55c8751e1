"""Pages of sites: an HTML file for each, with its picture and its numbers over time, and an index of them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from spacex.cube.quicklook import render
from spacex.cube.sites import COLUMNS, Sites
from spacex.cube.store import Cube
from spacex.execution.report import render_template
from spacex.storage import write_text

IN_HEADINGS = ("zone", "first_day", "last_day")
"""Columns that are in a page's headings."""


def write_pages(cube: str, sites: Sites, folder: str, report: Callable[[int], None] = lambda pages: None) -> list[str]:
    """Write a page for every site into a folder, and an index.

    Args:
        cube: URI of the cube that the table was made of.
        sites: the tables.
        folder: path or fsspec URI; pages that are there already are replaced.
        report: called with the number of pages that are written, after each.

    Returns:
        The files, the index first.
    """
    opened, rows = Cube(cube), []
    outlines = sites.table.geometry.to_crs(opened.spec.crs)
    for number, (zone, table) in enumerate(sites.table.groupby("zone"), start=1):
        name, file = site_name(table.iloc[0], list(sites.table.columns)), f"{zone:04d}.html"
        mapped = bool((table["mapped_km2"] > 0).any())
        picture = render(opened, site=outlines[table.index[0]]) if mapped else b""
        write_text(f"{folder.rstrip('/')}/{file}", _page(opened, sites, table, name, picture))
        rows.append((file, name, table["state"].iloc[-1], table["reason"].iloc[-1]))
        report(number)
    index = render_template("sites.html.jinja", "spacex.cube", cube=cube, rows=rows)
    write_text(f"{folder.rstrip('/')}/index.html", index)
    return [f"{folder.rstrip('/')}/{file}" for file in ("index.html", *(row[0] for row in rows))]


def site_name(row: Any, columns: list[str]) -> str:
    """What to call a site: the first of its own attributes whose name says that it is one, else its number."""
    own = [column for column in columns if column not in COLUMNS and "name" in column.lower()]
    names = [str(row[column]) for column in own if row[column] is not None and row[column] == row[column]]
    return names[0] if names else f"Site {row['zone']}"


def _page(cube: Cube, sites: Sites, table: pd.DataFrame, name: str, picture: bytes) -> str:
    own = [c for c in table.columns if c not in COLUMNS and c != sites.table.geometry.name]
    numbers = [
        (column, meaning, [_text(value) for value in table[column]])
        for column, meaning in COLUMNS.items()
        if column not in IN_HEADINGS
    ]
    land = pd.DataFrame()
    if sites.land_cover is not None:
        land = sites.land_cover[sites.land_cover["zone"] == table["zone"].iloc[0]].drop(columns="zone")
    return render_template(
        "site.html.jinja",
        "spacex.cube",
        cube=cube.uri,
        fingerprint=cube.fingerprint,
        name=name,
        about=[(column, _text(table[column].iloc[0])) for column in own],
        steps=[f"{first} to {last}" for first, last in zip(table["first_day"], table["last_day"], strict=True)],
        numbers=numbers,
        picture=base64.b64encode(picture).decode(),
        land_columns=list(land.columns),
        land=[[_text(value) for value in row] for row in land.itertuples(index=False)],
    )


def _text(value: Any) -> str:
    """A value of a table for people: three digits, a dash for none."""
    if value is None or value != value:
        return "–"
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
