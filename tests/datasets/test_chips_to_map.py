"""The three commands of the data sets' page, from EuroSAT's chips to a map of the Belgian Kempen, on real pixels."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import command_lines
import pytest
from kempen import FIELDS, WOODS, polygon

import spacex
from spacex.checkpoint import load_checkpoint

PAGE = Path(spacex.__file__).parent / "datasets" / "README.md"
SHORT = {
    "train-classifier": "--epochs 4 --limit 400 --set recipe.batch=32 --network-args "
    '\'{"bands": 3, "widths": [8, 16, 32]}\'',
    "train-gan": "--epochs 1 --limit 60 --set batch=8 --set generator.base=4 --set generator.cap=8 "
    "--set generator.blocks=1 --set generator.downs=2",
    "map": "",
}
"""What makes a command short; options that it gives itself are replaced."""


@pytest.mark.real
def test_from_labelled_chips_to_a_map_of_real_land(real_data, tmp_path, monkeypatch):
    """A wood comes out as more natural than fields of the same scene, which no training chip shows."""
    chips, archive = real_data("eurosat"), real_data("archive")
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    items = (archive / "catalogues/earth-search/items.json").read_text().replace("{base}", str(archive))
    Path("scenes/items.json").write_text(items)
    blocks = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    block = next(text for text in blocks if "kempen.zarr" in text)
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert [words[1] for words in lines] == list(SHORT)
    for words in lines:
        short = shlex.split(SHORT[words[1]])
        for option in {word for word in short if word.startswith("--")} - {"--set"}:
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
        words = [word.replace("/data/eurosat", str(chips)) for word in [*words, *short]]
        assert command_lines.run(words) == 0, words
    assert "by place" in load_checkpoint("runs/patterns").card.data["split"]
    drawn = {"type": "FeatureCollection", "features": [polygon(WOODS), polygon(FIELDS)]}
    Path("zones.geojson").write_text(json.dumps(drawn))
    wood, fields = spacex.sites("kempen.zarr", zones="zones.geojson").table["naturalness_mean"]
    assert wood > fields + 0.05
