"""Metrics against scikit-learn, torchmetrics, and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional import jaccard_index

from spacex.evaluation import metrics


def numbers(maps, inside, valid):
    return metrics.complete(maps, metrics.sort(maps), inside, valid)


def example(chips=7, pixels=600, levels=None, seed=0):
    rng = np.random.default_rng(seed)
    inside = rng.random((chips, pixels)) < rng.uniform(0.1, 0.6, (chips, 1))
    maps = (rng.random((chips, pixels)) + 0.4 * inside).astype(np.float32)
    if levels:
        maps = np.floor(maps * levels).astype(np.float32)
    valid = rng.random((chips, pixels)) < 0.8
    return maps, inside, valid


@pytest.mark.parametrize("levels", [None, 5, 1])
def test_auroc_and_auprc_equal_scikit_learn_with_and_without_ties(levels):
    maps, inside, valid = example(levels=levels)
    ranking = metrics.rank(metrics.sort(maps), inside, valid)
    for i in range(len(maps)):
        truth, score = inside[i, valid[i]], maps[i, valid[i]]
        assert metrics.auroc(ranking)[i] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
        assert metrics.auprc(ranking)[i] == pytest.approx(average_precision_score(truth, score), abs=1e-9)


def test_area_matched_iou_equals_torchmetrics_on_the_top_k():
    maps, inside, valid = example()
    got = metrics.area_matched_iou(metrics.rank(metrics.sort(maps), inside, valid))
    for i in range(len(maps)):
        truth, score = inside[i, valid[i]], maps[i, valid[i]]
        high = score >= np.sort(score)[-truth.sum()]
        expected = jaccard_index(torch.tensor(high), torch.tensor(truth), task="binary")
        assert got[i] == pytest.approx(float(expected), abs=1e-6)


def test_numbers_worked_out_by_hand():
    # ranks: 9 in, 8 out, 7 in, 6 out, 5 out; the sixth pixel does not count
    maps = np.array([[9, 8, 7, 6, 5, 99]], dtype=np.float32)
    inside = np.array([[1, 0, 1, 0, 0, 1]], dtype=bool)
    valid = np.array([[1, 1, 1, 1, 1, 0]], dtype=bool)
    got = numbers(maps, inside, valid)
    assert got["prevalence"][0] == pytest.approx(2 / 5)
    assert got["iou"][0] == pytest.approx(1 / 3)  # {9, 8} against {9, 7}
    assert got["share"][0] == pytest.approx(1 / 2)
    assert got["auroc"][0] == pytest.approx(5 / 6)  # of six pairs only (7 in, 8 out) is the wrong way round
    assert got["auprc"][0] == pytest.approx((1 + 2 / 3) / 2)
    assert got["energy"][0] == pytest.approx(16 / 35)
    assert got["energy_over_chance"][0] == pytest.approx(16 / 35 / 0.4)
    assert got["pointing"][0] == 1.0
    assert got["share_top10"][0] == pytest.approx(1.0)  # half a pixel, the first one
    assert got["iou_top10"][0] == pytest.approx(0.5 / 2.0)


def test_a_constant_map_scores_exactly_chance_whatever_the_pixel_order():
    inside = np.zeros((1, 100), dtype=bool)
    inside[0, :20] = True
    flat, valid = np.full((1, 100), 3.0, dtype=np.float32), np.ones((1, 100), dtype=bool)
    for truth in (inside, inside[:, ::-1]):
        got = numbers(flat, truth, valid)
        assert got["iou"][0] == pytest.approx(0.2 / 1.8)
        assert got["auroc"][0] == pytest.approx(0.5)
        assert got["auprc"][0] == pytest.approx(0.2)
        assert got["pointing"][0] == pytest.approx(0.2)
        assert got["iou_otsu"][0] == got["iou_minmax"][0] == 0.0  # nothing stands out


def test_ties_at_the_threshold_count_their_expected_share():
    # one clear hit, then four equal pixels of which two are inside; k = 3 takes two of the four
    maps = np.array([[5, 1, 1, 1, 1, 0]], dtype=np.float32)
    inside = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    hits = metrics.hits_at(metrics.rank(metrics.sort(maps), inside, np.ones_like(inside)), np.array([3.0]))
    assert hits[0] == pytest.approx(2.0)  # 1 + 2 * (2 / 4)


def test_otsu_equals_a_brute_force_search():
    rng = np.random.default_rng(3)
    maps = np.concatenate([rng.normal(1, 0.2, (4, 300)), rng.normal(3, 0.4, (4, 100))], axis=1).astype(np.float32)
    high = metrics.otsu(maps, np.ones(maps.shape, dtype=bool))
    for values, chosen in zip(maps, high, strict=True):
        cuts = np.sort(values)[:-1]
        between = [
            (values <= c).mean() * (values > c).mean() * (values[values > c].mean() - values[values <= c].mean()) ** 2
            for c in cuts
        ]
        best, ours = (
            max(between),
            chosen.mean() * (1 - chosen.mean()) * (values[chosen].mean() - values[~chosen].mean()) ** 2,
        )
        assert ours == pytest.approx(best, rel=2e-3)  # 256 steps against every possible cut


def test_min_max_half_clips_outliers_before_it_halves_the_range():
    maps = np.concatenate([np.linspace(0, 1, 1000), [1000.0]])[None].astype(np.float32)
    high = metrics.min_max_half(maps, np.ones(maps.shape, dtype=bool))
    assert high.mean() == pytest.approx(0.5, abs=0.02)  # without the clip a single pixel would be left


@pytest.mark.parametrize("fill", [False, True])
def test_chips_without_an_inside_or_an_outside_have_no_answer(fill):
    maps, _, valid = example(chips=2)
    inside = np.full(maps.shape, fill)
    got = numbers(maps, inside, valid)
    assert np.isnan(got["iou"]).all()
    assert np.isnan(got["auroc"]).all()


def test_chips_without_a_valid_pixel_are_nan_not_a_crash():
    maps, inside, valid = example(chips=2)
    got = numbers(maps, inside, np.zeros_like(valid))
    assert np.isnan(got["iou"]).all()
    assert np.isnan(got["energy"]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 50), levels=st.sampled_from([None, 3, 20]))
def test_rank_metrics_ignore_scale_and_pixel_order(seed, scale, levels):
    maps, inside, valid = example(chips=2, pixels=80, levels=levels, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(80)
    plain = numbers(maps, inside, valid)
    other = numbers((maps * np.float32(scale))[:, shuffled], inside[:, shuffled], valid[:, shuffled])
    for name in ("iou", "auroc", "auprc", "energy", "pointing", "iou_top10"):
        np.testing.assert_allclose(plain[name], other[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_truth_itself_scores_one_everywhere():
    _, inside, valid = example()
    got = numbers(inside.astype(np.float32), inside, valid)
    for name in ("iou", "share", "auroc", "auprc", "energy", "pointing", "iou_otsu", "iou_minmax"):
        np.testing.assert_allclose(got[name], 1.0, err_msg=name)
