import json
import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from spacex.model_card import Scaling
from spacex.models.generator import Generator, GeneratorSettings, context
from spacex.training.gradient_probe import GradientProbe
from spacex.training.image_pool import ImagePool
from spacex.training.image_sheets import contact_sheet
from spacex.training.metrics import binary_metrics, collapse_reason, measure_frame, measure_generators
from spacex.training.run_logger import RunLogger
from spacex.training.schedule import rate_factor


def test_classification_by_hand_and_by_scikit_learn():
    score, label = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.9]), torch.tensor([0.0, 0, 1, 1, 1])
    found = binary_metrics(score, label)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["auroc"] == pytest.approx(roc_auc_score(label, score))
    assert found["confusion"] == {
        "unnatural": {"unnatural": 2, "natural": 0},
        "natural": {"unnatural": 1, "natural": 2},
    }


def test_one_class_alone_has_no_auroc():
    assert math.isnan(binary_metrics(torch.tensor([0.1, 0.9]), torch.tensor([1.0, 1.0]))["auroc"])


def test_calibration_error_by_hand():
    # ten chips, all said to be natural with 0.75, of which seven are: off by 0.05
    found = binary_metrics(torch.full((10,), 0.75), torch.tensor([1.0] * 7 + [0.0] * 3))
    assert found["ece"] == pytest.approx(0.05, abs=1e-6)


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, u):
        return u + self.by


class Mean(nn.Module):
    def forward(self, u):
        return u.mean((1, 2, 3))


def test_generators_are_measured_in_standard_deviations_and_shares():
    scaling, spread = Scaling(mean=(0.1,), std=(0.02,)), torch.tensor([0.02])
    chips = [(torch.full((3, 1, 4, 4), 0.11), torch.ones(3))]
    found = measure_generators(Mean(), Shift(0.25), Shift(-1.0), scaling, spread, chips)
    assert found["chips"] == 3
    assert (found["lowered"], found["not_lowered"], found["flipped"]) == (1, 1, 1)
    assert found["z"] == pytest.approx(0.5, abs=1e-5)
    assert (found["z_plus"], found["z_minus"]) == (pytest.approx(0.75, abs=1e-5), pytest.approx(-0.5, abs=1e-5))
    assert (found["change_plus"], found["change_minus"]) == (pytest.approx(0.25, rel=1e-4), pytest.approx(1, rel=1e-4))


def test_of_the_other_class_it_is_told_how_many_the_maximiser_turns():
    scaling, spread = Scaling(mean=(0.1,), std=(0.02,)), torch.tensor([0.02])
    natural, others = torch.full((2, 1, 4, 4), 0.12), torch.full((3, 1, 4, 4), 0.08)
    others[0] = 0.06  # two standard deviations below the mean, the others one
    found = measure_generators(
        Mean(), Shift(1.5), Shift(-2), scaling, spread, [(natural, torch.ones(2))], others=[(others, torch.zeros(3))]
    )
    assert found["chips"] == 2
    assert found["turned"] == pytest.approx(2 / 3)
    assert (found["z_others"], found["z_plus_others"]) == (pytest.approx(-4 / 3), pytest.approx(1 / 6, abs=1e-6))
    assert found["change_plus_others"] == pytest.approx(1.5, rel=1e-4)


def test_an_untouched_picture_is_not_lowered_but_does_not_count_as_lowered():
    chips = [(torch.rand(4, 1, 4, 4), torch.ones(4))]
    same = nn.Identity()
    found = measure_generators(Mean(), same, same, Scaling.identity(1), torch.ones(1), chips)
    assert (found["lowered"], found["not_lowered"]) == (0, 1)


def test_a_score_that_falls_in_the_fourth_decimal_has_been_lowered():
    chips = [(torch.zeros(2, 1, 4, 4), torch.ones(2))]
    for fall, expected in ((1e-3, 0), (1e-5, 1)):
        found = measure_generators(Mean(), Shift(-fall), Shift(-1), Scaling.identity(1), torch.ones(1), chips)
        assert found["not_lowered"] == expected


