import hashlib

import numpy as np
import pandas as pd
import pytest
import rasterio
from scipy.ndimage import binary_dilation
from scipy.stats import mannwhitneyu

from spacex.datasets.anthroprotect import AnthroProtect
from spacex.errors import DataError, RequestError
from spacex.grid import Window
from spacex.synthetic.chip import counterfactual, land_cover_maps, read_records
from spacex.synthetic.dataset import SIZES, build_dataset, demo_dataset
from spacex.synthetic.locations import draw_locations


@pytest.fixture(scope="module")
def tiny():
    return demo_dataset("tiny")


@pytest.fixture(scope="module")
def infos(tiny):
    return pd.read_csv(tiny / "infos.csv")


def read(root, folder, file):
    with rasterio.open(root / folder / file) as source:
        return source.read()


def test_the_layout_is_anthroprotects(tiny, infos):
    assert list(infos.columns) == ["file", "lon", "lat", "category", "label", "dataset"]
    assert infos.file.is_unique
    assert infos.groupby("dataset").size().to_dict() == SIZES["tiny"]
    assert set(infos.category) <= {"anthropo", "wdpa-Ia", "wdpa-Ib", "wdpa-II"}
    assert ((infos.category == "anthropo") == (infos.label == 0)).all()
    assert infos.file.str.match(r"(anthropo_[\d.]+-[\d.]+|wdpa-(Ia|Ib|II)_\d+)_\d+\.tif$").all()
    expected = {
        "tiles/s2": (10, "uint16"),
        "tiles/lcs": (4, "uint16"),
        "tiles/s2_scl": (1, "uint8"),
        "truth": (1, "uint8"),
    }
    for folder, (bands, kind) in expected.items():
        assert {path.name for path in (tiny / folder).glob("*.tif")} == set(infos.file)
        with rasterio.open(tiny / folder / infos.file[0]) as source:
            assert (source.count, source.width, source.height) == (bands, 256, 256)
            assert set(source.dtypes) == {kind}
            assert source.nodata == 0
            assert source.crs.to_epsg() == 3035


def test_the_published_data_sets_reader_finds_no_fault_with_it(tiny):
    for split, number in SIZES["tiny"].items():
        data = AnthroProtect(tiny, ("B02", "B03", "B04"), split)
        assert len(data) == number
        assert len(data.problems) == 0
        x, label = data[0]
        assert x.shape == (3, 256, 256)
        assert 0 < float(x.min()) < float(x.max()) <= 1
        assert float(label) in (0.0, 1.0)


def test_labels_say_what_the_truth_shows(tiny, infos):
    for row in infos.itertuples():
        truth, corine = read(tiny, "truth", row.file)[0], read(tiny, "tiles/lcs", row.file)[0]
        share = (truth == 1).mean()
        human = np.isin(corine, (112, 122, 211, 231)).any()
        assert (0.03 <= share <= 0.60 and not human) if row.label else share == 0
        assert set(np.unique(truth)) <= {0, 1}


def test_negatives_are_fields_and_villages_and_a_quarter_of_them_plain(tiny, infos):
    human = [
        np.isin(read(tiny, "tiles/lcs", row.file)[0], (112, 122, 211, 231)).mean()
        for row in infos[infos.label == 0].itertuples()
    ]
    assert 0.1 < np.mean(np.array(human) == 0) < 0.4
    assert max(human) > 0.3


def test_three_classes_are_named_beside_it(tiny, infos):
    """Half natural; of the others a quarter without people, called forest."""
    classes = pd.read_csv(tiny / "classes.csv").merge(infos, on="file")
    assert len(classes) == len(infos)
    assert ((classes["class"] == "natural") == (classes.label == 1)).all()
    assert classes.groupby(["dataset", "class"]).size().loc["train"].to_dict() == {
        "anthropogenic": 9, "forest": 3, "natural": 12,
    }  # fmt: skip
    for file in classes.file[classes["class"] == "forest"]:
        assert not np.isin(read(tiny, "tiles/lcs", file)[0], (112, 122, 211, 231)).any()


def test_both_classes_hold_forest_water_and_bright_clear_cuts(tiny, infos):
    for label in (0, 1):
        files = infos[infos.label == label].file
        codes = np.concatenate([np.unique(read(tiny, "tiles/lcs", file)[0]) for file in files])
        assert {312, 324, 512} <= set(codes)


def test_corine_marks_the_patterns_where_the_truth_does(tiny, infos):
    agree = []
    for file in infos[infos.label == 1].file:
        natural = np.isin(read(tiny, "tiles/lcs", file)[0], (412, 332, 333))
        agree.append((natural == (read(tiny, "truth", file)[0] == 1)).mean())
    assert 0.93 < np.mean(agree) < 1  # degraded to 100 m cells, so never exact


def test_brightness_does_not_give_the_truth_away(tiny, infos):
    scores = []
    for file in infos[infos.label == 1].file:
        visible, mask = read(tiny, "tiles/s2", file)[:3].mean(axis=0), read(tiny, "truth", file)[0] == 1
        pairs = int(mask.sum()) * int((~mask).sum())
        scores.append(mannwhitneyu(visible[mask], visible[~mask]).statistic / pairs)
    assert 0.6 < np.median(scores) < 0.9
    assert np.mean(np.array(scores) < 0.85) > 0.3


