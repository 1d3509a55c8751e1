import pytest
import torch

from spacex.errors import RequestError
from spacex.training.classifier_run import ClassifierRun
from spacex.training.data import DatasetSettings
from spacex.training.gan_run import PatternRun
from spacex.training.overrides import with_overrides
from spacex.training.presets import CLASS_DIFFERENCE, DELTA, PAPER, PRESETS, REPOSITORY, ClassifierRecipe
from spacex.training.state import RunStore


def test_paper_has_the_published_numbers():
    weights = PAPER.weights
    assert (weights.similarity, weights.cycle, weights.adversary, weights.activation) == (1, 1, 1, 0.3)
    assert (PAPER.generator.downs, PAPER.generator.blocks, PAPER.generator.form) == (3, 12, "direct")
    assert PAPER.discriminator.strided == 3  # patches of 70 pixels: tests/models/test_discriminator.py
    assert PAPER.betas == (0.5, 0.999)
    assert PAPER.pretrain > 0
    assert PAPER.domain == "single"


def test_repository_has_the_published_code_s_numbers():
    weights = REPOSITORY.weights
    assert (weights.similarity, weights.cycle, weights.adversary, weights.activation) == (13, 5, 1, 5)
    assert (REPOSITORY.generator.blocks, REPOSITORY.generator.downs, REPOSITORY.batch) == (9, 2, 3)
    assert REPOSITORY.adversary == "least-squares"


def test_delta_has_no_normalisation_and_no_adversary():
    assert DELTA.generator.norm == "none"
    assert DELTA.discriminator is None
    assert DELTA.units == "sigma"


def test_after_quiet_steps_a_loud_gradient_moves_a_weight_of_delta_by_one_rate_and_no_further():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([weight], DELTA.rate, DELTA.betas)

    def moved(gradient):
        weight.grad = torch.full_like(weight, gradient)
        before = weight.item()
        optimiser.step()
        return abs(weight.item() - before)

    assert all(moved(1e-4) <= 1.01 * DELTA.rate for _ in range(500))
    assert moved(1.0) <= 1.01 * DELTA.rate


def test_both_generators_are_charged_for_the_edges_they_draw(make_learner, chips):
    log = make_learner("delta").step(chips)
    assert {name for name in log if name.startswith("loss/edges/")} == {"loss/edges/maximiser", "loss/edges/minimiser"}


def test_class_difference_warns_and_is_nobody_s_default():
    assert "not what the classifier uses" in CLASS_DIFFERENCE.note
    assert CLASS_DIFFERENCE.domain == "class"
    assert all(preset.domain == "single" for name, preset in PRESETS.items() if name != "class-difference")


@pytest.mark.parametrize(("changes", "epochs"), [(["epochs=1"], 0), ([], 50), (["epochs=20", "pretrain=12"], 12)])
def test_pretraining_is_a_share_of_the_epochs(changes, epochs):
    assert with_overrides(PAPER, changes).pretrain_epochs == epochs


def test_a_run_that_only_pretrains_is_refused():
    with pytest.raises(RequestError, match="pretrain"):
        with_overrides(PAPER, ["epochs=20", "pretrain=20"])


@pytest.mark.parametrize(("preset", "change"), [(DELTA, "units=reflectance"), (PAPER, "units=sigma")])
def test_numbers_of_a_preset_are_not_taken_in_other_units(preset, change):
    with pytest.raises(RequestError, match="standard deviations"):
        with_overrides(preset, [change])


def test_presets_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        DELTA.batch = 3


def test_changed_replaces_inner_values_and_leaves_the_preset_alone():
    other = with_overrides(DELTA, ["generator.base=16", "epochs=3", "activation=bce"])
    assert (other.generator.base, other.epochs, other.activation) == (16, 3, "bce")
    assert DELTA.generator.base == 32


def test_settings_within_a_run_that_cards_omit_can_be_changed():
    run = ClassifierRun(source=DatasetSettings(root="demo", bands=("B02",)), output="runs/none")
    changed = with_overrides(run, ["recipe.gains=[0.15,0.08]", "source.mosaic=2"])
    assert (changed.recipe.gains, changed.source.mosaic) == ((0.15, 0.08), 2)


def test_settings_that_the_json_omits_can_be_changed_too():
    changed = with_overrides(DELTA, ["blotches=0.5", "weights.edges=3", "natural_cost=2", "other_cost=4", "cells=2"])
    omitted = changed.blotches, changed.weights.edges, changed.natural_cost, changed.other_cost, changed.cells
    assert omitted == (0.5, 3, 2, 4, 2)


