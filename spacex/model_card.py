"""The card of a checkpoint: what its networks were made for, and the scaling from reflectance to their units."""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor

import spacex
from spacex.certificate import Certificate
from spacex.grid import CHIP
from spacex.models.applicability import ApplicabilitySummary
from spacex.models.classifier import ClassifierSettings
from spacex.models.generator import GeneratorSettings, per_band
from spacex.models.members import Members
from spacex.models.third_party import ThirdPartySettings
from spacex.settings import Settings, fingerprint

LEAST_CHIP, LARGEST_CHIP = 8, 4096
"""Sides of chips, in pixels."""
FORMAT_VERSION = 1
"""Raised when a card can no longer be read by older code."""


class Scaling(Settings):
    """Per-band standardisation u = (x - mean) / std, between reflectance and what networks see."""

    mean: tuple[float, ...]
    """Mean of each band, reflectance."""
    std: tuple[float, ...]
    """Standard deviation of each band, reflectance, positive."""

    @model_validator(mode="after")
    def _check(self) -> Scaling:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError("scaling needs one mean and one std per band")
        if not all(std > 0 for std in self.std):
            raise ValueError(f"every std must be positive, not {self.std}")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError("mean and std must be finite")
        return self

    @classmethod
    def identity(cls, bands: int) -> Scaling:
        """Reflectance as it is: for the paper's preset and for the authors' own weights."""
        return cls(mean=(0.0,) * bands, std=(1.0,) * bands)

    def standardise(self, x: Tensor) -> Tensor:
        """Reflectance (n, bands, h, w) to standardised units."""
        return (x - per_band(self.mean, x.dtype, x.device)) / per_band(self.std, x.dtype, x.device)

    def restore(self, u: Tensor) -> Tensor:
        """Standardised units (n, bands, h, w) to reflectance."""
        return self.restore_change(u) + per_band(self.mean, u.dtype, u.device)

    def restore_change(self, change: Tensor) -> Tensor:
        """A difference of images in standardised units (n, bands, h, w), to reflectance."""
        return change * per_band(self.std, change.dtype, change.device)


class LiftRecord(Settings):
    """How completely the map `lift` carries a classifier's change back to the pixels, tried on one chip."""

    miss: float = Field(ge=0)
    """Difference between the attribution's sum and the change of the logit, as a share of that change."""
    quadrature: tuple[str, ...] = ()
    """Operations of the network without a closed rule, carried by quadrature."""


def _kind(settings: Any) -> str:
    third_party = "network" in settings if isinstance(settings, dict) else isinstance(settings, ThirdPartySettings)
    return "third-party" if third_party else "native"


ClassifierShape = Annotated[
    Annotated[ClassifierSettings, Tag("native")] | Annotated[ThirdPartySettings, Tag("third-party")],
    Discriminator(_kind),
]
"""Of a classifier's network: the sizes of this package's, or the function that builds another one."""


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def default_frame(chip_size: int) -> int:
    """An eighth of a chip, as whole multiples of 4 pixels, which the generators' pooling needs: 32 of 256."""
    return chip_size // 32 * 4


def default_stride(chip_size: int, frame: int) -> int:
    """What two frames leave of a chip, as whole multiples of 4 pixels: 192 of 256 with a frame of 32."""
    return (chip_size - 2 * frame) // 4 * 4


