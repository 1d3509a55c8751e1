"""Area of applicability: how unlike the training chips a chip is, seen by the classifier's own first layers.

The dissimilarity index of Meyer & Pebesma ("Predicting into unknown space? Estimating the area of applicability of
spatial prediction models", Methods in Ecology and Evolution 12, 2021) is the distance to the nearest training sample
in standardised predictor space, over the mean distance between training samples. Its threshold is the largest value
that training samples themselves reach, outliers left out, if those of their own spatial fold do not count.

The predictors here are mean and standard deviation over a chip of every channel of the U-Net's encoder, all levels.
The head's last layer would not do, because the classifier has learned to ignore what makes a place unusual. Unlike
the paper's, predictors are not weighted by importance: a network gives none.
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
"""Principal axes that are kept; of what lies off them only the length is."""
FOLDS = 10
"""Spatial folds of the threshold: whole places, never parts of one."""
MIN_SPREAD = 1e-6
"""Relative standard deviation below which a feature counts as constant."""


class ApplicabilitySummary(Settings):
    """The card's entry on applicability; the tensors lie in a file beside the card."""

    chips: int
    """Training chips that were used."""
    mean_distance: float
    """Between two training chips, in standardised features."""
    threshold: float
    """Dissimilarity index up to which a chip counts as known (Meyer & Pebesma 2021); maps are divided by it."""


class FeatureStatistics:
    """Records mean and standard deviation of a classifier's feature channels while it runs.

    Only calls within ``with statistics:`` are recorded; `pop` gives those of the last of them. Hooks stay in the
    classifier for good. `names` of layers are as for `spacex.models.features.feature_modules`.
    """

    def __init__(self, classifier: nn.Module, names: Sequence[str] | None = None) -> None:
        self._recorded: list[Tensor] = []
        self._active = False
        for module in feature_modules(classifier, names):
            module.register_forward_hook(self._record)

    def __enter__(self) -> FeatureStatistics:
        self._recorded, self._active = [], True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False

    def pop(self) -> Tensor:
        """(n, channels * 2) float32, on the network's device."""
        recorded, self._recorded = self._recorded, []
        return torch.cat(recorded, dim=1)

    def _record(self, module: nn.Module, inputs: object, out: Tensor) -> None:
        if not self._active:
            return
        with torch.no_grad():
            values = out.float()
            mean = values.mean((2, 3), keepdim=True)
            # by hand: torch.var_mean takes four times as long on channels-last tensors
            spread = (values - mean).square_().mean((2, 3)).sqrt()
        self._recorded += [mean.flatten(1), spread]


@dataclass(frozen=True)
class Applicability:
    """The training chips in the classifier's feature space, and the distance from them that is too far."""

    centre: Tensor
    """(features,) float32: mean over the training chips."""
    spread: Tensor
    """(features,) float32: standard deviation, positive."""
    axes: Tensor
    """(axes, features) float32, orthonormal: principal axes of the standardised features."""
    points: Tensor
    """(chips, axes + 1) float16: the training chips' coordinates along the axes, and their distance off them."""
    mean_distance: Tensor
    """() float32: mean distance between two training chips."""
    threshold: Tensor
    """() float32: dissimilarity index up to which a chip is like the training chips."""

    def dissimilarity(self, statistics: Tensor) -> Tensor:
        """How unlike the training chips some chips are, from their `FeatureStatistics` (n, features) float32.

        Returns:
            (n,) float32: dissimilarity index over its threshold; above 1 outside the area of applicability.
        """
        points = _project(statistics.float(), self.centre, self.spread, self.axes)
        return _distances(points, self.points.float()).amin(dim=1) / (self.mean_distance * self.threshold)

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
    def from_tensors(cls, tensors: dict[str, Tensor], features: int) -> Applicability:
        """Check and take what :meth:`tensors` gave, for a classifier of as many `features` (`count_features`).

        Raises:
            CheckpointError: if they do not fit together, or the classifier.
        """
        if set(tensors) != set(cls.__dataclass_fields__):
            raise CheckpointError("the applicability file is damaged", got=sorted(tensors))
        axes, chips = len(tensors["axes"]), len(tensors["points"])
        expected = {
            "centre": (features,), "spread": (features,), "axes": (axes, features), "points": (chips, axes + 1),
            "mean_distance": (), "threshold": (),
        }  # fmt: skip
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != expected or not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            what = "the applicability file does not fit the classifier"
            raise CheckpointError(what, got=shapes, expected=expected, do="Train the classifier again.")
        return cls(**tensors)


