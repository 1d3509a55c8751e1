"""Networks that start from weights trained elsewhere."""

from __future__ import annotations

import pickle

import pytest
import third_party_networks
import torch
from safetensors.torch import save_file

from spacex.errors import CheckpointError
from spacex.models.pretrained import freeze_backbone, frozen_modules, head_name, load_pretrained


@pytest.fixture
def weights(tmp_path):
    """A file of a network of ten classes, with a tensor more than others have."""
    torch.manual_seed(5)
    state = third_party_networks.Residual(classes=10).state_dict()
    save_file(state | {"decoder.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    return state, str(tmp_path / "w.safetensors")


def test_all_but_the_head_is_taken(weights):
    state, file = weights
    network = third_party_networks.Residual(classes=1)
    drawn = network.last.weight.clone()
    assert len(load_pretrained(network, file)) == 64
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, drawn if name == "last.weight" else state[name]) or name == "last.bias"
    assert torch.equal(network.last.weight, drawn)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (third_party_networks.Residual(bands=5), "1 of 32 tensors missing or of another shape, such as stem.0.weight"),
        (third_party_networks.Residual(width=4), "such as stem.0.weight"),
        (third_party_networks.Transformer(), "expected all but those of its head, last"),
    ],
)
def test_weights_of_another_network_are_refused(weights, network, message):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(network, weights[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_pickle_is_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="expected safetensors"):
        load_pretrained(third_party_networks.Residual(), str(tmp_path / "weights.pt"))
    assert not (tmp_path / "ran").exists()


def test_only_the_head_learns():
    network = third_party_networks.Transformer()
    assert head_name(network) == "last"
    freeze_backbone(network)
    assert [name for name, weight in network.named_parameters() if weight.requires_grad] == ["last.weight", "last.bias"]
    assert network.encoder in frozen_modules(network)
    assert network.last not in frozen_modules(network)
    assert network not in frozen_modules(network)
