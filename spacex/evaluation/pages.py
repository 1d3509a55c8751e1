"""HTML pages as single files: text, tables and figures, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

import spacex

PageTable = tuple[str, list[str], list[list[str]]]
"""Caption, head and rows."""


def render(template: str, **values: Any) -> str:
    """Fill one of this package's templates; text is escaped, and a missing value is an error."""
    loader = PackageLoader("spacex.evaluation", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(version=spacex.__version__, **values)


def embedded(picture: bytes) -> str:
    """A PNG as text, for a data URI."""
    return base64.b64encode(picture).decode()


def write_page(
    file: Path,
    title: str,
    texts: Sequence[str],
    tables: Sequence[PageTable],
    figures: Sequence[tuple[str, bytes]],
) -> None:
    """Write a page of paragraphs, tables and figures (caption, PNG)."""
    shown = [(caption, embedded(picture)) for caption, picture in figures]
    text = render("plain.html.j2", title=title, texts=texts, tables=tables, figures=shown)
    file.write_text(text, encoding="utf-8")


def as_table(caption: str, frame: pd.DataFrame, digits: int = 3) -> PageTable:
    """A data frame as text cells, numbers with `digits` significant digits."""
    cells = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
    return caption, [str(name) for name in frame.columns], cells


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.{digits}g}"
    return str(value)
