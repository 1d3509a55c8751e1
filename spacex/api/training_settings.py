"""The settings of both trainings: `spacex.train_classifier`, `spacex.train_gan` and their commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, MANY, REQUIRED, RUNS, WHAT, Setting
from spacex.api.validation import (
    check_checkpoints,
    check_data,
    check_folder,
    check_gpu,
    check_overrides,
    check_shared_file,
    parse_bands,
    parse_json_object,
)

LARGEST_SEED = 2**32 - 1


class TrainingSettings(TypedDict, total=False):
    """What both trainings have in common."""

    data: Annotated[str, Setting(FIRST, REQUIRED, check=check_data)]
    """AnthroProtect or MapInWild folder as published, a folder of pictures by class (train/CLASS/*.png), 'demo', or
    eurosat:FOLDER, bigearthnet:FOLDER, tiles:FOLDER (GeoTIFFs by class, with a tiles.json)."""
    mosaic: Annotated[int, Setting(WHAT, 1, least=1, most=16)]
    """Chips are mosaics of N x N smaller ones of a neighbourhood, their label the natural share."""
    season: Annotated[
        Literal["autumn", "spring", "summer", "winter"] | None,
        Setting(WHAT, unset="of each site its authors' choice", metavar="NAME"),
    ]
    """Season of MapInWild's pictures: autumn, spring, summer or winter."""
    epochs: Annotated[int | None, Setting(FIRST, unset="the recipe's or preset's", least=1, most=MANY)]
    """Passes over the chips."""
    limit: Annotated[int | None, Setting(HOW, unset="all", least=2, most=MANY)]
    """Use only this many chips of each split."""
    seed: Annotated[int, Setting(HOW, 0, least=0, most=LARGEST_SEED)]
    """Names every random draw: weights, order, samples."""
    grouped: Annotated[bool, Setting(HOW, False)]
    """Split by place; the official split leaks."""
    strict: Annotated[bool, Setting(HOW, False)]
    """Refuse a data set with a bad file."""
    changes: Annotated[
        Sequence[str], Setting(HOW, (), option="--set", typed=list[str], metavar="NAME=VALUE", check=check_overrides)
    ]
    """Any setting, e.g. recipe.batch=16, network.occlusion=0 (classifier) or generator.base=16 (generators)."""
    workers: Annotated[int, Setting(RUNS, 0, least=0, most=100000)]
    """Ray workers, among which each batch is shared; 0 trains in this process without Ray."""
    gpu: Annotated[bool, Setting(RUNS, False, check=check_gpu)]
    """Networks run on GPUs, one per worker."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Setting(RUNS, "auto")]
    """Of the networks' bodies; auto: bfloat16 on a GPU only."""
    readers: Annotated[int | None, Setting(RUNS, unset="0, with a GPU 4", least=0, most=256)]
    """Processes per worker that read ahead; 0 reads between the steps."""
    trust: Annotated[Sequence[str], Setting(RUNS, (), typed=list[str], unset="none", metavar="MODULE")]
    """Installed module whose networks may be named; its code runs here and on the workers. May be repeated. The model
    builders of timm, torchvision and torchgeo need no trust."""


class ClassifierSettings(TrainingSettings, total=False):
    """How a classifier is trained."""

    output: Annotated[str, Setting(FIRST, "runs/classifier", check=check_folder)]
    """Folder or fsspec URI of the run and its checkpoint."""
    bands: Annotated[
        Sequence[str] | None,
        Setting(WHAT, unset="B02,B03,B04; of pictures red,green,blue", typed=str, parse=parse_bands),
    ]
    """Band names in order, comma separated, or 'all' (ten)."""
    target: Annotated[str | None, Setting(WHAT, unset="natural")]
    """Class to be scored and explained, of those that pictures' folders or a classes.csv name."""
    network: Annotated[str | None, Setting(WHAT, unset="our own", metavar="MODULE:CALLABLE")]
    """Another network than ours: a function or class of an installed package, e.g. timm:create_model."""
    arguments: Annotated[
        Mapping[str, Any] | None,
        Setting(WHAT, unset="none", option="--network-args", typed=str, parse=parse_json_object, metavar="JSON"),
    ]
    """Its keyword arguments, e.g. '{"model_name": "resnet18", "num_classes": 1}'."""
    weights: Annotated[str | None, Setting(WHAT, unset="drawn at random", check=check_shared_file, metavar="FILE")]
    """Pretrained weights of the network to start from, safetensors; its head is drawn anew where its shape differs."""
    freeze: Annotated[bool, Setting(HOW, False)]
    """Train only the head, on pretrained weights as they are."""
    units: Annotated[Literal["sigma", "reflectance"], Setting(WHAT, "sigma")]
    """Standardise bands (for delta), or plain reflectance (for paper, repository)."""
    members: Annotated[int, Setting(WHAT, 1, least=1, most=100, metavar="N")]
    """Classifiers in the checkpoint, trained one after the other with seeds of their own, for maps that say how far
    they differ (spacex map --uncertainty classifiers). Maps are drawn of the first."""
    base: Annotated[int | None, Setting(HOW, unset="32", least=1, most=512)]
    """Channels of our own network's first level."""


class GanSettings(TrainingSettings, total=False):
    """How the maximiser and the minimiser of a classifier are trained."""

    classifier: Annotated[str, Setting(FIRST, "runs/classifier", check=check_checkpoints)]
    """Checkpoint of the classifier to explain; its target class is what the two raise and lower."""
    output: Annotated[str, Setting(FIRST, "runs/gan", check=check_folder)]
    """Folder or fsspec URI of the run and its checkpoint."""
    preset: Annotated[Literal["delta", "paper", "repository", "class-difference"], Setting(FIRST, "delta")]
    """How to train."""
    further: Annotated[Sequence[str], Setting(WHAT, (), typed=list[str], check=check_checkpoints)]
    """Another classifier the change must move too; may be repeated."""
    start: Annotated[str | None, Setting(WHAT, check=check_checkpoints)]
    """Checkpoint whose maximiser and minimiser are trained on, instead of new ones."""
