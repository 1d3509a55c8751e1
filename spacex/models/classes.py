"""What every classifier looks like from outside: n logits for n chips, however many classes it tells apart.

Attribution, generators and maps ask one question of a classifier: how much speaks for natural, or in general for the
*target* class? Of more than two classes that is the target's logit against the log-sum-exp of the others', whose
sigmoid is the target's softmax probability. So a classifier of several classes is, seen through `BinaryView`, a
classifier of two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier


class TargetVsRest(nn.Module):
    """Logits (n, classes) to logits (n,): the target's minus the log-sum-exp of the others'.

    Args:
        target: which column is the target's.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (n,), in the precision of the input; sigmoid gives the target's softmax probability."""
        rest = torch.cat([logits[:, : self.target], logits[:, self.target + 1 :]], dim=1)
        against: Tensor = logits[:, self.target] - rest.logsumexp(dim=1)
        return against


class BinaryView(nn.Module):
    """A network seen as a classifier of two classes: chips (n, bands, h, w) to logits (n,).

    Args:
        network: gives (n,), (n, 1) or (n, classes).
        target: the target's column; None for a network of one logit.
        features: names of modules whose channel statistics serve to compare chips, and Grad-CAM.
    """

    def __init__(self, network: nn.Module, target: int | None = None, features: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network, self.features = network, features
        self.against = nn.Identity() if target is None else TargetVsRest(target)

    def forward(self, u: Tensor) -> Tensor:
        """Logits (n,) of standardised chips; sigmoid gives the score."""
        out: Tensor = self.network(u)
        logits: Tensor = self.against(out if out.ndim == 2 and out.shape[1] > 1 else out.reshape(len(u)))
        return logits


def unwrap(classifier: nn.Module) -> nn.Module:
    """The network itself, as it was trained and as its weights are stored."""
    return classifier.network if isinstance(classifier, BinaryView) else classifier


def native_network(classifier: nn.Module) -> Classifier | None:
    """The classifier as our own U-Net and head, if it is that."""
    network = unwrap(classifier)
    return network if isinstance(network, Classifier) else None


def native_head(classifier: nn.Module) -> nn.Module | None:
    """Of our own classifier, what turns activation maps (n, maps, h, w) into n logits."""
    own = native_network(classifier)
    if own is None or own is classifier:
        return own and own.head
    assert isinstance(classifier, BinaryView)
    return nn.Sequential(own.head, classifier.against)


def output_columns(network: nn.Module, bands: int, side: int) -> int:
    """How many logits a network gives per chip, found out on one.

    Args:
        network: in any mode; left as it was.
        bands: of a chip.
        side: of a chip, pixels.

    Raises:
        CheckpointError: if it cannot take such a chip, or gives anything but (n,), (n, 1) or (n, classes).
    """
    training = network.training
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            out = network.eval()(torch.zeros(1, bands, side, side, device=device))
    except Exception as error:  # whatever a foreign network raises
        what = f"the network cannot judge chips of {bands} bands and {side} x {side} pixels"
        raise CheckpointError(what, got=f"{type(error).__name__}: {error}") from error
    finally:
        network.train(training)
    if not isinstance(out, Tensor) or out.ndim > 2 or len(out) != 1:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise CheckpointError("the network gives no logits", got=got, expected="(n,), (n, 1) or (n, classes)")
    return int(out.numel())


def check_output_columns(count: int, classes: int, what: str = "the network") -> None:
    """Refuse a number of logits that does not fit the number of classes.

    Args:
        count: logits per chip.
        classes: how many classes the card names; 0 stands for natural and not.
        what: names the network in the message.

    Raises:
        CheckpointError: if two classes have neither one logit nor (if they are named) two, or more not one each.
    """
    allowed = {1} if not classes else {1, 2} if classes == 2 else {classes}
    if count not in allowed:
        expected = f"{' or '.join(map(str, sorted(allowed)))} for {classes or 'two unnamed'} classes"
        do = "Build it for so many, e.g. num_classes in its arguments."
        raise CheckpointError(f"{what} gives another number of logits", got=count, expected=expected, do=do)
