"""The residual classifier: its arithmetic, any chip size, and everything that a classifier of ours must allow."""

import numpy as np
import pytest
import torch

import spacex
from spacex.attribution.attributor import Attributor
from spacex.attribution.lift import check_lift
from spacex.checkpoint import save_checkpoint
from spacex.errors import CheckpointError
from spacex.model_card import Card
from spacex.models.residual import Block, ResidualNetwork
from spacex.models.third_party import ThirdPartySettings, network_builder

NAME = "spacex.models.residual:ResidualNetwork"


def trained(**arguments):
    """A network whose batch norms have statistics, as after training."""
    torch.manual_seed(0)
    network = ResidualNetwork(**arguments)
    for _ in range(3):
        network(torch.randn(4, 3, 32, 32) + 0.3)
    return network.eval()


def test_the_published_sizes():
    network = ResidualNetwork()
    assert sum(weight.numel() for weight in network.parameters()) == 867_297
    assert [tuple(block.residual[0].weight.shape[:2]) for block in network.blocks] == [(64, 32), (128, 64), (192, 128)]


@pytest.mark.parametrize("side", [64, 100, 33])
def test_any_chip_size_and_any_number_of_outputs(side):
    network = ResidualNetwork(bands=2, widths=(4, 6, 8), depth=2, outputs=3).eval()
    assert network(torch.randn(5, 2, side, side)).shape == (5, 3)
    assert network.blocks(network.stem(torch.randn(1, 2, side, side))).shape[-1] == -(-side // 4)


def test_a_block_by_hand():
    """One channel, a single bright pixel: the centre tap of both convolutions, beside the mean of 2 x 2 pixels."""
    block = Block(1, 1, halve=True).eval()
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(block.residual[1].weight)
    torch.nn.init.ones_(block.residual[4].weight)
    block.residual[0].weight.data[0, 0, 1, 1] = 3.0
    block.residual[3].weight.data[0, 0, 1, 1] = 5.0
    block.skip[1].weight.data.fill_(8.0)
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 2, 2] = 1.0  # an even pixel, which the stride keeps
    # 1 * 3 * 5 through the convolutions, 8 * 1 / 4 beside them; batch norm divides by sqrt(1 + 1e-5)
    torch.testing.assert_close(block(x), torch.tensor([[[[0.0, 0], [0, 17.0]]]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("arguments", [{"depth": 10**9}, {"widths": [8]}, {"widths": [8] * 99}])
def test_a_card_cannot_make_it_grow_without_end(arguments):
    with pytest.raises(CheckpointError, match="cannot build"):
        network_builder(ThirdPartySettings(network=NAME, arguments=arguments))()


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """The tiny checkpoint's generators around it, chips of 64 pixels."""
    widths = (4, 6, 8)
    shape = ThirdPartySettings(network=NAME, arguments={"widths": list(widths)})
    asked = tiny_checkpoint.card.model_dump(exclude={"frame", "stride", "applicability"})
    card = Card.model_validate(asked | {"chip_size": 64, "classifier": shape.model_dump()})
    generators = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    save_checkpoint(tmp_path / "checkpoint", card, {"classifier": trained(widths=widths), **generators})
    return spacex.load_checkpoint(tmp_path / "checkpoint")  # trusts nothing


def test_lift_follows_it_and_its_stages_are_its_features(checkpoint):
    check_lift(checkpoint.classifier, 3, 64)
    assert checkpoint.classifier.features == ("stem", "blocks.0", "blocks.1")


def test_inference_is_the_same_function(checkpoint):
    """Folded it is equal but for rounding; in bfloat16 the maps keep their order."""
    x = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32) * 0.1
    u = checkpoint.card.scaling.standardise(torch.from_numpy(x))
    exact, coarse = (Attributor(checkpoint, ("lift",), precision=name)(x) for name in ("float32", "bfloat16"))
    np.testing.assert_allclose(exact.score, checkpoint.classifier(u).sigmoid().numpy(), rtol=1e-5)
    np.testing.assert_allclose(coarse.score, exact.score, rtol=0.01)
    assert np.corrcoef(coarse.maps["lift"].ravel(), exact.maps["lift"].ravel())[0, 1] > 0.995
