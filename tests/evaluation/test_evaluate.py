"""The whole evaluation on a few chips: files, refusals, and numbers recomputed by other means."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.metrics import roc_auc_score

from spacex.errors import CheckpointError, RequestError
from spacex.evaluation import table
from spacex.evaluation.evaluate import EvaluationRequest, evaluate
from spacex.evaluation.run import EvaluationSettings

METHODS = ("lift", "attribution", "gradcam-first", "brightness", "chance", "brightness x gradcam-first", "exact change")
JOB = Path(__file__).parents[2] / "jobs" / "evaluate.py"


@pytest.fixture(scope="module")
def report(fresh_chips, sure_checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    seen = []
    request = EvaluationRequest(
        data=str(fresh_chips), output=str(output), checkpoint=sure_checkpoint.uri, second=sure_checkpoint.uri,
        twin=sure_checkpoint.uri, controls={"null": sure_checkpoint.uri},
        settings=EvaluationSettings(methods=(*METHODS, "null lift"), limit=6, perturbed=1, sanity_chips=1, batch=3),
    )  # fmt: skip
    made = evaluate(request, lambda done, total, method: seen.append((done, total, method)))
    return output, made, seen


def test_the_table_has_a_row_per_method_with_its_name_first(report):
    output, made, seen = report
    frame = pd.read_csv(output / "table.csv")
    assert frame.columns[0] == "method"
    assert set(frame["method"]) == {*METHODS, "null lift"}
    assert (frame["chips_per_second"] > 0).all()
    assert frame["iou"].tolist() == pytest.approx([made.cells[m, "iou", "all"].mean for m in frame["method"]], rel=1e-5)
    assert {total for _, total, _ in seen} == {6}


def test_chips_have_a_row_per_chip_and_method_and_recompute_by_hand(report, fresh_chips):
    rows = pd.read_parquet(report[0] / "chips.parquet")
    assert not rows.duplicated(["file", "method"]).any()
    assert len(rows) == rows["file"].nunique() * (len(METHODS) + 1)
    file = rows["file"].iloc[0]
    with rasterio.open(fresh_chips / "truth" / file) as truth, rasterio.open(fresh_chips / "tiles/s2" / file) as chip:
        inside = truth.read(1)[16:-16, 16:-16] == 1
        bright = chip.read([1, 2, 3]).mean(axis=0)[16:-16, 16:-16]
    row = rows[(rows["file"] == file) & (rows["method"] == "brightness")].iloc[0]
    assert row["auroc"] == pytest.approx(roc_auc_score(inside.ravel(), bright.ravel()), abs=1e-4)
    assert row["prevalence"] == pytest.approx(inside.mean())
    assert row["hard"] == (row["auroc"] < 0.85)
    chance = rows[(rows["file"] == file) & (rows["method"] == "chance")].iloc[0]
    assert chance["iou"] == pytest.approx(inside.mean() / (2 - inside.mean()))


def test_a_second_classifier_and_a_twin_that_are_the_same_agree_with_themselves(report):
    page = (report[0] / "index.html").read_text()
    twin = re.search(r"<td>lift</td><td>([\d.]+) \[", page[page.index("two seeds") :])
    assert float(twin.group(1)) == pytest.approx(1.0)
    rows = pd.read_parquet(report[0] / "chips.parquet").set_index(["file", "method"])["iou"].unstack()
    assert rows["null lift"].to_numpy() == pytest.approx(rows["lift"].to_numpy())


def test_the_page_is_one_offline_file_with_the_figures_in_it(report):
    output, *_ = report
    page = (output / "index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert {"figure-1.png", "figure-3.png", "figure-4.png", "figure-5.png"} <= {f.name for f in output.glob("*.png")}
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert "do not confirm or refute the published ones" in page
    # a warning, one short table and the pictures come before the long tables, which are folded away
    few, short, picture, long = (page.index(part) for part in ("places: intervals", "In short", "<img", "Gap in IoU"))
    assert few < short < picture < long
    assert page[:long].count("<table>") == 2
    assert page[:picture].count("<tr") <= len(METHODS) + 2
    assert "<details><summary>All methods" in page
    assert "93.2" in page
    for heading in ("Insertion and deletion", "Counterfactual quality", "Sanity: random layers", "Other thresholds"):
        assert heading in page


def test_the_shipped_weights_beat_rivals_on_fresh_chips(fresh_chips, tmp_path):
    """The claim of the README's table, on a small sample of a country made for this test."""
    from spacex.evaluation.methods.captum import QUICK

    # first-convolution Grad-CAM is not in this list: it is as good on this world
    rivals = ("deeplift", "gradcam-last", "integrated", "brightness", "sobel", "distance", "noise", "chance")
    request = EvaluationRequest(
        data=str(fresh_chips), checkpoint="demo", output=str(tmp_path),
        settings=EvaluationSettings(methods=("lift", *rivals), effort=QUICK, perturbed=0, sanity_chips=0),
    )  # fmt: skip
    made = evaluate(request)
    assert made.chips["all"] >= 9
    ours = made.cells["lift", "iou", "all"].mean, made.cells["lift", "auroc", "all"].mean
    for rival in rivals:
        assert ours[0] > made.cells[rival, "iou", "all"].mean, rival
        assert ours[1] > made.cells[rival, "auroc", "all"].mean, rival


