"""Area of applicability: how unlike the training chips a chip is, seen by the classifier's own first layers.

The dissimilarity index of Meyer & Pebesma ("Predicting into unknown space? Estimating the area of applicability of
spatial prediction models", Methods in Ecology and Evolution 12, 2021) is the distance to the nearest training sample
in standardised predictor space, over the mean distance between training samples. Its threshold is the largest value
that training samples themselves reach, outliers left out, if those of their own spatial fold do not count.

The predictors here are mean and standard deviation over a chip of every channel of the U-Net's encoder, all levels.
The head's last layer would not do: what makes a place strange is just what it has learned to ignore. Predictors are
not weighted by their importance, as the paper's are: a network has none to give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spacex.errors import CheckpointError
from spacex.models.classes import native_network
from spacex.models.features import feature_modules
from spacex.settings import Settings

AXES = 32
"""Principal axes that are kept; what lies off them is kept as its length alone."""
FOLDS = 10
"""Spatial folds of the threshold: whole places, never parts of one."""
TINY = 1e-6


class ApplicabilitySummary(Settings):
    """What is known of where a classifier applies, in words; the numbers lie in a file beside the card."""

    chips: int
    """Training chips that were looked at."""
    mean_distance: float
    """Between two training chips, in standardised features."""
    threshold: float
    """Dissimilarity index up to which a chip counts as known (Meyer & Pebesma 2021); maps are divided by it."""


class FeatureStatistics:
    """Reads along while a classifier works: mean and standard deviation of its levels' channels.

    Only calls within ``with statistics:`` are read; `take` gives what the last of them showed.

    Args:
        classifier: the network that will be called; hooks are put into it for good.
        names: of the layers, as for `spacex.models.features.feature_modules`.
    """

    def __init__(self, classifier: nn.Module, names: Sequence[str] | None = None) -> None:
        self._found: list[Tensor] = []
        self._reading = False
        for module in feature_modules(classifier, names):
            module.register_forward_hook(self._look)

    def __enter__(self) -> FeatureStatistics:
        self._found, self._reading = [], True
        return self

    def __exit__(self, *_: object) -> None:
        self._reading = False

    def pop(self) -> Tensor:
        """(n, channels * 2) float32, on the network's device."""
        found, self._found = self._found, []
        return torch.cat(found, dim=1)

    def _look(self, module: nn.Module, given: object, out: Tensor) -> None:
        if not self._reading:
            return
        values = out.detach().float()
        mean = values.mean((2, 3), keepdim=True)
        # torch.var_mean takes four times as long channels last
        spread = (values - mean).square_().mean((2, 3)).sqrt()
        self._found += [mean.flatten(1), spread]