GOOD = {"z": 3.0, "z_plus": 4.0, "z_minus": -2.0, "change_plus": 0.02, "change_minus": 0.05}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, None),
        ({"z_minus": 2.95}, "no score change"),
        ({"change_minus": 0.9}, "no more likeness"),
        ({"z_plus": float("nan")}, "not numbers"),
        ({"z_minus": None, "change_minus": None}, "not numbers"),
        ({"z_plus": 3.1}, "the maximiser raises the mean logit by 0.100"),
        ({"z_plus": 3.1, "z_others": -3.0, "z_plus_others": -2.9}, "the maximiser raises the mean logit by 0.100"),
        ({"z_plus": 3.1, "z_others": -3.0, "z_plus_others": 2.0}, None),
        ({"change_plus_others": 0.9}, "no more likeness"),
    ],
)
def test_a_collapse_is_said(what, says):
    found = collapse_reason(GOOD | what)
    assert (found is None) if says is None else says in found


def test_gauges_measure_each_term_alone_and_change_nothing():
    probe, w = GradientProbe(), torch.tensor([2.0, 1.0], requires_grad=True)
    picture = 3 * w
    (5 * probe.alias(picture, "a/x").sum() + probe.alias(picture, "b/x").square().sum()).backward()
    norms = probe.norms()
    assert norms["grad/a/x"].item() == pytest.approx((25 + 25) ** 0.5)
    assert norms["grad/b/x"].item() == pytest.approx((12**2 + 6**2) ** 0.5)
    assert w.grad.tolist() == [3 * (5 + 12), 3 * (5 + 6)]


def test_a_full_pool_gives_back_earlier_fakes_about_half_the_time():
    pool = ImagePool(4, 0)
    first = torch.arange(4.0).view(4, 1, 1, 1)
    assert torch.equal(pool.swap(first), first)
    later = torch.full((400, 1, 1, 1), 100.0) + torch.arange(400.0).view(-1, 1, 1, 1)
    given = pool.swap(later)
    assert 0.4 < (given != later).float().mean() < 0.6
    assert len(pool.kept) == 4


def test_rates_rise_stay_and_fall_to_nothing():
    factors = [rate_factor(step, 100, 10, 0.6) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:60] == [1.0] * 51
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0
    assert {rate_factor(step, 100, 0, 1.0) for step in range(100)} == {1.0}
    assert [rate_factor(step, 8, 50, 1.0) for step in range(4)] == [0.5, 1, 1, 1]  # the warm-up fits into the run


def test_a_sheet_has_a_row_per_chip_and_four_columns():
    x = torch.rand(2, 3, 16, 16)
    image = contact_sheet(x, x, 0 * x, ("B02", "B03", "B04"))
    assert image.shape == (2 * 16 + 4, 4 * 16 + 3 * 4, 3)
    assert image.dtype.name == "uint8"


def test_a_resumed_log_drops_what_was_not_saved(tmp_path):
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        with RunLogger(str(tmp_path), start) as logger:
            for step in steps:
                logger.step(step, {"loss": torch.tensor(float(10 * start + step))})
    rows = [json.loads(line) for line in (tmp_path / "log/steps.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 2), (3, 23), (4, 24)]


def test_the_frame_is_as_deep_as_a_chip_s_edge_is_felt():
    torch.manual_seed(0)
    u = torch.randn(2, 3, 256, 256)
    near, far = (Generator(GeneratorSettings(base=4, cap=4, downs=downs, blocks=1, stem=3)) for downs in (0, 3))
    for network in (near, far):
        torch.nn.init.normal_(network.last.weight, 0, 0.3)
    assert measure_frame([near], u, least=0) <= -(-context(near.settings) // 4) * 4
    assert measure_frame([near], u, least=0) < measure_frame([far], u, least=0)
    assert measure_frame([near], u, least=32) == 32
    frame = measure_frame([far], u, least=0)
    shifted, inner = far.delta(u)[..., 64:192, 64:192], far.delta(u[..., 64:192, 64:192].contiguous())
    cut = slice(frame, 128 - frame)
    assert (shifted - inner)[..., cut, cut].abs().mean() <= 0.01 * far.delta(u).abs().mean()


def test_no_frame_helps_instance_norm_and_a_fresh_generator_needs_none():
    u = torch.randn(1, 3, 256, 256)
    assert measure_frame([Generator(GeneratorSettings(base=4, downs=1, blocks=1, norm="instance"))], u, least=8) == 8
    assert measure_frame([Generator(GeneratorSettings(base=4, downs=1, blocks=1))], u, least=0) == 0