def bare_copy(fresh_chips, folder, *parts):
    folder.mkdir()
    for part in ("infos.csv", *parts):
        source = fresh_chips / part
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
    return folder


def request_for(data, checkpoint, output, **settings):
    return EvaluationRequest(
        data=str(data), output=str(output), checkpoint=str(checkpoint), settings=EvaluationSettings(**settings)
    )


def test_a_run_that_is_stopped_reports_on_what_it_has(fresh_chips, sure_checkpoint, tmp_path):
    def stop(done, total, method):
        if done > 2:
            raise KeyboardInterrupt

    settings = {"methods": ("brightness", "chance"), "batch": 2, "perturbed": 0, "sanity_chips": 0}
    made = evaluate(request_for(fresh_chips, sure_checkpoint.uri, tmp_path, **settings), stop)
    assert 1 <= made.chips["all"] <= 2
    assert "stopped before it came to them" in (tmp_path / "index.html").read_text()


def test_without_land_cover_what_needs_none_is_drawn(fresh_chips, sure_checkpoint, tmp_path):
    bare = bare_copy(fresh_chips, tmp_path / "bare", "tiles/s2")
    few = {"methods": ("lift", "brightness"), "limit": 2, "perturbed": 1, "sanity_chips": 0, "asos_chips": 0}
    evaluate(request_for(bare, sure_checkpoint.uri, tmp_path / "out", **few))
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no overlap is measured" in page
    assert (tmp_path / "out" / "figure-3.png").exists()
    assert pd.read_parquet(tmp_path / "out" / "chips.parquet")["insertion_blur"].notna().sum() == 2


def test_mapinwild_is_evaluated_by_what_needs_no_land_cover(sure_checkpoint, tmp_path):
    """It was refused as "holds no AnthroProtect"."""
    from spacex.datasets.writing import write_tile
    from spacex.grid import CHIP, Grid, Window

    root, rng, window = tmp_path / "wild", np.random.default_rng(0), Window(-500_000, 480_000, 2 * CHIP, 2 * CHIP)
    for folder, bands, dtype in (("mask", 1, "u1"), ("s2_temporal_subset", 10, "u2")):
        (root / folder).mkdir(parents=True)
        pixels = np.ones((bands, 512, 512), dtype) if bands == 1 else rng.integers(200, 900, (bands, 512, 512), dtype)
        write_tile(root / folder / "7.tif", pixels, Grid(), window)
    (root / "split_IDs.csv").write_text("train,validation,test\n,,7\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spacex.datasets.mapinwild.MapInWild.__init__.__kwdefaults__", {"season": "subset", "side": 512})
        made = evaluate(
            request_for(root, sure_checkpoint.uri, tmp_path / "out", methods=("lift",), perturbed=0, asos_chips=0,
                        sanity_chips=0)
        )  # fmt: skip
    assert made.chips["all"] == 4  # cut from one scene, told apart
    assert "no overlap is measured" in (tmp_path / "out" / "index.html").read_text()