def test_splits_lie_far_apart(tiny, infos):
    where = pd.Series(read_records(tiny)).map(lambda record: complex(record.col, record.row))[infos.file].to_numpy()
    split = infos.dataset.to_numpy()
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        gap = np.abs(where[split == one][:, None] - where[split == other][None, :]).min()
        assert gap * 10 > 25_000  # metres


def test_locations_keep_off_the_embedded_archive_and_belong_to_one_split():
    places = draw_locations(0, {"train": 5, "val": 1, "test": 1})
    every = [place for split in places.values() for place in split]
    assert len(every) == len(set(every)) > 500
    assert min(np.hypot((lon - 24.0) * 41.7, (lat - 67.975) * 111.3) for lon, lat in (p.lon_lat for p in every)) > 29


@pytest.mark.parametrize("label", [0, 1])
def test_a_chip_can_be_made_again_to_the_digit(tiny, infos, label):
    file = infos[infos.label == label].file.iloc[3]
    stored = read(tiny, "tiles/s2", file).astype(np.float32) / np.float32(10000)
    assert np.array_equal(counterfactual(tiny, file, without=()), stored)


def _reach(pattern):
    """Pixels the optics and the 20 m pixels may spread a pattern to; what lies outside the chip may reach in."""
    return binary_dilation(np.pad(pattern, 2, constant_values=True), np.ones((5, 5)))[2:-2, 2:-2]


def test_the_counterfactual_changes_the_pattern_and_nothing_beyond_the_optics(tiny, infos):
    file = infos[infos.label == 1].file.iloc[0]
    stored = read(tiny, "tiles/s2", file).astype(np.float32) / np.float32(10000)
    pattern = read(tiny, "truth", file)[0] == 1
    changed = (counterfactual(tiny, file) != stored).any(axis=0)
    assert not (changed & ~_reach(pattern)).any()
    assert changed[pattern].mean() > 0.99


def test_a_chip_of_another_data_set_is_refused(tiny, tmp_path):
    with pytest.raises(DataError, match="no such chip"):
        counterfactual(tiny, "wdpa-Ia_1_1.tif")
    with pytest.raises(DataError, match="no exact truth"):
        counterfactual(tmp_path, "wdpa-Ia_1_1.tif")


def digest(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def test_workers_change_nothing(tmp_path):
    chips = {"train": 3, "val": 2}
    alone = build_dataset(tmp_path / "alone", chips, seed=5, workers=0)
    shared = build_dataset(tmp_path / "shared", chips, seed=5, workers=2)
    assert digest(alone) == digest(shared)
    assert len(digest(alone)) == 5 * 4 + 3


@pytest.mark.parametrize(("planted", "agree"), [("label", 1.0), ("random", 0.5)])
def test_planted_knolls_follow_the_rule_and_their_share(tmp_path, planted, agree):
    """In either class, so that a chip without room for distractors is made up for by another."""
    root = build_dataset(tmp_path, {"train": 4}, seed=3, planted=planted, workers=0)
    table = pd.read_csv(root / "infos.csv")
    shares = np.array([(read(root, "truth", file)[0] == 2).mean() for file in table.file])
    assert ((shares == 0) | ((shares >= 0.04) & (shares <= 0.12))).all()
    for label in (0, 1):
        assert ((shares > 0) == (table.label == 1))[table.label == label].mean() == agree
    file = table.file[shares.argmax()]
    bare = counterfactual(root, file, without=(), distractors=False)
    stored = read(root, "tiles/s2", file).astype(np.float32) / np.float32(10000)
    changed = (bare != stored).any(axis=0)
    distractors = read(root, "truth", file)[0] == 2
    assert changed[distractors].mean() > 0.99
    assert not (changed & ~_reach(distractors)).any()


def test_land_cover_cells_take_the_majority_of_whole_100_m():
    corine = np.full((256, 256), 312, np.uint16)
    corine[0:10, 0:6] = 412  # 60 of the 100 pixels of the first cell
    corine[10:20, 0:4] = 412  # 40 of the next
    maps = land_cover_maps(corine, Window(-500_000, 430_000, 256, 256))
    assert (maps[0, :10, :10] == 412).all()
    assert (maps[0, 10:20, :10] == 312).all()
    assert maps[:, 0, 0].tolist() == [412, 11, 90, 180]  # wetland in MODIS, CGLS and GlobCover
    assert maps[:, 200, 200].tolist() == [312, 1, 111, 90]
    shifted = land_cover_maps(corine, Window(-500_003, 430_000, 256, 256))
    assert (shifted[0, :3, :10] == 412).all()  # 18 of 30 pixels in the three rows of the cell above
    assert (shifted[0, 3:13, :10] == 412).all()  # 7 x 6 + 3 x 4 = 54 of 100
    assert (shifted[0, 13:23, :10] == 312).all()  # 7 x 4 = 28 of 100


def test_unknown_sizes_are_refused():
    with pytest.raises(RequestError, match="unknown size"):
        demo_dataset("huge")
