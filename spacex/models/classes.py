"""One view of every classifier: n logits for n chips, however many classes it tells apart.

Attribution, generators and maps need one number per chip: how much speaks for natural, or in general for the *target*
class. Of more than two classes that is the target's logit against the log-sum-exp of the others', whose sigmoid is the
target's softmax probability. `BinaryView` so turns a classifier of several classes into one of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier


class TargetVsRest(nn.Module):
    """Logits (n, classes) to logits (n,): the target column's minus the log-sum-exp of the others'."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (n,), in the precision of the input; sigmoid gives the target's softmax probability."""
        rest = torch.cat([logits[:, : self.target], logits[:, self.target + 1 :]], dim=1)
        out: Tensor = logits[:, self.target] - rest.logsumexp(dim=1)
        return out


class ExactBatchNormGradient(TorchFunctionMode):
    """Gives the gradients of batch norms the memory order of their inputs, without which PyTorch 2.13 gets them wrong.

    On the CPU the backward pass of an eval batch norm reads the gradient of a batch of one in a wrong order, if it
    comes channels last (transposed, from `flatten(2).transpose(1, 2)`) and the input was not. Results are the same.
    """

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run any operation; hook the output of a batch norm."""
        out = func(*args, **(kwargs or {}))
        if func.__name__.startswith("batch_norm") and out.requires_grad and out.is_contiguous():
            out.register_hook(Tensor.contiguous)
        return out


class BinaryView(nn.Module):
    """A network that gives (n,), (n, 1) or (n, classes) as one of two classes: chips (n, bands, h, w) to logits (n,).

    `target` is the target's column, None for a network of one logit. `features` names the modules whose channel
    statistics serve to compare chips, and Grad-CAM.
    """

    def __init__(self, network: nn.Module, target: int | None = None, features: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network, self.features = network, features
        self.to_logit = nn.Identity() if target is None else TargetVsRest(target)

    def forward(self, u: Tensor) -> Tensor:
        """Logits (n,) of standardised chips; sigmoid gives the score."""
        with ExactBatchNormGradient() if u.requires_grad else nullcontext():
            out: Tensor = self.network(u)
        logits: Tensor = self.to_logit(out if out.ndim == 2 and out.shape[1] > 1 else out.reshape(len(u)))
        return logits


def unwrap(classifier: nn.Module) -> nn.Module:
    """The network itself, as it was trained and as its weights are stored."""
    return classifier.network if isinstance(classifier, BinaryView) else classifier


def native_network(classifier: nn.Module) -> Classifier | None:
    """The classifier as this package's U-Net and head, if it is that."""
    network = unwrap(classifier)
    return network if isinstance(network, Classifier) else None


def native_head(classifier: nn.Module) -> nn.Module | None:
    """Of this package's classifier, what turns activation maps (n, maps, h, w) into n logits."""
    native = native_network(classifier)
    if native is None or not isinstance(classifier, BinaryView):
        return native and native.head
    return nn.Sequential(native.head, classifier.to_logit)


def output_columns(network: nn.Module, bands: int, side: int) -> int:
    """How many logits a network gives per chip, tried on a blank one (bands, side, side); its mode stays as it was.

    Raises:
        CheckpointError: if it cannot take such a chip, or gives anything but (n,), (n, 1) or (n, classes).
    """
    training = network.training
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            out = network.eval()(torch.zeros(1, bands, side, side, device=device))
    except Exception as error:  # whatever a third-party network raises
        what = f"the network cannot take chips of {bands} bands and {side} x {side} pixels"
        raise CheckpointError(what, got=f"{type(error).__name__}: {error}") from error
    finally:
        network.train(training)
    if not isinstance(out, Tensor) or out.ndim > 2 or len(out) != 1:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise CheckpointError("the network gives no logits", got=got, expected="(n,), (n, 1) or (n, classes)")
    return int(out.numel())


def check_numbers(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that hold NaN or infinity; minus infinity masks what attention does not see.

    Raises:
        CheckpointError: naming the first of them.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool((tensor.float() < torch.inf).all()):
            raise CheckpointError(f"{what} is damaged", got=f"NaN or infinity in {name}", expected="finite weights")


def check_output_columns(count: int, classes: int, what: str = "the network") -> None:
    """Refuse a number of logits per chip that does not fit the number of classes; 0 stands for natural and not.

    Raises:
        CheckpointError: unless there is one per class; two classes may share one, and must if they are unnamed.
    """
    allowed = {1} if not classes else {1, 2} if classes == 2 else {classes}
    if count not in allowed:
        expected = f"{' or '.join(map(str, sorted(allowed)))} for {classes or 'two unnamed'} classes"
        do = "Build it for so many, e.g. num_classes in its arguments."
        raise CheckpointError(f"{what} gives another number of logits", got=count, expected=expected, do=do)