def test_with_land_cover_alone_the_published_definition_is_the_primary_one(fresh_chips, sure_checkpoint, tmp_path):
    bare = bare_copy(fresh_chips, tmp_path / "bare", "tiles/s2", "tiles/lcs")
    evaluate(request_for(bare, sure_checkpoint.uri, tmp_path / "out", methods=("brightness",), perturbed=0))
    page = (tmp_path / "out" / "index.html").read_text()
    assert "definition <b>corine-wb-v1</b>" in page


def test_checkpoints_that_do_not_fit_are_refused(fresh_chips, sure_checkpoint, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(sure_checkpoint.uri, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps({**card, "bands": ["B04", "B03", "B02"]}))
    with pytest.raises(CheckpointError, match="other bands"):
        evaluate(
            EvaluationRequest(
                data=str(fresh_chips), output=str(tmp_path), checkpoint=sure_checkpoint.uri, second=str(other)
            )
        )


def test_a_checkpoint_of_bands_the_data_do_not_have_is_refused(fresh_chips, sure_checkpoint, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(sure_checkpoint.uri, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps({**card, "bands": ["B02", "B03", "B10"]}))
    with pytest.raises(RequestError, match="B10") as refused:
        evaluate(request_for(fresh_chips, other, tmp_path / "out"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_unknown_methods_and_folders_are_named(fresh_chips, sure_checkpoint, tmp_path):
    with pytest.raises(RequestError, match="gradcam-best"):
        evaluate(request_for(fresh_chips, sure_checkpoint.uri, tmp_path, methods=("gradcam-best",)))
    with pytest.raises(RequestError, match="no folder"):
        evaluate(request_for(tmp_path / "nowhere", sure_checkpoint.uri, tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "x"], "one thing at a time"),
        (["--cube", "some.zarr"], "compared with a land-cover raster"),
        (["--data", "nowhere"], "no folder nowhere"),
    ],
)
def test_the_job_ends_a_wrong_request_with_one_line_and_code_two(arguments, message, tmp_path, sure_checkpoint):
    (tmp_path / "some.zarr").mkdir()
    extra = ["--checkpoint", sure_checkpoint.uri] if "--data" in arguments else []
    done = subprocess.run(
        [sys.executable, JOB, *arguments, *extra], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def rows_of(**ious):
    out = []
    for method, values in ious.items():
        for i, value in enumerate(values):
            fact = {"method": method, "family": "f", "file": f"c{i}", "place": f"p{i // 2}", "score": 0.9}
            out.append({**fact, "hard": i < 2, "brightness_auroc": 0.5, "iou": value, "auroc": value})
    return pd.DataFrame(out)


def test_the_table_compares_on_the_same_chips_and_keeps_hard_ones_apart():
    made = table.make_table(rows_of(lift=[0.5, 0.6, 0.7, 0.8], other=[0.4, 0.5, 0.6, np.nan]))
    assert made.chips == {"all": 4, "hard": 2}
    assert made.cells["lift", "iou", "hard"].mean == pytest.approx(0.55)
    gap = made.against["other", "iou", "all"].difference
    assert (gap.mean, gap.low, gap.high, gap.chips) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1), 3)
    row = made.frame().set_index("method").loc["other"]
    assert row["hard_iou_ours_minus_this"] == pytest.approx(0.1)


def test_without_a_terminal_too_a_run_says_how_much_there_is_to_do(capsys):
    from spacex.commands.evaluate import _progress

    with _progress(quick=False) as report:
        report(0, 8, "lift")
        report(0, 8, "path")
        told = capsys.readouterr().err
    assert told.count("8 chips, each through every method; --quick is coarser and faster") == 1
