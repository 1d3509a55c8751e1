"""On a CUDA device: the same maps as on the CPU, copies beside the computing, and the same bits every time."""

import numpy as np
import pytest
import torch

from spacex.attribution.attributor import Attributor
from spacex.attribution.device_transfer import DeviceTransfer
from spacex.checkpoint import load_checkpoint
from spacex.synthetic.dataset import demo_dataset
from spacex.training.classifier_run import ClassifierRun, learn_classifier
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed
from spacex.training.gan_run import PatternRun, learn_patterns
from spacex.training.overrides import with_overrides
from spacex.training.presets import DELTA

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def chips(count):
    return np.random.default_rng(0).random((count, 3, 256, 256), dtype=np.float32) * 0.2


@pytest.mark.parametrize(("precision", "pearson"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_the_gpu_draws_what_the_cpu_draws(tiny_checkpoint, precision, pearson):
    x = chips(4)
    expected = Attributor(tiny_checkpoint)(x)
    found = Attributor(tiny_checkpoint, device="cuda", precision=precision)(x)
    for name, values in expected.maps.items():
        assert np.corrcoef(values.ravel(), found.maps[name].ravel())[0, 1] > pearson, name
    np.testing.assert_allclose(found.score, expected.score, atol=1e-2)


def test_the_same_call_gives_the_same_bits_also_with_others_under_way(tiny_checkpoint):
    networks = Attributor(tiny_checkpoint, device="cuda", precision="bfloat16")
    x = chips(16)
    first = networks.attribute(x)()
    several = [networks.attribute(x) for _ in range(4)]
    for answer in several:
        again = answer()
        for name, values in first.maps.items():
            np.testing.assert_array_equal(again.maps[name], values)


def test_what_is_sent_comes_back_unharmed_from_several_streams():
    transfer = DeviceTransfer(torch.device("cuda"))
    pictures = [chips(8) + index for index in range(6)]
    answers = [transfer.to_host({"x": transfer.to_device(picture) * 2}) for picture in pictures]
    for picture, answer in zip(pictures, answers, strict=True):
        np.testing.assert_array_equal(answer()["x"], picture * 2)


def test_a_classifier_and_its_generators_are_trained_on_the_gpu(tmp_path):
    data = str(demo_dataset("tiny"))
    team, source = (
        Distributed(device=torch.device("cuda"), compile=False),
        DatasetSettings(root=data, bands=("B02", "B03", "B04")),
    )
    run = ClassifierRun(source=source, output=str(tmp_path / "classifier"))
    small = ("network.base=4", "recipe.batch=4", "recipe.epochs=1")
    (epoch,) = learn_classifier(with_overrides(run, small), team)
    assert np.isfinite(list(epoch.metrics.values())).all()
    shape = ("generator.base=4", "generator.cap=8", "generator.blocks=1", "batch=4", "epochs=1")
    patterns = PatternRun(
        source=source, output=str(tmp_path / "patterns"), classifier=run.output, preset=with_overrides(DELTA, shape)
    )
    assert len(list(learn_patterns(patterns, team))) == 1
    assert load_checkpoint(patterns.output).minimiser is not None