@pytest.mark.parametrize(
    ("preset", "changes", "needed"),
    [
        (PAPER, ["generator.threshold=0.02"], "form = delta"),
        (PAPER, ["generator.limit=2"], "form = delta"),
        (PAPER, ["margin_minus=0.5"], "activation = margin"),
        (PAPER, ["lowered=0.5"], "activation = margin"),
        (PAPER, ["natural_cost=2"], "inputs = mixed"),
        (DELTA, ["weights.adversary=0.5"], "a preset with a discriminator"),
        (DELTA, ["discriminator_rate=1e-3"], "a preset with a discriminator"),
        (PAPER, ["weights.adversary=0", "pool=9"], "weights.adversary above 0"),
        (PAPER, ["weights.adversary=0", "discriminator.base=9"], "weights.adversary above 0"),
        (DELTA, ['discriminator={"base": 9}', "discriminator.base=8"], "weights.adversary above 0"),
        (DELTA, ["cycle_trains=own"], "weights.cycle above 0"),
        (DELTA, ["weights.activation=0", "jitter=3"], "weights.activation above 0"),
        (DELTA, ["inputs=all", "other_cost=4"], "inputs = mixed"),
        (DELTA, ["cells=2"], "other_cost above 0"),
        (DELTA, ["generator.downs=0", "generator.cap=64"], "downs above 0"),
        (DELTA, ["generator.bands=4"], "the classifier's"),
        (ClassifierRecipe(), ["cutmix=0", "strip=0.2"], "cutmix above 0"),
        (ClassifierRun(source=DatasetSettings(root="demo", bands=("B02",)), output="r"), ["network.bands=7"], "chips'"),
        (
            ClassifierRun(source=DatasetSettings(root="demo", bands=("B02",)), output="r"),
            ["pictures_every=7"],
            "logs no",
        ),
    ],
)
def test_a_setting_without_effect_is_refused_when_it_is_changed(preset, changes, needed):
    with pytest.raises(
        RequestError, match=f"{changes[-1].split('=')[0].replace('lowered', 'margin_minus')} .*{needed}"
    ):
        with_overrides(preset, changes)


def test_what_a_preset_has_without_effect_and_what_stays_as_it_was_is_not_refused():
    assert with_overrides(DELTA, ["inputs=all", "pool=0", "weights.adversary=0"]).natural_cost == 10
    assert with_overrides(DELTA, ["generator.mean=[]", "pool=5", "pool=0"]) == DELTA


@pytest.mark.parametrize(
    "wrong",
    ["bogus=1", "generator.bogus=1", "epochs=0", "batch=many", "discriminator.base=4", "cells=2"],
)
def test_changed_refuses_what_does_not_exist_or_fit(wrong):
    with pytest.raises(RequestError):
        with_overrides(DELTA, [wrong])


def test_each_generator_s_margin_grows_with_what_its_own_chip_lacks(make_learner, chips):
    learner = make_learner("delta", jitter=0, zoom=1.0, inputs="all", margin_plus=0.25, margin_minus=0.5)
    chips = chips * torch.tensor([0.1, 0.5, 0.8, 1, 2, 3]).view(-1, 1, 1, 1)
    z = learner.classifiers[0](learner.explained.scaling.standardise(chips))  # a fresh generator changes nothing
    assert z.min() < -1 < 1 < z.max()
    log = learner.step(chips)
    factor = DELTA.weights.activation
    for role, asked in (
        ("maximiser", [max(max(-one, 1) / 4 - one, 0) for one in z.tolist()]),
        ("minimiser", [max(max(one, 1) / 2 + one, 0) for one in z.tolist()]),
    ):
        assert float(log[f"loss/activation/{role}"]) == pytest.approx(factor * sum(asked) / 6, rel=1e-4)


def test_mixed_inputs_give_the_maximiser_chips_of_both_classes_and_the_minimiser_natural_ones(make_learner, chips):
    learner, seen = make_learner("delta", inputs="mixed"), {}
    for role in ("maximiser", "minimiser"):
        learner.networks[role].register_forward_hook(lambda _, given, __, role=role: seen.update({role: given[0]}))
    others = chips.flip(0) - 0.06
    learner.step(chips, others)
    standardise = learner.explained.scaling.standardise
    torch.testing.assert_close(seen["minimiser"], standardise(chips))
    every_second = (torch.arange(len(chips)) % 2 == 0)[:, None, None, None]
    torch.testing.assert_close(seen["maximiser"], standardise(torch.where(every_second, chips, others)))


def test_what_the_maximiser_pays_for_natural_chips_is_a_factor_of_their_penalties(make_learner, chips):
    dear, alike = (make_learner("delta", inputs="mixed", natural_cost=cost, average=0) for cost in (10, 1))
    for learner in (dear, alike):
        torch.nn.init.constant_(learner.networks["maximiser"].last.bias, 0.3)
    logs = [learner.step(chips, chips.flip(0) - 0.06) for learner in (dear, alike)]
    # the bias changes every chip alike, and half of the six are natural: (3 · 10 + 3) / 6
    for term in ("similarity", "smooth"):
        paid = [float(log[f"loss/{term}/maximiser"]) for log in logs]
        assert paid[0] == pytest.approx(5.5 * paid[1], rel=1e-3, abs=1e-7)
    assert float(logs[0]["loss/similarity/minimiser"]) == float(logs[1]["loss/similarity/minimiser"])