@dataclass(frozen=True)
class Applicability:
    """The training chips in the classifier's feature space, and how far from them is too far."""

    centre: Tensor
    """(features,) float32: mean over the training chips."""
    spread: Tensor
    """(features,) float32: standard deviation, positive."""
    axes: Tensor
    """(axes, features) float32, orthonormal: principal axes of the standardised features."""
    points: Tensor
    """(chips, axes + 1) float16: the training chips along them, and how far off them."""
    mean_distance: Tensor
    """() float32: mean distance between two training chips."""
    threshold: Tensor
    """() float32: dissimilarity index up to which a chip is like the training chips."""

    def dissimilarity(self, statistics: Tensor) -> Tensor:
        """How unlike the training chips some chips are.

        Args:
            statistics: (n, features) float32, of `FeatureStatistics`.

        Returns:
            (n,) float32: dissimilarity index over its threshold; above 1 outside the area of applicability.
        """
        place = _places(statistics.float(), self.centre, self.spread, self.axes)
        nearest = torch.cdist(place, self.points.float(), compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
        return nearest / (self.mean_distance * self.threshold)

    @property
    def summary(self) -> ApplicabilitySummary:
        """For the card."""
        return ApplicabilitySummary(
            chips=len(self.points),
            mean_distance=round(float(self.mean_distance), 4),
            threshold=round(float(self.threshold), 4),
        )

    def to(self, device: torch.device) -> Applicability:
        """The same on a device."""
        return Applicability(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, to be stored."""
        return dict(vars(self))

    @classmethod
    def of(cls, tensors: dict[str, Tensor], features: int) -> Applicability:
        """As stored.

        Args:
            tensors: of :meth:`tensors`.
            features: numbers that the classifier gives (`count_features`).

        Raises:
            CheckpointError: if they do not fit together, or the classifier.
        """
        if set(tensors) != set(cls.__dataclass_fields__):
            raise CheckpointError("what is known of applicability is damaged", got=sorted(tensors))
        axes, chips = len(tensors["axes"]), len(tensors["points"])
        told = {
            "centre": (features,), "spread": (features,), "axes": (axes, features), "points": (chips, axes + 1),
            "mean_distance": (), "threshold": (),
        }  # fmt: skip
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found != told or not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            what = "what is known of applicability does not fit the classifier"
            raise CheckpointError(what, got=found, expected=told, do="Train the classifier again.")
        return cls(**tensors)


def learn_applicability(statistics: Tensor, folds: Tensor) -> Applicability:
    """Work out the space of the training chips, and the threshold.

    Args:
        statistics: (chips, features) float32 of the training chips.
        folds: (chips,) number of each one's spatial fold.

    Raises:
        CheckpointError: with fewer than two chips, or two folds: nothing can be said then.
    """
    if len(statistics) < 2 or len(set(folds.tolist())) < 2:
        raise CheckpointError("applicability needs training chips of two places", got=f"{len(statistics)} chips")
    s = statistics.double()
    centre, spread = s.mean(dim=0), s.std(dim=0, correction=0)
    spread = torch.where(spread > TINY * (1 + centre.abs()), spread, torch.ones_like(spread))
    _, _, axes = torch.linalg.svd((s - centre) / spread, full_matrices=False)
    centre, spread, axes = centre.float(), spread.float(), axes[:AXES].float().contiguous()
    points = _places(statistics.float(), centre, spread, axes).half()
    apart = torch.cdist(points.float(), points.float(), compute_mode="donot_use_mm_for_euclid_dist")
    mean = apart.sum() / (len(points) * (len(points) - 1))
    others = apart.masked_fill(folds[:, None] == folds[None, :], torch.inf)
    return Applicability(centre, spread, axes, points, mean, _whisker(others.amin(dim=1) / mean))


def feature_extractor(classifier: nn.Module, names: Sequence[str] | None = None) -> Callable[[Tensor], Tensor]:
    """Gives what turns standardised chips (n, bands, h, w) into their statistics (n, features).

    Args:
        classifier: in eval mode; copied, not changed.
        names: as for `FeatureStatistics`.
    """
    network = copy.deepcopy(classifier)
    watch = FeatureStatistics(network, names)

    def read(u: Tensor) -> Tensor:
        with torch.no_grad(), watch:
            network(u)
        return watch.pop()

    return read


def count_features(classifier: nn.Module, bands: int, side: int) -> int:
    """How many numbers `FeatureStatistics` gives for a chip (bands, side, side)."""
    if (own := native_network(classifier)) is not None:
        levels = own.unet.encoders.modules()
        return 2 * sum(layer.out_channels for layer in levels if isinstance(layer, nn.Conv2d))
    # on a blank chip: not every network that is not ours knows the meta device
    device = next(classifier.parameters()).device
    return feature_extractor(classifier)(torch.zeros(1, bands, side, side, device=device)).shape[1]


def spatial_folds(places: Sequence[object], folds: int = FOLDS) -> Tensor:
    """(n,) fold of each chip; chips of one place share theirs, places take turns in the order they first appear."""
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    return torch.tensor([order[place] % folds for place in places])


def _places(statistics: Tensor, centre: Tensor, spread: Tensor, axes: Tensor) -> Tensor:
    """(n, axes + 1): along the axes, and the length of what lies off them."""
    z = (statistics - centre) / spread
    along = z @ axes.T
    off = (z - along @ axes).norm(dim=1, keepdim=True)
    return torch.cat([along, off], dim=1)


def _whisker(values: Tensor) -> Tensor:
    """The largest value that is no outlier: at most 1.5 interquartile ranges above the upper quartile."""
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75]))
    return values[values <= high + 1.5 * (high - low)].amax()
