"""The settings of a map, and of a list of the scenes it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from spacex.api.declaration import FIRST, HOW, REQUIRED, RUNS, WHAT, WHEN, Setting
from spacex.api.scene_settings import Box, ReadSettings, SceneSettings
from spacex.api.validation import (
    check_checkpoints,
    check_dataset_folder,
    check_exists,
    check_file,
    check_folder,
    check_gpu,
    check_shared_input,
    names_of,
    parse_place,
)
from spacex.attribution.names import DEFAULT_MAPS, GENERATED, MAP_NAMES, PATH_STEPS, UNCERTAINTIES

if TYPE_CHECKING:
    from spacex.checkpoint import Checkpoint
else:
    Checkpoint = str  # on the command line a checkpoint is named by text

SCORE = "naturalness"
"""The classifier's score, which every cube holds."""


class AreaSettings(SceneSettings, total=False):
    """Which land and days are read, and for which networks."""

    bbox: Annotated[Sequence[float] | None, Setting(FIRST, typed=Box, metavar="W S E N")]
    """Bounding box in degrees; commas between the numbers are fine. The demo catalogue has a default."""
    datetime: Annotated[str | Sequence[str] | None, Setting(FIRST, typed=list[str], metavar="FIRST/LAST")]
    """Interval of days, e.g. 2020-07-01/2020-08-30, or a month (2020-07) or a year (2020). Repeat it (in Python: give a
    list) for further steps of the cube's time axis. The demo catalogue has a default."""
    checkpoint: Annotated[Checkpoint | str | None, Setting(WHAT, unset="europe, or demo", check=check_checkpoints)]
    """Folder or URI of a trained checkpoint, or one that ships: europe (land cover of 34 countries) or, for the demo
    catalogue, demo (the synthetic landscape: it says nothing about real land)."""
    stride: Annotated[
        int | None,
        Setting(HOW, unset="the checkpoint's: 3/4 of a chip, 1/2 with instance norm", least=4, most=512, metavar="N"),
    ]
    """Pixels between chips, a multiple of 4. Smaller is smoother and slower: the scores of a small region show squares
    of one stride."""
    tile_size: Annotated[int, Setting(HOW, 1024, least=512, most=8192, metavar="N")]
    """Pixels a side of the unit of work, a multiple of 512. Larger tiles read less twice and need more memory."""
    trust: Annotated[Sequence[str], Setting(RUNS, (), typed=list[str], unset="none", metavar="MODULE")]
    """Installed module whose networks a checkpoint may name; its code runs here and on the workers. May be repeated.
    The model builders of timm, torchvision and torchgeo need no trust."""


class PlanSettings(AreaSettings, total=False):
    """What decides the pixels of a map, and where it goes."""

    output: Annotated[str, Setting(FIRST, REQUIRED, ending=".zarr", check=check_folder)]
    """Where the cube goes: a path or any fsspec URI (s3://, gs://) ending in .zarr."""
    grow: Annotated[bool, Setting(FIRST, False)]
    """Let the cube that is there take the further days and land that are asked for; what it holds is kept."""
    maps: Annotated[
        Sequence[str], Setting(WHAT, DEFAULT_MAPS, typed=str, parse=names_of(*MAP_NAMES, *GENERATED, SCORE))
    ]
    """Maps, comma separated: attribution, lift, path_attribution; x_plus, x_minus, the generated pictures in all bands;
    raised, lowered, their scores. The score, naturalness, is in every cube; naturalness alone maps nothing else."""
    uncertainty: Annotated[
        Sequence[str], Setting(WHAT, (), typed=str, parse=names_of(*UNCERTAINTIES), unset="none", metavar="NAME")
    ]
    """How sure the score is: pixels also scores two halves of every pixel's observations and maps naturalness_noise,
    the standard error of naturalness that the scenes' noise leaves; pixels need two observations for it. classifiers
    maps naturalness_spread, the standard deviation of the scores of a checkpoint's classifiers (train-classifier
    --members). With both, comma separated, naturalness_low and naturalness_high are to hold nine tenths of other
    maps."""
    path_steps: Annotated[int, Setting(HOW, PATH_STEPS, least=1, most=1000, metavar="N")]
    """Points on the path of the path attribution."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Setting(HOW, "auto", metavar="NAME")]
    """Arithmetic of the networks' inner layers: auto, float32, bfloat16. auto is what a cube that is there was made
    with; for a new one bfloat16 where the workers' processors, or GPUs with --gpu, multiply it natively."""
    gpu: Annotated[bool, Setting(RUNS, False, check=check_gpu)]
    """Networks run on GPUs, one per worker."""


class MapSettings(PlanSettings, ReadSettings, total=False):
    """What changes no pixel besides: how the work is done, and what is written with the cube."""

    quicklook: Annotated[str | None, Setting(FIRST, ending=".png", check=check_file, metavar="FILE.png")]
    """PNG file in which the composite and all maps are drawn side by side: attribution, lift, naturalness,
    dissimilarity, and noise and spread with --uncertainty."""
    license: Annotated[str, Setting(WHAT, "CC-BY-4.0", metavar="SPDX")]
    """Of the maps, written into a new cube: an SPDX identifier."""
    threads: Annotated[int | None, Setting(RUNS, unset="all with --local, else 1", least=1, most=1024, metavar="N")]
    """CPU threads of each worker's networks."""
    verify: Annotated[bool, Setting(RUNS, False)]
    """Read a cube that is there from end to end first; what is damaged is mapped again."""


class ListSettings(AreaSettings, total=False):
    """Where a list of scenes goes."""

    output: Annotated[str | None, Setting(FIRST, unset="none", check=check_file, metavar="FILE")]
    """File for the list, which --items takes: STAC items as GeoParquet if it ends in .parquet, else JSON."""
    cutout: Annotated[str | None, Setting(FIRST, unset="none", check=check_dataset_folder, metavar="FOLDER")]
    """Folder that gets, for work without a network, the part of each scene that a map of this area reads, and their
    list, items.json. The same command goes on where it stopped."""


class ReproduceSettings(TypedDict, total=False):
    """Which tile of which cube is computed anew, and from what."""

    cube: Annotated[str, Setting("", REQUIRED, argument=True, ending=".zarr", check=check_exists)]
    """The cube: a path or any fsspec URI."""
    at: Annotated[Sequence[float] | None, Setting(FIRST, typed=str, parse=parse_place, metavar="LON,LAT")]
    """A place in degrees; its tile is computed anew."""
    tile: Annotated[str | None, Setting(FIRST, metavar="NAME")]
    """Instead of --at: the name of the tile, e.g. t0-n494-e478, as provenance and reports have it."""
    datetime: Annotated[str | None, Setting(FIRST, unset="the cube's first", metavar="FIRST")]
    """First day of the time step, with --at."""
    items: Annotated[str | None, Setting(WHEN, unset="the cube's own", metavar="FILE", check=check_shared_input)]
    """A list of scenes to take instead of the catalogue, or the list, that the cube was made from."""
    checkpoint: Annotated[Checkpoint | str | None, Setting(WHAT, unset="as for the map", check=check_checkpoints)]
    """The checkpoint that the cube was made with."""
    trust: Annotated[Sequence[str], Setting(RUNS, (), typed=list[str], unset="none", metavar="MODULE")]
    """Installed module whose networks a checkpoint may name; its code runs here."""