def learn_applicability(statistics: Tensor, folds: Tensor) -> Applicability:
    """Fit the feature space and the threshold to training chips: statistics (chips, features) and folds (chips,).

    Raises:
        CheckpointError: with fewer than two chips, or two folds: nothing can be said then.
    """
    if len(statistics) < 2 or len(set(folds.tolist())) < 2:
        raise CheckpointError("applicability needs training chips of two places", got=f"{len(statistics)} chips")
    s = statistics.double()
    centre, spread = s.mean(dim=0), s.std(dim=0, correction=0)
    # constant features are left unscaled rather than blown up
    spread = torch.where(spread > MIN_SPREAD * (1 + centre.abs()), spread, torch.ones_like(spread))
    # principal axes: the features are strongly correlated, and hundreds of them would drown the distance in noise
    _, _, axes = torch.linalg.svd((s - centre) / spread, full_matrices=False)
    centre, spread, axes = centre.float(), spread.float(), axes[:AXES].float().contiguous()
    points = _project(statistics.float(), centre, spread, axes).half()
    distances = _distances(points.float(), points.float())
    mean = distances.sum() / (len(points) * (len(points) - 1))
    # each chip's nearest of another fold: neighbours of the same place would make the threshold too small
    nearest = distances.masked_fill(folds[:, None] == folds[None, :], torch.inf).amin(dim=1) / mean
    # the upper whisker of a box plot: the largest value within 1.5 interquartile ranges of the upper quartile
    low, high = torch.quantile(nearest, torch.tensor([0.25, 0.75]))
    threshold = nearest[nearest <= high + 1.5 * (high - low)].amax()
    return Applicability(centre, spread, axes, points, mean, threshold)


def feature_extractor(classifier: nn.Module, names: Sequence[str] | None = None) -> Callable[[Tensor], Tensor]:
    """A function from standardised chips (n, bands, h, w) to their `FeatureStatistics` (n, features).

    It uses a copy of the classifier, which must be in eval mode.
    """
    network = copy.deepcopy(classifier)
    statistics = FeatureStatistics(network, names)

    def extract(u: Tensor) -> Tensor:
        with torch.no_grad(), statistics:
            network(u)
        return statistics.pop()

    return extract


def count_features(classifier: nn.Module, bands: int, side: int) -> int:
    """How many numbers `FeatureStatistics` gives for a chip (bands, side, side)."""
    if (native := native_network(classifier)) is not None:
        layers = native.unet.encoders.modules()
        return 2 * sum(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))
    # on a blank chip: not every third-party network runs on the meta device
    device = next(classifier.parameters()).device
    return feature_extractor(classifier)(torch.zeros(1, bands, side, side, device=device)).shape[1]


def spatial_folds(places: Sequence[object], folds: int = FOLDS) -> Tensor:
    """(n,) fold of each chip; chips of one place share theirs, places take turns in the order they first appear."""
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    return torch.tensor([order[place] % folds for place in places])


def _project(statistics: Tensor, centre: Tensor, spread: Tensor, axes: Tensor) -> Tensor:
    """(n, axes + 1): coordinates along the axes, and the length of what lies off them."""
    z = (statistics - centre) / spread
    along = z @ axes.T
    off = (z - along @ axes).norm(dim=1, keepdim=True)
    return torch.cat([along, off], dim=1)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # without matrix multiplication, which cancels digits and differs between batch sizes
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
