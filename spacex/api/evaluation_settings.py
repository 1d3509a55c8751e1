"""The settings of an evaluation: `spacex.evaluate` and `spacex evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, MANY, REQUIRED, RUNS, WHAT, Setting
from spacex.api.training_settings import LARGEST_SEED
from spacex.api.validation import check_checkpoints, check_data, check_folder, names_of, split_names
from spacex.attribution.names import PATH_STEPS
from spacex.errors import RequestError

if TYPE_CHECKING:
    from spacex.evaluation.methods.captum import Effort
else:
    Effort = object  # of Python alone

FILLS = ("blur", "mean", "other")


def parse_controls(name: str, texts: Sequence[str]) -> dict[str, str]:
    """Checkpoints by name, from ``NAME=CHECKPOINT`` each.

    Raises:
        RequestError: if a text is none of that, a name stands twice, or there is no such checkpoint.
    """
    controls: dict[str, str] = {}
    for text in texts:
        control, _, uri = text.partition("=")
        if not (control.strip() and uri.strip()):
            raise RequestError("a control needs a name", got=text, expected="NAME=CHECKPOINT")
        if control in controls:
            raise RequestError(f"{name} names one twice", got=", ".join(texts))
        check_checkpoints(name, uri)
        controls[control] = uri
    return controls


class EvaluateSettings(TypedDict, total=False):
    """What is evaluated, and how much work it may be."""

    data: Annotated[str | None, Setting(FIRST, check=check_data)]
    """Data set as for training: AnthroProtect's folder as published, 'demo', or any other. Where land cover is missing
    nothing says where maps should point, and what needs none is measured."""
    checkpoint: Annotated[str | None, Setting(WHAT, unset="europe, or demo", check=check_checkpoints)]
    """Folder or URI of a trained checkpoint, or one that ships: europe (land cover of 34 countries), or demo for the
    data set demo."""
    mosaic: Annotated[int, Setting(WHAT, 1, least=1, most=16)]
    """Chips are mosaics of N x N smaller ones, and maps should point at the natural ones; EuroSAT's, for example."""
    output: Annotated[str, Setting(FIRST, "report", check=check_folder)]
    """Folder of the report."""
    split: Annotated[Literal["train", "val", "test"], Setting(WHAT, "test")]
    """Split to evaluate; select on val, report on test."""
    limit: Annotated[int | None, Setting(WHAT, unset="all", least=1, most=MANY)]
    """Natural chips to draw."""
    methods: Annotated[
        Sequence[str] | None,
        Setting(WHAT, unset="all", typed=str, parse=lambda name, text: tuple(filter(None, split_names(name, text)))),
    ]
    """Names of methods, comma separated, e.g. path,brightness."""
    second: Annotated[str | None, Setting(WHAT, check=check_checkpoints)]
    """Second classifier's checkpoint: does the change transfer to it?"""
    twin: Annotated[str | None, Setting(WHAT, check=check_checkpoints)]
    """Generators of another seed for the same classifier: do maps agree?"""
    controls: Annotated[
        Mapping[str, str] | None, Setting(WHAT, option="--control", typed=list[str], parse=parse_controls)
    ]
    """NAME=CHECKPOINT whose maps should be empty, e.g. λ_AM = 0; may be repeated. In Python checkpoints by name."""
    perturbed: Annotated[int, Setting(HOW, 4, least=0, most=MANY)]
    """Chips for insertion and deletion."""
    fills: Annotated[Sequence[Any], Setting(HOW, ("blur",), typed=str, parse=names_of(*FILLS))]
    """What replaces pixels there, comma separated: blur, mean, other."""
    asos_chips: Annotated[int, Setting(HOW, 24, least=0, most=MANY)]
    """Training chips on which ASOS measures activation space; 0 leaves ASOS out."""
    sanity_chips: Annotated[int, Setting(HOW, 4, least=0, most=MANY)]
    """Chips whose maps are drawn again with random layers; 0 for none."""
    path_steps: Annotated[int, Setting(HOW, PATH_STEPS, least=1, most=1000)]
    """Points on the path of the path attribution."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Setting(HOW, "float32", metavar="NAME")]
    """Of the networks that draw our own maps, as for `map`; float32 so that tables do not depend on the machine."""
    quick: Annotated[bool, Setting(HOW, False)]
    """Coarser Occlusion, fewer RISE masks: a tenth of the time."""
    effort: Annotated[Effort | None, Setting(HOW, option="")]
    """How fine the other methods' windows and masks are, instead of `quick`."""
    seed: Annotated[int, Setting(HOW, 0, least=0, most=LARGEST_SEED)]
    """Names every random draw: chips, samples, random layers."""
    batch: Annotated[int, Setting(RUNS, 4, least=1, most=4096)]
    """Chips in memory at once."""
    trust: Annotated[Sequence[str], Setting(RUNS, (), typed=list[str], unset="none", metavar="MODULE")]
    """Installed module whose networks may be named; its code runs here and on the workers. May be repeated. The model
    builders of timm, torchvision and torchgeo need no trust."""


class CertifySettings(TypedDict, total=False):
    """Which checkpoint is measured, on which chips."""

    checkpoint: Annotated[str, Setting("", REQUIRED, argument=True, check=check_checkpoints)]
    """Folder or URI of a trained checkpoint; its card is written anew."""
    data: Annotated[str, Setting(FIRST, REQUIRED, check=check_data)]
    """The data set it was trained on, as for training: a folder, eurosat:FOLDER and its like, or demo."""
    mosaic: Annotated[int, Setting(WHAT, 1, least=1, most=16)]
    """Chips are mosaics of N x N smaller ones, as they were in training."""
    grouped: Annotated[bool, Setting(WHAT, False)]
    """Split by place, as it was in training."""
    planted: Annotated[bool, Setting(WHAT, False)]
    """Also train copies of the networks on for a few minutes with a planted shortcut: does the map show it?"""
    trust: Annotated[Sequence[str], Setting(RUNS, (), typed=list[str], unset="none", metavar="MODULE")]
    """Installed module whose networks the card may name; its code runs here. May be repeated."""
