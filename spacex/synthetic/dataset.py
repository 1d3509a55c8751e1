"""A training set of the embedded landscape in AnthroProtect's exact layout, with the truth beside it.

::

    infos.csv           file,lon,lat,category,label,dataset
    classes.csv         file,class: natural, anthropogenic, or forest (no mire or fell, nothing anthropogenic)
    tiles/s2/*.tif      10 bands, uint16, reflectance * 10000, 0 = no data
    tiles/lcs/*.tif     4 bands, uint16: CORINE (3-digit codes, 100 m cells), MODIS, CGLS, GlobCover
    tiles/s2_scl/*.tif  scene classification, uint8
    truth/*.tif         uint8: 1 mire or bare fell, 2 planted distractor, 0 neither; exact at 10 m
    truth/chips.csv     where each chip lies and what sky it was seen through (see ChipRecord)

Chips come from locations, squares of 6 x 6 chips, at most one per 40 km of land; a location belongs to one split.
The embedded archive's surroundings are left out, so that the weights that ship are shown on a region they have not
been trained on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from spacex.errors import RequestError
from spacex.grid import Grid
from spacex.synthetic.cache import Map, cached_folder, code_digest, process_map
from spacex.synthetic.chip import FOLDERS, INNER, ChipRecord, chip_ground, write_chip
from spacex.synthetic.landscape import Ground, Landscape, pixel_centres
from spacex.synthetic.locations import Candidate, Kind, Location, draw_locations, lon_lat, survey
from spacex.synthetic.noise import key_of
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.sensor import MARGIN
from spacex.synthetic.spectra import ANTHROPOGENIC

Planting = Literal["random", "label", "label-85"]
SIZES: dict[str, dict[str, int]] = {
    "default": {"train": 1200, "val": 240, "test": 240},
    "tiny": {"train": 24, "val": 12, "test": 12},
}
"""Chips per split of the cached sets."""
_MAX_PER_LOCATION = 5  # chips of one kind


class _Stratum(NamedTuple):
    """Chips that have a quota of their own."""

    kind: Kind
    distractors: bool
    """With planted distractors."""


class _Task(NamedTuple):
    split: str
    stratum: _Stratum
    record: ChipRecord


def demo_dataset(size: str = "default") -> Path:
    """The cached data set of a size of `SIZES`; "default" is built in a minute or two, "tiny" in a few seconds."""
    if size not in SIZES:
        raise RequestError("unknown size of the demo data set", got=size, expected=list(SIZES))
    return cached_folder(f"dataset-{size}-{code_digest('dataset')}", partial(build_dataset, chips=SIZES[size]))


def build_dataset(
    folder: str | Path,
    chips: Mapping[str, int] | None = None,
    seed: int = DEMO_SEED,
    planted: Planting | None = None,
    workers: int = 2,
) -> Path:
    """Build a data set; the same arguments give the same files whatever the number of workers.

    Half of the chips of a split are natural (label 1: 3 to 60 % mire or bare fell, nothing anthropogenic); the
    others (label 0) carry neither mire nor fell: three in four show fields, villages or roads, one in four
    only forest, lakes and clear-cuts.

    Args:
        folder: created if need be.
        chips: number of chips per split.
        seed: of the landscape and of every choice; another seed is another country.
        planted: plant reddish distractors on 4 to 12 % of some chips: in half of both classes ("random"), in exactly
            the label-1 chips ("label"), or agreeing with the label in 85 % of chips.
        workers: processes to paint with; 0 paints in this one.

    Raises:
        RequestError: if the country has not enough locations for so many chips.
    """
    root = Path(folder)
    chips = dict(chips or SIZES["default"])
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    locations = draw_locations(seed, chips)
    rows: list[dict[str, object]] = []
    with process_map(workers, chunk=4) as parallel:
        for split, number in chips.items():
            rows += _build_split(root, split, _quotas(number, planted), locations[split], seed, parallel)
    table = pd.DataFrame(rows).sort_values("file")
    table[["file", "lon", "lat", "category", "label", "dataset"]].to_csv(root / "infos.csv", index=False)
    table[["file", "class"]].to_csv(root / "classes.csv", index=False)
    table[list(ChipRecord.__dataclass_fields__)].to_csv(root / "truth" / "chips.csv", index=False)
    return root


def _build_split(
    root: Path, split: str, missing: dict[_Stratum, int], locations: list[Location], seed: int, parallel: Map
) -> list[dict[str, object]]:
    """Make chips until no stratum misses any; a candidate that proves unsuitable is made up for by another."""
    waiting: dict[str, deque[Candidate]] = {stratum.kind: deque() for stratum in missing}
    unseen = iter(locations)
    rows: list[dict[str, object]] = []
    while any(missing.values()):
        demand = dict.fromkeys(waiting, 0)
        for stratum, count in missing.items():
            demand[stratum.kind] += count
        # survey locations until the candidates of every kind suffice or there is no location left
        scarce = any(len(waiting[kind]) < count for kind, count in demand.items())
        if scarce and _survey_more(unseen, seed, waiting, parallel):
            continue
        tasks = [
            _Task(split, stratum, _record(waiting[stratum.kind].popleft(), seed))
            for stratum, count in missing.items()
            for _ in range(min(count, len(waiting[stratum.kind])))
        ]
        if not tasks:
            left = {kind: count for kind, count in demand.items() if count}
            do = "Ask for fewer chips or take another seed."
            raise RequestError(f"the country has too few locations for the chips of {split}", got=left, do=do)
        for task, row in zip(tasks, parallel(partial(_make_chip, root), tasks), strict=True):
            if isinstance(row, dict):
                missing[task.stratum] -= 1
                rows.append(row)
    return rows


def _quotas(number: int, planted: Planting | None) -> dict[_Stratum, int]:
    """How many chips of every stratum a split needs, in the order they are made."""
    natural = number // 2
    forest = (number - natural) // 4
    counts: dict[Kind, int] = {"natural": natural, "anthropogenic": number - natural - forest, "forest": forest}
    agree = {None: 0.0, "random": 0.5, "label": 1.0, "label-85": 0.85}[planted]
    other = 1 - agree if planted else 0.0
    planted_counts = {kind: round(count * (agree if kind == "natural" else other)) for kind, count in counts.items()}
    quotas = {_Stratum(kind, False): count - planted_counts[kind] for kind, count in counts.items()}
    return quotas | {_Stratum(kind, True): count for kind, count in planted_counts.items() if count}


def _survey_more(unseen: Iterator[Location], seed: int, waiting: dict[str, deque[Candidate]], parallel: Map) -> bool:
    """Add the candidates of some more locations to the waiting ones; False if there are no more locations."""
    batch = list(islice(unseen, 16))
    candidates: Any
    for candidates in parallel(partial(survey, seed=seed), batch):
        for kind, queue in waiting.items():
            queue.extend(islice((c for c in candidates if c.kind == kind), _MAX_PER_LOCATION))
    return bool(batch)


def _record(candidate: Candidate, seed: int) -> ChipRecord:
    """Name and draw a chip; the name follows the original's: WDPA category and site, or coordinates."""
    window, location = candidate.window, candidate.location
    random = np.random.default_rng(key_of(seed, location.i, location.j, candidate.number))
    random.random()  # the first number is unused
    lon, lat = location.lon_lat
    site = key_of(seed, "wdpa", location.i, location.j)
    group = f"anthropo_{lon:.5f}-{lat:.5f}"
    if candidate.kind == "natural":
        group = f"wdpa-{iucn_category(site)}_{site % 900_000 + 1000}"
    sky = int(random.integers(1 << 31))
    return ChipRecord(f"{group}_{candidate.number}.tif", window.row, window.col, seed, sky, float("nan"))


