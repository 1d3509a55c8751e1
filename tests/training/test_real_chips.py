"""Both trainers learn eight real chips by heart: smoke, no claim of accuracy."""

import pytest
import torch

from spacex.model_card import Scaling
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.generator import GeneratorSettings
from spacex.training.classifier import ClassifierLearner
from spacex.training.gan import ExplainedClassifiers, PatternLearner
from spacex.training.presets import DELTA, ClassifierRecipe

pytestmark = pytest.mark.real
RGB = [2, 1, 0]


@pytest.fixture(scope="module")
def learnt(real_chips):
    """Chips, labels, scaling, and a classifier that has learnt them in 40 steps."""
    x, label = real_chips[0][:, RGB], real_chips[1]
    mean, std = x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3))
    scaling = Scaling(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    recipe = ClassifierRecipe(rate=0.01, batch=8, epochs=40, cutmix=0.0, rotate=False, loss="bce")
    torch.manual_seed(0)
    network = Classifier(ClassifierSettings(base=4, levels=3, occlusion=0.0))
    learner = ClassifierLearner(recipe, network, scaling, steps=40)
    losses = [float(learner.step(x, label)["loss"]) for _ in range(40)]
    return x, label, scaling, learner.result(), losses


def test_the_classifier_overfits_eight_real_chips(learnt):
    x, label, scaling, network, losses = learnt
    assert losses[-1] < losses[0] / 4
    with torch.no_grad():
        right = (network(scaling.standardise(x)) > 0) == label.bool()
    assert right.all()


def test_the_generators_move_its_score_on_those_chips(learnt):
    x, label, scaling, network, _ = learnt
    natural = x[label == 1]
    shape = GeneratorSettings(base=4, cap=8, downs=1, blocks=1, stem=3)
    preset = DELTA.model_copy(update={"generator": shape, "warmup": 0, "rate": 0.01, "average": 0.0})
    task = ExplainedClassifiers([network], scaling, scaling.std)
    learner = PatternLearner(preset, task, steps=30)
    for _ in range(30):
        learner.step(natural)
    with torch.no_grad():
        u = scaling.standardise(natural)
        before, lowered = network(u), network(learner.result("minimiser")(u))
        raised = network(learner.result("maximiser")(u))
    assert (lowered < before - 0.5).all()
    assert (raised > before - 0.1).all()
