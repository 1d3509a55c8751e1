"""The settings of a labelled data set: `spacex.make_dataset` and `spacex make-dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from spacex.api.declaration import FIRST, HOW, MANY, REQUIRED, RUNS, WHAT, WHERE, Setting
from spacex.api.scene_settings import Box, ReadSettings, SceneSettings, is_demo
from spacex.api.training_settings import LARGEST_SEED
from spacex.api.validation import check_dataset_folder, check_local_files, check_shared_file, parse_bands, split_names
from spacex.errors import RequestError


class MakeDatasetSettings(SceneSettings, ReadSettings, total=False):
    """Which land states which class, and how chips are drawn from it."""

    output: Annotated[str, Setting(FIRST, REQUIRED, check=check_dataset_folder)]
    """Folder of the set, on a disk that every worker sees. A report and contact sheets go to OUTPUT.run beside it."""
    natural: Annotated[
        str | Sequence[str], Setting(FIRST, (), typed=list[str], metavar="FILE", check=check_local_files)
    ]
    """Polygons of natural land: GeoPackage, Shapefile, GeoJSON or GeoParquet. Repeat it (in Python: give a list) for
    land in several files, as the WDPA ships. The demo catalogue has a default."""
    natural_where: Annotated[str | None, Setting(FIRST, unset="all", metavar="EXPR")]
    """Which of its features: SQL over its attributes, e.g. "IUCN_CAT in ('Ia','Ib','II')"."""
    anthropogenic: Annotated[
        str | Sequence[str], Setting(FIRST, (), typed=list[str], metavar="FILE", check=check_local_files)
    ]
    """Polygons of anthropogenic land, likewise."""
    anthropogenic_where: Annotated[str | None, Setting(FIRST, unset="all", metavar="EXPR")]
    """Which of its features: SQL over its attributes, e.g. "IUCN_CAT in ('Ia','Ib','II')"."""
    land_cover: Annotated[str | None, Setting(FIRST, metavar="FILE.tif", check=check_shared_file)]
    """CORINE raster, level-3 codes or the EEA's grid codes. It goes with the chips; without --anthropogenic, it also
    states the anthropogenic class."""
    datetime: Annotated[str | None, Setting(FIRST, metavar="FIRST/LAST")]
    """Days of the composite, e.g. 2020-07-01/2020-08-30, or a month (2020-07) or a year (2020). The demo catalogue has
    a default."""
    count: Annotated[int, Setting(FIRST, 24000, least=2, most=MANY, metavar="N")]
    """Chips at most, half of each class; AnthroProtect has 23,919."""
    bbox: Annotated[
        Sequence[float] | None, Setting(WHERE, unset="wherever the files reach", typed=Box, metavar="W S E N")
    ]
    """Only chips within this box of degrees; commas between the numbers are fine."""
    bands: Annotated[Sequence[str] | None, Setting(WHAT, unset="all", typed=str, parse=parse_bands)]
    """Bands to read, comma separated, or 'all'; the others of a chip's ten are no data."""
    share: Annotated[float, Setting(HOW, 0.9, least=0.01, most=1, metavar="P")]
    """Share of a chip that must lie in its class."""
    distance: Annotated[
        float | None, Setting(HOW, unset="a chip's side, 2560 at 10 m", least=0, most=1000000.0, metavar="M")
    ]
    """Metres between the middles of two chips at least; they never overlap."""
    limit_per_polygon: Annotated[int, Setting(HOW, 100, least=1, most=MANY, metavar="N")]
    """Chips of one polygon at most; where land cover states the class, of a square of 20 km."""
    anthropogenic_classes: Annotated[
        Sequence[str] | None,
        Setting(HOW, unset="1,2 without --anthropogenic, else none", typed=str, parse=split_names, metavar="CODES"),
    ]
    """Classes of --land-cover that are anthropogenic, as beginnings of CORINE codes, comma separated."""
    min_valid: Annotated[float, Setting(HOW, 0.9, least=0.01, most=1, metavar="P")]
    """Share of a chip that must have data; others are left out."""
    threads: Annotated[int | None, Setting(RUNS, unset="2", least=1, most=1024, metavar="N")]
    """Tiles that each worker reads at the same time, with as many of its CPUs."""
    seed: Annotated[int, Setting(HOW, 0, least=0, most=LARGEST_SEED)]
    """Names every random draw."""


def check_natural(asked: MakeDatasetSettings) -> None:
    """Refuse a data set for which nothing states what is natural."""
    if not asked["natural"] and not is_demo(asked):
        raise RequestError("nothing states what is natural", do="Give --natural, a file of polygons.")
