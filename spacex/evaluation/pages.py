"""HTML pages as single files: text, tables and figures, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

import spacex


def render(file: Path, template: str, **values: Any) -> None:
    """Write one of this package's templates, filled; text is escaped, and a missing value is an error.

    The filter `base64` turns the bytes of a picture into the text of a data URI.
    """
    loader = PackageLoader("spacex.evaluation", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["base64"] = lambda picture: base64.b64encode(picture).decode()
    text = environment.get_template(template).render(version=spacex.__version__, **values)
    file.write_text(text, encoding="utf-8")


def write_page(
    file: Path,
    title: str,
    texts: Sequence[str],
    tables: Sequence[tuple[str, pd.DataFrame]],
    figures: Sequence[tuple[str, bytes]],
) -> None:
    """Write a page of paragraphs, tables (caption, frame; three significant digits) and figures (caption, PNG)."""
    render(file, "plain.html.j2", title=title, texts=texts, tables=tables, figures=figures)