def test_the_minimiser_learns_the_same_whatever_the_maximiser_sees(make_learner, chips):
    learners = {inputs: make_learner("delta", inputs=inputs) for inputs in ("natural", "mixed")}
    for learner in learners.values():
        for _ in range(3):
            learner.step(chips, chips.flip(0) - 0.06)
    natural, mixed = (learner.result("minimiser").state_dict() for learner in learners.values())
    assert all(torch.equal(natural[name], mixed[name]) for name in natural)
    natural, mixed = (learner.result("maximiser").state_dict() for learner in learners.values())
    assert not all(torch.equal(natural[name], mixed[name]) for name in natural)


def test_a_minimiser_that_pays_for_others_sees_mosaics_of_both_and_the_maximiser_what_it_saw(make_learner, chips):
    learner = make_learner("delta", inputs="mixed", other_cost=10, cells=4)
    alone = make_learner("delta", inputs="mixed")
    seen = {}
    for name, one, role in (("-", learner, "minimiser"), ("+", learner, "maximiser"), ("alone", alone, "maximiser")):
        one.networks[role].register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0]}))
    others, sides = chips.flip(0) - 0.06, set()
    standardise, side = learner.explained.scaling.standardise, chips.shape[-1]
    u, o = standardise(chips), standardise(others)
    for _ in range(12):
        learner.step(chips, others)
        alone.step(chips, others)
        torch.testing.assert_close(seen["+"], seen["alone"])
        natural = (seen["-"] == u).all(dim=1)
        assert (natural | (seen["-"] == o).all(dim=1)).all()
        sides.add(next(n for n in (1, 2, 4) if torch.equal(natural, in_cells(natural, side // n))))
        assert 0.2 < natural.float().mean() < 0.8
    assert sides == {1, 2, 4}


def in_cells(natural, side):
    """As if all of a cell were what its first pixel is."""
    return natural[:, ::side, ::side].repeat_interleave(side, 1).repeat_interleave(side, 2)


def test_what_the_minimiser_pays_goes_by_the_classifier_s_score_and_not_by_the_label(make_learner, chips):
    dear, alike = (make_learner("delta", inputs="mixed", other_cost=cost, average=0) for cost in (10, 1))
    for learner in (dear, alike):
        torch.nn.init.constant_(learner.networks["minimiser"].last.bias, 0.3)
    chips = chips * torch.tensor([0.1, 0.5, 0.8, 1, 2, 3]).view(-1, 1, 1, 1)
    # both sides are the same chips, so that labels say nothing
    logs = [learner.step(chips, chips) for learner in (dear, alike)]
    score = dear.classifiers[0](dear.explained.scaling.standardise(chips)).sigmoid()
    assert score.min() < 0.5 < score.max()
    expected = float((score + 10 * (1 - score)).mean())
    for term in ("similarity", "smooth"):
        paid = [float(log[f"loss/{term}/minimiser"]) for log in logs]
        assert paid[0] == pytest.approx(expected * paid[1], rel=1e-3, abs=1e-7)


def test_what_moves_several_classifiers_asks_each_by_its_own_logit(make_learner, chips):
    alone, twice = (make_learner("delta", jitter=0, zoom=1.0, margin_minus=0.5) for _ in range(2))
    twice.classifiers = [alone.classifiers[0], lambda u: alone.classifiers[0](u) - 7]
    z = alone.classifiers[0](alone.explained.scaling.standardise(chips))
    log = twice.step(chips)
    asked = [float((0.5 * one.clamp_min(1) + one).relu().mean()) for one in (z, z - 7)]
    factor = DELTA.weights.activation / 2
    assert float(log["loss/activation/minimiser"]) == pytest.approx(factor * sum(asked), rel=1e-4)


def test_settings_are_read_by_the_names_of_earlier_versions(tmp_path):
    assert with_overrides(DELTA, ["lowered=0.5", "size=l1"]) == with_overrides(
        DELTA, ["margin_minus=0.5", "change_norm=l1"]
    )
    source = DatasetSettings(root="chips", bands=("B02", "B03", "B04"))
    run = PatternRun(source=source, output=str(tmp_path), classifier="one", extra_classifiers=("two",))
    store = RunStore(run.output)
    store.bind(run)
    file = tmp_path / "state" / "run.json"
    former = {"margin_minus": "lowered", "change_norm": "size", "extra_classifiers": "further"}
    for name, earlier in former.items():
        assert f'"{name}"' in file.read_text()
        file.write_text(file.read_text().replace(f'"{name}"', f'"{earlier}"'))
    store.check_settings(run)
    with pytest.raises(RequestError, match="seed=1"):
        store.check_settings(run.model_copy(update={"seed": 1}))


def test_settings_that_are_left_out_of_the_json_while_they_are_0_can_be_set():
    changed = with_overrides(PAPER, ["blotches=0.2", "weights.edges=0.5"])
    assert (changed.blotches, changed.weights.edges) == (0.2, 0.5)
