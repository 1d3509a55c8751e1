"""The report of a cube against CORINE: `classes.csv`, a figure, and one HTML page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from spacex.evaluation.figures import png
from spacex.evaluation.landcover import class_table
from spacex.evaluation.pages import write_page

LARGEST = 20
"""Classes in the figure, by area."""
UNITS = {"attribution": "reflectance", "naturalness": "score, 0 to 1"}
"""Of the maps; those not named here are in logits per pixel."""


def compare_cube(cube: str, corine: str, output: Path) -> pd.DataFrame:
    """Write the report into a folder and return its table; arguments and errors as `landcover.class_table`."""
    table, cover = class_table(cube, corine)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "classes.csv", index=False, float_format="%.6g")
    pictures = []
    for name in dict.fromkeys(table["map"]):
        picture = png(bars(table, name))
        (output / f"classes-{name}.png").write_bytes(picture)
        pictures.append((f"Mean and 5 to 95 % range of {name} per class.", picture))
    texts = (
        f"Cube {cube}; land cover {corine}: {cover.how}.",
        "Areas count the cube's pixels that have a value. Quantiles come from histograms in steps of 0.7 %. CORINE "
        "has a minimum area of 25 ha: a class is what dominates there, not what every pixel is.",
    )
    parts = table.groupby(["map", "time"], sort=False)
    tables = [(f"{name}, {when}", part.drop(columns=["time", "map"])) for (name, when), part in parts]
    write_page(output / "index.html", "Attribution per land-cover class", texts, tables, pictures)
    return table


def bars(table: pd.DataFrame, name: str) -> Figure:
    """The largest classes of a map, sorted by their mean, with the range that holds nine pixels in ten."""
    part = table[(table["map"] == name) & (table["time"] == table["time"].iloc[0])]
    part = part.nlargest(LARGEST, "area_km2").sort_values("mean")
    figure = Figure(figsize=(7.5, 0.32 * len(part) + 1.0), layout="constrained")
    axes = figure.subplots()
    labels = [f"{code} {text[:38]}" for code, text in zip(part["class"], part["name"], strict=True)]
    axes.hlines(labels, part["p05"], part["p95"], color="0.75", linewidth=5)
    axes.plot(part["mean"], labels, "o", color="#21677e", label="mean")
    axes.plot(part["p50"], labels, "|", color="black", markersize=9, label="median")
    axes.set_xlabel(f"{name.replace('_', ' ')} ({UNITS.get(name, 'logits per pixel')})")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
