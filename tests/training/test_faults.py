"""One test for each fault known of the published code, by its number in the list we keep of them."""

import compileall
import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import spacex
from spacex.model_card import Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.discriminator import Discriminator, DiscriminatorSettings
from spacex.models.generator import Generator
from spacex.training import losses
from spacex.training.batches import EpochOrder
from spacex.training.data import DatasetSettings, open_split
from spacex.training.gan import ROLES
from spacex.training.metrics import measure_classifier, measure_generators
from spacex.training.presets import PRESETS
from spacex.training.run_logger import BLOCK, RunLogger

PACKAGE = Path(spacex.__file__).parent
ALL = sorted(PRESETS)


class Calls:
    """Counts the calls of a module and keeps what it was given."""

    def __init__(self, module: nn.Module) -> None:
        self.inputs: list[torch.Tensor] = []
        module.register_forward_hook(lambda _module, given, _made: self.inputs.append(given[0].detach()))


@pytest.mark.parametrize("name", ALL)
def test_01_activation_reaches_both_generators_from_every_chip(name, make_learner, chips):
    learner = make_learner(name)
    log = learner.step(0.75 * chips, 0.7 * chips)  # no chip lies beyond its margin
    for side, _ in ROLES:
        assert log[f"grad/activation/{side}"] > 0
    seen = torch.zeros(6, requires_grad=True)
    losses.activation_margin(seen, "raise", 1.0).backward()
    assert (seen.grad != 0).all()


def test_01_activation_judges_the_generated_picture(make_learner, chips):
    learner = make_learner("delta", jitter=0)
    with torch.no_grad():
        learner.networks["minimiser"].last.bias += 0.5
    judged = Calls(learner.classifiers[0])
    learner.step(chips)
    made_plus, made_minus = judged.inputs[1].chunk(2)
    real = learner.explained.scaling.standardise(chips)
    assert torch.allclose(made_plus, real)
    assert (made_minus - real > 0.4).all()


@pytest.mark.parametrize("activation", ["bce", "margin"])
def test_02_a_confident_positive_is_never_pushed_down(activation):
    z = torch.tensor([9.0], requires_grad=True)
    loss = {
        "bce": lambda: losses.activation_bce(z, "raise"),
        "margin": lambda: losses.activation_margin(z, "raise", 2.0),
    }[activation]()
    loss.backward()
    assert z.grad <= 0


@pytest.mark.parametrize("name", ALL)
def test_03_generated_pictures_stay_where_the_classifier_knows_them(name):
    preset = PRESETS[name]
    net = Generator(preset.generator.model_copy(update={"base": 4, "cap": 8, "blocks": 1}))
    nn.init.normal_(net.last.weight, 0, 3.0)
    u = torch.rand(2, 3, 32, 32)
    made = net(u)
    if preset.generator.form == "direct":
        assert made.min() >= 0
        assert made.max() <= 1
    else:
        assert (made - u).abs().max() <= preset.generator.limit


@pytest.mark.parametrize("bands", [1, 3, 10])
@pytest.mark.parametrize("name", ALL)
def test_04_any_number_of_bands_keeps_the_size(name, bands, make_learner):
    x = 0.05 + 0.02 * torch.rand(2, bands, 32, 32)
    learner = make_learner(name, bands=bands)
    learner.step(x, x)
    assert learner.result("maximiser")(x).shape == x.shape


@pytest.mark.parametrize(("name", "passes"), [("paper", 2), ("repository", 2), ("delta", 1), ("class-difference", 1)])
def test_05_four_generator_passes_with_a_cycle_two_without(name, passes, make_learner, chips):
    learner = make_learner(name)
    counts = {side: Calls(learner.networks[side]) for side, _ in ROLES}
    learner.step(chips, chips)
    assert {side: len(calls.inputs) for side, calls in counts.items()} == dict.fromkeys(counts, passes)


@pytest.mark.parametrize(("trains", "flows"), [("both", True), ("own", False)])
def test_06_what_a_cycle_trains_is_a_setting(trains, flows, make_learner, chips):
    learner = make_learner("paper", cycle_trains=trains)
    made = {side: learner.networks[side](chips) for side, _ in ROLES}
    from spacex.training.gradient_probe import GradientProbe

    only = learner._cycles(dict.fromkeys(made, chips), made, GradientProbe())["cycle/maximiser"]
    only.backward()
    reached = any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.networks["minimiser"].parameters())
    assert reached is flows


@pytest.mark.parametrize("name", ALL)
def test_07_the_generators_step_leaves_no_gradient_in_judges(name, make_learner, chips):
    learner = make_learner(name)
    u = learner._standardise(chips)
    inputs, costs = ({side: value for side, _ in ROLES} for value in (u, torch.ones(1, 1, 1, 1)))
    learner._generator_step(inputs, costs, True)
    judges = [learner.classifiers[0], *(learner.networks[n] for n in learner.networks if n.startswith("disc"))]
    assert all(p.grad is None for judge in judges for p in judge.parameters())
    assert all(p.requires_grad for n in learner.networks for p in learner.networks[n].parameters())