def iucn_category(key: int) -> str:
    """Ia, Ib or II, in their shares among the 7,003 natural chips of the published data set."""
    return str(np.array(["Ia", "Ib", "II"])[np.searchsorted([0.053, 0.697], key % 1000 / 1000)])


def _make_chip(root: Path, task: _Task) -> dict[str, object] | None:
    """Paint, check and write one chip; None if the full picture is not of the kind that its samples showed."""
    kind, record = task.stratum.kind, task.record
    ground = chip_ground(record)
    if not _is_kind(ground, kind):
        return None
    if task.stratum.distractors:
        level = _distractor_level(record, ground)
        if level is None:
            return None
        record = replace(record, distractor_level=level)
        ground = chip_ground(record)
    write_chip(root, record, ground)
    lon, lat = lon_lat(record.window)
    labels = {"category": record.file.split("_")[0], "label": int(kind == "natural"), "class": kind}
    return vars(record) | {"lon": lon, "lat": lat, "dataset": task.split} | labels


def _is_kind(ground: Ground, kind: Kind) -> bool:
    pattern = float(ground.pattern[INNER].mean())
    anthropogenic = float(np.isin(ground.cover, ANTHROPOGENIC)[INNER].mean())
    if kind == "natural":
        return 0.03 <= pattern <= 0.60 and anthropogenic == 0
    return not ground.pattern.any() and (anthropogenic == 0 if kind == "forest" else anthropogenic >= 0.04)


def _distractor_level(record: ChipRecord, ground: Ground) -> float | None:
    """The level that puts distractors on 4 to 12 % of the chip, drawn from its seed; None if there is no room."""
    field = Landscape(record.landscape).distractor_field(*pixel_centres(record.window.pad(MARGIN), Grid()))
    free = np.where(np.isin(ground.cover, ANTHROPOGENIC), -np.inf, field)[INNER]
    share = np.random.default_rng(record.sky + 1).uniform(0.045, 0.115)
    level = float(np.quantile(free, 1 - share, method="lower"))
    return level if np.isfinite(level) and np.isfinite(free).mean() > 2 * share else None
