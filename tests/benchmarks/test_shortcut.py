"""The planted-shortcut experiment's measurements; the experiment itself takes an hour and runs by hand."""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import shortcut
from shortcut_report import write_shortcut

from spacex.evaluation.methods.chip_batch import ChipBatch, Method
from spacex.evaluation.samples import LandCoverSource
from spacex.synthetic.chip import read_records
from spacex.synthetic.dataset import build_dataset

BANDS = ("B02", "B03", "B04")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return build_dataset(
        tmp_path_factory.mktemp("planted"), {"train": 4, "test": 8}, seed=31, planted="random", workers=0
    )


def test_where_a_map_falls_is_counted_by_hand(tiny_checkpoint):
    truth = np.zeros((1, 4, 4), np.uint8)
    truth[0, 0, :2], truth[0, 3, 3] = shortcut.USED, shortcut.IGNORED
    maps = torch.ones(1, 4, 4)
    maps[0, 0, :2], maps[0, 3, 3] = 5.0, 3.0
    chips = ChipBatch.of(tiny_checkpoint, torch.zeros(1, 3, 4, 4), ["a"])
    got = shortcut.falls(Method("m", "f", lambda _: maps, ""), chips, truth)
    assert got["density_used"][0] == pytest.approx(5.0)
    assert got["density_ignored"][0] == pytest.approx(3.0)
    assert got["share_used"][0] == pytest.approx(10 / 26)
    assert got["share_ignored"][0] == pytest.approx(3 / 26)
    assert got["iou_used"][0] == 1.0
    assert got["iou_ignored"][0] == 0.0


def test_the_confounded_view_keeps_only_chips_whose_patterns_agree_with_the_label(planted, tmp_path):
    folder = shortcut.confounded(tmp_path, planted)
    records = read_records(planted)
    with (folder / "infos.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert np.isfinite(records[row["file"]].distractor_level) == (row["label"] == "1")
        assert (folder / "tiles" / "s2" / row["file"]).exists()


def test_only_chips_with_both_patterns_are_measured(planted):
    source = LandCoverSource(planted, BANDS, "test")
    found = list(shortcut.with_both(source))
    names = {file for samples in found for file in samples.files}
    records = read_records(planted)
    assert names == {file for file in source.natural["file"] if np.isfinite(records[file].distractor_level)}


def test_a_classifier_that_looks_at_redness_uses_the_knolls(planted, tiny_checkpoint):
    import dataclasses

    class Redness(torch.nn.Module):
        def forward(self, u):
            return 100 * (u[:, 2] - 2 * u[:, 0]).clamp(min=0).mean(dim=(1, 2))

    both = list(shortcut.with_both(LandCoverSource(planted, BANDS, "test")))
    seen = dataclasses.replace(tiny_checkpoint, classifier=Redness())
    use = shortcut.usage(planted, seen, both)
    assert use["ignored"] > 0.2  # reddish knolls matter to it, whatever they are called
    constant = dataclasses.replace(tiny_checkpoint, classifier=torch.nn.Sequential(torch.nn.Flatten(), _One()))
    use = shortcut.usage(planted, constant, both)
    assert use["used"] == use["ignored"] == use["used_flips"] == 0.0


class _One(torch.nn.Module):
    def forward(self, u):
        return torch.ones(len(u))


def test_the_report_names_what_the_classifier_uses(tmp_path):
    columns = ("share", "density", "iou", "auroc")
    row = {"variant": "delta", "method": "path"}
    row |= {f"{c}_{p}{edge}": 0.5 for c in columns for p in ("used", "ignored") for edge in ("", "_low", "_high")}
    use = {"used": 3.0, "ignored": 0.1, "used_flips": 0.9, "ignored_flips": 0.0, "logit": 2.0, "natural": 1.0}
    write_shortcut(tmp_path, pd.DataFrame([row]), use, 12, "Settings: none.")
    page = (tmp_path / "index.html").read_text()
    assert "by 3.00 on average (90% of the natural ones flip)" in page
    assert pd.read_csv(tmp_path / "shortcut.csv")["density_used"].tolist() == [0.5]