def test_08_each_discriminator_judges_its_own_generator(make_learner, chips):
    learner = make_learner("paper")
    with torch.no_grad():
        learner.networks["maximiser"].last.bias += 9.0  # white pictures
        learner.networks["minimiser"].last.bias -= 9.0  # black pictures
    seen = {side: Calls(learner.networks[f"discriminator of {side}"]) for side, _ in ROLES}
    learner.step(chips)
    real_and_fake = {side: calls.inputs[-1].chunk(2) for side, calls in seen.items()}
    assert torch.equal(real_and_fake["maximiser"][0], chips)
    assert real_and_fake["maximiser"][1].min() > 0.99
    assert real_and_fake["minimiser"][1].max() < 0.01


def test_08_a_cycle_goes_through_the_other_generator(make_learner, chips):
    learner = make_learner("paper")
    with torch.no_grad():
        learner.networks["minimiser"].last.bias -= 9.0
    given = Calls(learner.networks["maximiser"])
    learner.step(chips)
    assert torch.equal(given.inputs[0], chips)
    assert given.inputs[1].max() < 0.01  # what the minimiser had made


@pytest.mark.parametrize("name", ALL)
def test_09_a_step_of_every_preset_moves_every_network(name, make_learner, chips):
    learner = make_learner(name)
    before = {n: [p.detach().clone() for p in net.parameters()] for n, net in learner.networks.items()}
    learner.step(0.75 * chips, 0.7 * chips)
    for n, net in learner.networks.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[n], net.parameters(), strict=True)), n


def test_10_one_classifier_pass_over_both_pictures(make_learner, chips):
    learner = make_learner("delta")
    calls = Calls(learner.classifiers[0])
    learner.step(chips)
    assert [len(batch) for batch in calls.inputs] == [6, 12]  # x itself; both pictures


def test_11_a_fresh_discriminator_has_an_opinion():
    net = Discriminator(DiscriminatorSettings(base=4, strided=2))
    a, b = torch.rand(2, 1, 3, 32, 32)
    assert not torch.allclose(net(a), net(b))


def test_12_the_state_holds_optimisers_and_schedules(make_learner, chips):
    learner, other = make_learner("paper"), make_learner("paper", seed=1)
    learner.step(chips)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    learner.step(chips)
    other.step(chips)
    for name, net in learner.networks.items():
        for a, b in zip(net.parameters(), other.networks[name].parameters(), strict=True):
            assert torch.equal(a, b)
    assert other.schedules["maximiser"].last_epoch == 2


def test_13_splits_share_no_chip_and_measuring_keeps_no_graph(tiny_data):
    bands = ("B02", "B03", "B04")
    splits = [open_split(DatasetSettings(root=str(tiny_data), bands=bands), s) for s in ("train", "val", "test")]
    files = [set(split.infos["file"]) for split in splits]
    assert not files[0] & files[1]
    assert not (files[0] | files[1]) & files[2]
    grads = []

    class Probe(nn.Module):
        def forward(self, u):
            grads.append(torch.is_grad_enabled())
            return u.mean((1, 2, 3))

    x = [(torch.rand(2, 3, 8, 8), torch.tensor([0.0, 1.0]))]
    measure_classifier(Probe(), Scaling.identity(3), x)
    measure_generators(Probe(), nn.Identity(), nn.Identity(), Scaling.identity(3), torch.ones(3), x)
    assert grads == [False, False]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_14_the_batch_is_the_one_asked_for(batch):
    assert {len(b) for b in EpochOrder(list(range(11)), batch, 0)} == {batch}


def test_15_every_file_compiles():
    assert compileall.compile_dir(str(PACKAGE), quiet=1, force=True)


def test_16_no_machine_s_folders_and_no_fixed_device():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"\.cuda\(|/home/|/Users/|C:\\\\", path.read_text()), path


@pytest.mark.parametrize(
    "net",
    [
        Generator(PRESETS["paper"].generator.model_copy(update={"base": 4, "cap": 8, "blocks": 2})),
        Generator(PRESETS["delta"].generator.model_copy(update={"base": 4, "cap": 8, "blocks": 2})),
        Classifier(ClassifierSettings(base=2, chip_size=64)).eval(),
    ],
)
def test_17_no_module_is_used_twice(net):
    leaves = [m for m in net.modules() if not list(m.children()) and not isinstance(m, nn.AvgPool2d)]
    counts = [Calls(leaf) for leaf in leaves]
    net(torch.rand(1, 3, 64, 64))
    assert max(len(calls.inputs) for calls in counts) == 1


def test_18_a_step_says_nothing_and_numbers_are_fetched_in_blocks(make_learner, chips, capsys, tmp_path):
    learner = make_learner("delta")
    with RunLogger(str(tmp_path)) as logger:
        for number in range(1, BLOCK):
            logger.step(number, learner.step(chips))
        assert not (tmp_path / "log" / "steps.jsonl").exists()
        logger.step(BLOCK, learner.step(chips))
        assert len((tmp_path / "log" / "steps.jsonl").read_text().splitlines()) == BLOCK
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ALL)
def test_19_a_flat_chip_has_no_bright_frame_and_no_dots(name):
    torch.manual_seed(0)
    net = Generator(PRESETS[name].generator.model_copy(update={"base": 4, "cap": 8, "blocks": 2}))
    nn.init.normal_(net.last.weight, 0, 0.1)
    for layer in net.body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, 0.1)
    made = net(torch.full((1, 3, 64, 64), 0.3))
    assert (made.amax((-2, -1)) - made.amin((-2, -1))).max() < 1e-5
