"""Pretrained weights that a network starts from: safetensors of this machine, all but its head's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from spacex.errors import CheckpointError


def load_pretrained(network: nn.Module, file: str) -> str:
    """Give a network the weights of a file by their names; what its head has of another shape stays as it was drawn.

    Further tensors of the file, as of decoders that the network lacks, are ignored. Nothing is unpickled.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: if the file is no safetensors, or lacks weights of the network outside its head.
    """
    data = Path(file).read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        do = "Convert them with safetensors.torch.save_file where you trust their origin; pickles are not read."
        raise CheckpointError(f"the weights {file} cannot be read", got=error, expected="safetensors", do=do) from error
    state = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in state and tensor.shape == state[name].shape}
    own = (f"{head_name(network)}.", "num_batches_tracked")
    if missing := [
        name for name in state if name not in fitting and not (name.startswith(own[0]) or name.endswith(own[1]))
    ]:
        raise CheckpointError(
            f"the weights {file} are not those of this network",
            got=f"{len(missing)} of {len(state)} tensors missing or of another shape, such as {missing[0]}",
            expected=f"all but those of its head, {head_name(network)}",
        )
    network.load_state_dict(fitting, strict=False)
    return hashlib.sha256(data).hexdigest()


def head_name(network: nn.Module) -> str:
    """The module that holds a network's last parameter: the layer that gives the logits."""
    return [name for name, _ in network.named_parameters()][-1].rpartition(".")[0]


def freeze_backbone(network: nn.Module) -> None:
    """Take the gradients from all weights but the head's."""
    head = f"{head_name(network)}."
    for name, weight in network.named_parameters():
        weight.requires_grad_(name.startswith(head))


def frozen_modules(network: nn.Module) -> list[nn.Module]:
    """Modules without a weight that learns; in training they stay in eval mode, or their statistics would learn."""
    parameters = [(module, list(module.parameters())) for module in network.modules()]
    return [module for module, own in parameters if own and not any(weight.requires_grad for weight in own)]
