"""The notebook runs from the first cell to the last, ships without outputs, and its answers are answers."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "jobs" / "tour.ipynb"


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The notebook after it ran in an empty folder; outputs by the cell's first words."""
    folder = tmp_path_factory.mktemp("tour")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    before, path = os.environ.get("PYTHONPATH"), os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = path  # the kernel is a process of its own
    try:
        NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)
    return {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def outputs(tour, words):
    return next(found for source, found in tour.items() if words in source)


def printed(shown):
    return "".join(output.text for output in shown if output.output_type == "stream")


def test_it_ships_without_outputs_and_has_ten_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) == 10
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


def test_a_bar_shows_how_far_the_map_is(tour):
    shown = outputs(tour, "outcome = spacex.map_region")
    bar = [output for output in shown if output.output_type == "display_data"]
    assert bar
    assert "mapping" in bar[0].data["text/plain"]
    assert "complete: True, " in printed(shown)


def test_the_table_of_sites_has_a_row_per_step(tour):
    shown = outputs(tour, "sites = spacex.sites")[-1].data["text/html"]
    assert shown.count("<td>mapped</td>") + shown.count("<td>doubtful</td>") == 2


def test_plan_coverage_and_picture_show_themselves(tour):
    assert "tiles" in outputs(tour, "work = spacex.plan")[-1].data["text/html"]
    assert "finished" in outputs(tour, "spacex.coverage")[-1].data["text/html"]
    assert len(outputs(tour, "quicklook")[-1].data["image/png"]) > 20_000


def test_the_questions_are_answered(tour):
    for words in ("reserve = Polygon", "squares =", "noise ="):
        text = outputs(tour, words)[-1].data["text/plain"]
        assert "nan" not in text.lower(), (words, text)
    changed = outputs(tour, "change = spacex.change")
    assert "'unchanged'" in printed(changed)
    for column in ("reserve", "compared_km2", "change_se"):
        assert column in changed[-1].data["text/html"]
    table = outputs(tour, "class_table")[-1].data["text/plain"]
    for column in ("attribution", "lift", "naturalness"):
        assert column in table
    told = outputs(tour, "files = spacex.export")[-1].data["text/plain"]
    assert "naturalness_2020-08-01_2020-08-31.tif" in told
    assert "tour.stac.json" in told