class Card(Settings):
    """What a checkpoint says about itself; `card.json` is this model as JSON."""

    format_version: int = FORMAT_VERSION
    """Version of this layout."""
    kind: Literal["classifier", "patterns"]
    """Only a classifier, or a classifier with its maximiser and minimiser."""
    bands: tuple[str, ...]
    """Sentinel-2 band names in the order of the networks' channels."""
    chip_size: int = Field(CHIP, ge=LEAST_CHIP, le=LARGEST_CHIP)
    """Side of a chip in pixels (10 m each)."""
    scaling: Scaling
    """Reflectance to the networks' units."""
    classifier: ClassifierShape
    """Shape of the classifier, or which other network it is."""
    classes: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Names in the order of the logits (one logit for two classes is the target's); none for natural and not."""
    target: str = Field("", exclude_if=lambda name: not name)
    """The class whose score is mapped and explained: its logit against the log-sum-exp of the others'."""
    features: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Modules of a third-party network whose outputs' channel statistics tell chips apart."""
    generator: GeneratorSettings | None = None
    """Shape of maximiser and minimiser."""
    preset: str = ""
    """The training preset's name."""
    frame: int = Field(default_factory=lambda card: default_frame(card["chip_size"]), ge=0)
    """Pixels at a chip's edge that weigh nothing when chips are blended."""
    stride: int = Field(default_factory=lambda card: default_stride(card["chip_size"], card["frame"]), ge=1)
    """Pixels between neighbouring chips' corners when mapping."""
    applicability: ApplicabilitySummary | None = None
    """Where the classifier applies; None if that was not fitted."""
    lift: LiftRecord | None = Field(None, exclude_if=lambda record: record is None)
    """Of the classifier; None where `lift` cannot follow it, or that was not tried."""
    members: Members | None = Field(None, exclude_if=lambda members: members is None)
    """Of a checkpoint with several classifiers. All else in the card is of the first, whose maps are drawn."""
    hashes: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each weights file; filled in by :func:`save_checkpoint`."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Name of the training data and hash of its split."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """What was measured, by split."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training run."""
    code_version: str = Field(default_factory=lambda: spacex.__version__)
    """Version of this package that wrote the checkpoint."""
    hardware: str = Field(default_factory=_hardware)
    """Where it was trained."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When it was written, UTC, ISO 8601."""
    intended_use: str = ""
    """What the weights are for, in words."""
    limits: str = ""
    """What they are not for."""
    meaning: str = Field("", exclude_if=lambda text: not text)
    """What the labels that it learned from mean, in words; empty: what the data set's own documents say."""
    certificate: Certificate | None = Field(None, exclude_if=lambda one: one is None)
    """What was measured of the finished checkpoint; None if nothing was."""

    @property
    def parts(self) -> list[str]:
        """Names of the networks."""
        generators = ["maximiser", "minimiser"] if self.kind == "patterns" else []
        further = range(2, self.members.count + 1) if self.members else ()
        return ["classifier", *generators, *(f"member{number}" for number in further)]

    @property
    def digest(self) -> str:
        """Hash of what decides a map's values: weights, bands, scaling, shapes, frame and stride."""
        decisive = {"format_version", "bands", "chip_size", "scaling", "classifier", "generator", "classes", "target"}
        settings = self.model_dump(mode="json", include=decisive | {"frame", "stride"})
        if self.members is not None:
            settings["spread"] = self.members.spread.model_dump(mode="json")
        return fingerprint(settings, sorted(self.hashes.values()))

    @property
    def evened(self) -> bool:
        """Whether a file beside the card has the classifier's sensitivity by place, which maps are divided by."""
        return any(name.startswith("sensitivity-") for name in self.hashes)

    @model_validator(mode="after")
    def _check(self) -> Card:
        counts = {"bands": len(self.bands), "scaling": len(self.scaling.mean)}
        if isinstance(self.classifier, ClassifierSettings):
            counts["classifier"] = self.classifier.bands
            if self.classifier.chip_size != self.chip_size:
                raise ValueError(f"the classifier is built for chips of {self.classifier.chip_size} pixels")
        if self.generator is not None:
            counts["generator"] = self.generator.bands
        if len(set(counts.values())) != 1:
            raise ValueError(f"the numbers of bands differ: {counts}")
        if self.classes and (len(set(self.classes)) != len(self.classes) or len(self.classes) < 2):
            raise ValueError(f"two or more different classes are needed, not {self.classes}")
        if self.target not in (self.classes or ("",)):
            raise ValueError(f"the target {self.target!r} is none of the classes {self.classes}")
        if (self.kind == "patterns") != (self.generator is not None):
            raise ValueError("a card of kind 'patterns', and only it, describes a generator")
        if self.stride > self.chip_size - 2 * self.frame:
            raise ValueError(f"stride {self.stride} and frame {self.frame} leave gaps between chips")
        return self
