import numpy as np
import pytest
from small_eurosat import build_eurosat

from spacex.evaluation import masks
from spacex.evaluation.samples import MosaicSource, UnmappedSource


def codes(size=64):
    out = np.full((1, size, size), 312, dtype=np.uint16)
    out[0, 20:40, 20:40] = 412
    out[0, 20:40, 40:44] = 335
    return out


def test_the_published_region_is_wetlands_and_bare_land():
    assert masks.CORINE_WB_V1.codes == (411, 412, 421, 422, 423, 331, 332, 333)
    every = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
    assert masks.region(every, masks.CORINE_WB_V1).sum() == 8


def test_the_edge_band_is_exactly_as_wide_as_said_on_both_sides():
    inside = np.zeros((1, 40, 40), dtype=bool)
    inside[0, 10:30, 10:30] = True
    band = masks.edge_band(inside, 3)
    row = band[0, 20]  # a cut through the middle: edges between 9|10 and 29|30
    assert np.flatnonzero(row).tolist() == [7, 8, 9, 10, 11, 12, 27, 28, 29, 30, 31, 32]


def test_a_region_cut_by_the_chip_has_no_edge_there():
    inside = np.zeros((1, 30, 30), dtype=bool)
    inside[0, :, :15] = True
    assert np.flatnonzero(masks.edge_band(inside, 2)[0, 0]).tolist() == [13, 14, 15, 16]


def test_unknown_land_cover_missing_pixels_and_the_frame_do_not_count():
    cover, seen = codes(), np.ones((1, 64, 64), dtype=bool)
    cover[0, 50, 50], seen[0, 30, 30] = 0, False
    plain = masks.Definition(name="t", band=0, frame=16)
    valid = masks.counted(cover, seen, plain)
    assert not valid[0, 50, 50]
    assert not valid[0, 30, 30]
    assert valid[0, 16, 16]
    assert not valid[0, 15, 16]
    assert valid.sum() == 32 * 32 - 1  # (50, 50) lies in the frame anyway


def test_truth_keeps_zero_as_outside_not_as_unknown():
    truth, seen = np.zeros((1, 64, 64), dtype=np.uint8), np.ones((1, 64, 64), dtype=bool)
    assert masks.counted(truth, seen, masks.TRUTH).sum() == 32 * 32


def test_block_means_are_over_valid_pixels_only():
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    valid = np.ones((1, 4, 4), dtype=bool)
    valid[0, 0, 0], valid[0, 2:, 2:] = False, False
    valid[0, 3, 3] = True
    means, good = masks.blocks(values, valid, 2)
    assert means[0].tolist() == [
        [pytest.approx((1 + 4 + 5) / 3), pytest.approx(4.5)],
        [pytest.approx(10.5), 15.0],
    ]
    assert good[0].tolist() == [[True, True], [True, False]]


def test_chips_need_some_region_and_some_rest():
    inside = np.zeros((3, 10, 10), dtype=bool)
    inside[1, :3], inside[2, :] = True, True
    valid = np.ones_like(inside)
    assert masks.within_limits(inside, valid, masks.CORINE_WB_V1).tolist() == [False, True, False]
    assert masks.within_limits(inside, np.zeros_like(valid), masks.CORINE_WB_V1).tolist() == [False] * 3


def test_mosaics_say_which_cells_are_natural_and_rivers_are_no_others(tmp_path):
    root = f"eurosat:{build_eurosat(tmp_path, each=30)}"
    source = MosaicSource(root, ("B04", "B03", "B02"), "train", 20, mosaic=2)
    samples = next(source.batches(20))
    inside = masks.region(samples.codes["truth"], source.definitions[0])
    dark = samples.x[:, 0].view(-1, 2, 64, 2, 64).mean(dim=(2, 4)) < 0.06
    assert np.array_equal(inside[:, ::64, ::64], dark.numpy())
    assert type(source.beside("train", 2)) is MosaicSource
    chips = UnmappedSource(root, ("B04",), "train")
    assert set(chips.other["class"]) == {"AnnualCrop", "Industrial"}
