"""Area of applicability: how unlike the training chips a chip is, seen by the classifier's own first layers.

The dissimilarity index of Meyer & Pebesma ("Predicting into unknown space? Estimating the area of applicability of
spatial prediction models", Methods in Ecology and Evolution 12, 2021) is the distance to the nearest training sample
in standardised predictor space, over the mean distance between training samples. Its threshold is the largest value
that training samples themselves reach, outliers left out, if those of their own spatial fold do not count.

The predictors here are mean and standard deviation over a chip, in two spaces. One is every channel of the U-Net's
encoder, all levels: the head's last layer would not do, because the classifier has learned to ignore what makes a place
unusual. A classifier trained with random gains and offsets ignores haze in all of its layers, so the other space is the
chip's bands themselves, whitened: bands rise and fall together, and what breaks that is strange. The logarithms of
their standard deviations count too: another gain is the same step for every chip there. A chip is as strange as the
space says in which it is stranger. Unlike the paper's, predictors are not weighted by importance: a network gives none.

How neighbouring pixels differ would tell what is spoiled apart even better, but also the JPEGs of a data set from the
reflectance of a map.
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
BANDS = "log_bands."
"""Before the names of the tensors of the bands' space."""
FLAT = 1e-3
"""Standard deviation of a band up to which a chip counts as blank, in the units of the classifier's input."""
FOLDS = 10
"""Spatial folds of the threshold: whole places, never parts of one."""
WHITENING = 0.1
"""Added to the variance of the bands' principal axes, 1 on average, before they are brought to the same length."""
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
    """Records mean and standard deviation of a classifier's input bands and feature channels while it runs.

    Only calls within ``with statistics:`` are recorded; `pop` gives those of the last of them. Hooks stay in the
    classifier for good. `names` of layers are as for `spacex.models.features.feature_modules`.
    """

    def __init__(self, classifier: nn.Module, names: Sequence[str] | None = None) -> None:
        self._recorded: list[Tensor] = []
        self._active = False
        classifier.register_forward_pre_hook(lambda module, inputs: self._record(module, inputs, inputs[0]))
        for module in feature_modules(classifier, names):
            module.register_forward_hook(self._record)

    def __enter__(self) -> FeatureStatistics:
        self._recorded, self._active = [], True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False

    def pop(self) -> Tensor:
        """(n, (bands + channels) * 2) float32, on the network's device; the bands come first."""
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
class FeatureSpace:
    """The training chips in a space of features, and the distance from them that is too far."""

    centre: Tensor
    """(features,) float32: mean over the training chips."""
    spread: Tensor
    """(features,) float32: standard deviation, positive."""
    axes: Tensor
    """(axes, features) float32: principal axes of the standardised features, of unit length unless whitened."""
    points: Tensor
    """(chips, axes + 1) float16: the training chips' coordinates along the axes, and their distance off them."""
    mean_distance: Tensor
    """() float32: mean distance between two training chips."""
    threshold: Tensor
    """() float32: dissimilarity index up to which a chip is like the training chips."""

    def dissimilarity(self, statistics: Tensor) -> Tensor:
        """How unlike the training chips some chips are, from their features (n, features) float32.

        Returns:
            (n,) float32: dissimilarity index over its threshold; above 1 outside the area of applicability.
        """
        points = _project(statistics.float(), self.centre, self.spread, self.axes)
        return _distances(points, self.points.float()).amin(dim=1) / (self.mean_distance * self.threshold)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], features: int) -> FeatureSpace:
        """Check and take a space of as many `features`.

        Raises:
            CheckpointError: if the tensors do not fit together, or the features.
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


@dataclass(frozen=True)
class Applicability:
    """What a classifier knows: its training chips in the space of its layers, and in that of their bands."""

    layers: FeatureSpace
    """Of the encoder's channels."""
    bands: FeatureSpace | None = None
    """Of the chips' own bands; None in checkpoints from before there was one."""

    def dissimilarity(self, statistics: Tensor) -> Tensor:
        """How unlike the training chips some chips are, from their `FeatureStatistics` (n, features) float32.

        Returns:
            (n,) float32: dissimilarity index over its threshold; above 1 outside the area of applicability.
        """
        index = self.layers.dissimilarity(statistics[:, -len(self.layers.centre) :])
        if self.bands is None:
            return index
        return torch.maximum(index, self.bands.dissimilarity(_band_features(statistics, len(self.bands.centre) // 3)))

    @property
    def summary(self) -> ApplicabilitySummary:
        """For the card; distances are those between the layers."""
        return ApplicabilitySummary(
            chips=len(self.layers.points),
            mean_distance=round(float(self.layers.mean_distance), 4),
            threshold=round(float(self.layers.threshold), 4),
        )

    def to(self, device: torch.device) -> Applicability:
        """The same on a device."""
        spaces = (space and FeatureSpace(**{name: tensor.to(device) for name, tensor in vars(space).items()})
                  for space in (self.layers, self.bands))  # fmt: skip
        return Applicability(*spaces)  # type: ignore[arg-type]

    def tensors(self) -> dict[str, Tensor]:
        """By name, to be stored."""
        bands = {} if self.bands is None else {f"{BANDS}{name}": tensor for name, tensor in vars(self.bands).items()}
        return {**vars(self.layers), **bands}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], features: int, bands: int) -> Applicability:
        """Check and take what :meth:`tensors` gave, for a classifier of as many `features` and `bands`.

        `features` are those of its layers (`count_features`). Spaces of another name are left out.

        Raises:
            CheckpointError: if they do not fit together, or the classifier.
        """
        own = {name.removeprefix(BANDS): tensor for name, tensor in tensors.items() if name.startswith(BANDS)}
        layers = {name: tensor for name, tensor in tensors.items() if "." not in name}
        space = FeatureSpace.from_tensors(own, 3 * bands) if own else None
        return cls(FeatureSpace.from_tensors(layers, features), space)


def learn_applicability(statistics: Tensor, folds: Tensor, bands: int) -> Applicability:
    """Fit both spaces to training chips: `FeatureStatistics` (chips, features) of chips of some bands, folds (chips,).

    Raises:
        CheckpointError: with fewer than two chips, or two folds: nothing can be said then.
    """
    own, layers = _band_features(statistics, bands), statistics[:, 2 * bands :]
    return Applicability(fit_space(layers, folds), fit_space(own, folds, whiten=True))


def fit_space(statistics: Tensor, folds: Tensor, *, whiten: bool = False) -> FeatureSpace:
    """Fit a space of features and its threshold to training chips: statistics (chips, features) and folds (chips,).

    Raises:
        CheckpointError: with fewer than two chips, or two folds: nothing can be said then.
    """
    if len(statistics) < 2 or len(set(folds.tolist())) < 2:
        raise CheckpointError("applicability needs training chips of two places", got=f"{len(statistics)} chips")
    s = statistics.double()
    centre, spread = s.mean(dim=0), s.std(dim=0, correction=0)
    # constant features are left unscaled rather than blown up
    spread = torch.where(spread > MIN_SPREAD * (1 + centre.abs()), spread, torch.ones_like(spread))
    z = (s - centre) / spread
    if whiten:
        variance, columns = torch.linalg.eigh(z.T @ z / len(z))
        axes = (columns / (variance + WHITENING).sqrt()).T
    else:
        # principal axes: the features are strongly correlated, and hundreds of them would drown the distance in noise
        axes = torch.linalg.svd(z, full_matrices=False)[2][:AXES]
    centre, spread, axes = centre.float(), spread.float(), axes.float().contiguous()
    points = _project(statistics.float(), centre, spread, axes).half()
    distances = _distances(points.float(), points.float())
    mean = distances.sum() / (len(points) * (len(points) - 1))
    # each chip's nearest of another fold: neighbours of the same place would make the threshold too small
    nearest = distances.masked_fill(folds[:, None] == folds[None, :], torch.inf).amin(dim=1) / mean
    # the upper whisker of a box plot: the largest value within 1.5 interquartile ranges of the upper quartile
    low, high = torch.quantile(nearest, torch.tensor([0.25, 0.75]))
    threshold = nearest[nearest <= high + 1.5 * (high - low)].amax()
    return FeatureSpace(centre, spread, axes, points, mean, threshold)


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
    """How many numbers `FeatureStatistics` gives for the layers on a chip (bands, side, side)."""
    if (native := native_network(classifier)) is not None:
        layers = native.unet.encoders.modules()
        return 2 * sum(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))
    # on a blank chip: not every third-party network runs on the meta device
    device = next(classifier.parameters()).device
    return feature_extractor(classifier)(torch.zeros(1, bands, side, side, device=device)).shape[1] - 2 * bands


def spatial_folds(places: Sequence[object], folds: int = FOLDS) -> Tensor:
    """(n,) fold of each chip; chips of one place share theirs, places take turns in the order they first appear."""
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    return torch.tensor([order[place] % folds for place in places])


def _band_features(statistics: Tensor, bands: int) -> Tensor:
    """(n, 3 * bands): mean, standard deviation and its logarithm, of chips' `FeatureStatistics`."""
    own = statistics[:, : 2 * bands].float()
    return torch.cat([own, own[:, bands:].clamp_min(FLAT).log()], dim=1)


def _project(statistics: Tensor, centre: Tensor, spread: Tensor, axes: Tensor) -> Tensor:
    """(n, axes + 1): coordinates along the axes, and the length of what lies off them."""
    z = (statistics - centre) / spread
    along = z @ axes.T
    # as many axes as features leave nothing
    off = (z - along @ axes).norm(dim=1, keepdim=True) if len(axes) < z.shape[1] else torch.zeros_like(z[:, :1])
    return torch.cat([along, off], dim=1)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # without matrix multiplication, which cancels digits and differs between batch sizes
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
