"""A training set of the embedded world in AnthroProtect's exact layout, with the truth beside it.

::

    infos.csv           file,lon,lat,category,label,dataset
    tiles/s2/*.tif      10 bands, uint16, reflectance * 10000, 0 = no data
    tiles/lcs/*.tif     4 bands, uint16: CORINE (3-digit codes, 100 m cells), MODIS, CGLS, GlobCover
    tiles/s2_scl/*.tif  scene classification, uint8
    truth/*.tif         uint8: 1 mire or bare fell, 2 planted knoll, 0 neither; exact at 10 m
    truth/chips.csv     where each chip lies and what sky it was seen through (see ChipRecord)

Chips come in places, squares of 6 x 6 chips, one at most per 40 km of land; a place belongs to one split. The
embedded archive's own surroundings are left out, so that the weights that ship have not seen the region they
are shown on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from spacex.errors import RequestError
from spacex.grid import Grid
from spacex.world.cache import cached_folder, code_digest
from spacex.world.chip import FOLDERS, ChipRecord, ground_of, write_chip
from spacex.world.landscape import Ground, Landscape, pixel_centres
from spacex.world.noise import key_of
from spacex.world.places import Candidate, Place, find_places, lon_lat, survey
from spacex.world.region import DEMO_SEED
from spacex.world.sensor import MARGIN
from spacex.world.spectra import HUMAN

Planting = Literal["random", "label", "label-85"]
SIZES: dict[str, dict[str, int]] = {
    "default": {"train": 1200, "val": 240, "test": 240},
    "tiny": {"train": 24, "val": 12, "test": 12},
}
"""Chips per split of the cached sets."""
_SOURCES = (
    "noise", "spectra", "terrain", "nature", "people", "landscape", "sensor", "region", "chip", "places", "dataset",
)  # fmt: skip
_PER_PLACE = 5  # chips of one kind that one place may give


class _Task(NamedTuple):
    split: str
    candidate: Candidate
    group: str
    record: ChipRecord
    planted: bool


def demo_dataset(size: str = "default") -> Path:
    """The cached data set of the embedded world, built on first use.

    Args:
        size: a key of `SIZES`; "default" takes a minute or two on two cores, "tiny" a few seconds.

    Raises:
        RequestError: for an unknown size.
    """
    if size not in SIZES:
        raise RequestError("unknown size of the demo data set", got=size, expected=list(SIZES))
    build = partial(build_dataset, chips=SIZES[size], seed=DEMO_SEED)
    return cached_folder(f"dataset-{size}-{code_digest(_SOURCES)}", build)


def build_dataset(
    folder: str | Path,
    chips: Mapping[str, int] | None = None,
    seed: int = DEMO_SEED,
    planted: Planting | None = None,
    workers: int = 2,
) -> Path:
    """Build a data set; the same arguments give the same files whatever the number of workers.

    Half of the chips of a split are natural (label 1: 3 to 60 % mire or bare fell, no trace of people); the
    others (label 0) carry neither mire nor fell: three in four show fields, villages or roads, one in four
    only forest, lakes and clear-cuts.

    Args:
        folder: where to; created if need be.
        chips: number of chips per split.
        seed: seed of the landscape and of every choice; another seed is another country.
        planted: plant reddish knolls on 4 to 12 % of some chips for the shortcut experiment: in half of both
            classes ("random"), in exactly the label-1 chips ("label"), or agreeing with the label in 85 % of
            chips.
        workers: processes to paint with; 0 paints in this one.

    Raises:
        RequestError: if the country has not enough places for so many chips.
    """
    root = Path(folder)
    chips = dict(chips or SIZES["default"])
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    places = find_places(seed, chips)
    rows: list[dict[str, object]] = []
    with _mapper(workers) as spread:
        for split, number in chips.items():
            rows += _build_split(root, split, number, places[split], seed, planted, spread)
    table = pd.DataFrame(rows).sort_values("file")
    table[["file", "lon", "lat", "category", "label", "dataset"]].to_csv(root / "infos.csv", index=False)
    table[list(ChipRecord.__dataclass_fields__)].to_csv(root / "truth" / "chips.csv", index=False)
    return root


Spread = Callable[[Callable[..., object], Iterable[object]], Iterator[object]]


@contextmanager
def _mapper(workers: int) -> Iterator[Spread]:
    if workers == 0:
        yield map
        return
    # spawned, because forking a process that runs threads (torch, GDAL) can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=4)


def _build_split(
    root: Path,
    split: str,
    number: int,
    places: list[Place],
    seed: int,
    planted: Planting | None,
    spread: Spread,
) -> list[dict[str, object]]:
    missing = _quotas(number)
    waiting: dict[str, deque[_Task]] = {kind: deque() for kind in missing}
    unseen = iter(places)
    rows: list[dict[str, object]] = []
    while any(missing.values()):
        if not _enough(waiting, missing) and _look_further(unseen, split, seed, planted, waiting, spread):
            continue
        tasks = [waiting[kind].popleft() for kind in missing for _ in range(min(missing[kind], len(waiting[kind])))]
        if not tasks:
            raise RequestError(f"the country has too few places for {number} chips of {split}", got=missing,
                               do="Ask for fewer chips or take another seed.")  # fmt: skip
        for row in spread(partial(_make, root), tasks):
            if isinstance(row, dict):
                missing[row.pop("kind")] -= 1
                rows.append(row)
    return rows


def _quotas(number: int) -> dict[str, int]:
    natural = number // 2
    plain = (number - natural) // 4
    return {"natural": natural, "human": number - natural - plain, "plain": plain}


def _enough(waiting: Mapping[str, deque[_Task]], missing: Mapping[str, int]) -> bool:
    return all(len(waiting[kind]) >= count for kind, count in missing.items())


def _look_further(
    unseen: Iterator[Place],
    split: str,
    seed: int,
    planted: Planting | None,
    waiting: dict[str, deque[_Task]],
    spread: Spread,
) -> bool:
    batch = [place for place, _ in zip(unseen, range(16), strict=False)]
    for found in spread(partial(survey, landscape=seed), batch):
        taken = dict.fromkeys(waiting, 0)
        for candidate in found:  # type: ignore[attr-defined]
            if taken[candidate.kind] < _PER_PLACE:
                taken[candidate.kind] += 1
                waiting[candidate.kind].append(_task(candidate, split, seed, planted))
    return bool(batch)


def _task(candidate: Candidate, split: str, seed: int, planted: Planting | None) -> _Task:
    window, place = candidate.window, candidate.place
    random = np.random.default_rng(key_of(seed, place.i, place.j, candidate.number))
    group = _group(candidate, seed)
    with_knolls = _wants_knolls(candidate.kind == "natural", planted, random.random())
    file = f"{group}_{candidate.number}.tif"
    record = ChipRecord(file, window.row, window.col, seed, int(random.integers(1 << 31)), float("nan"))
    return _Task(split, candidate, group, record, with_knolls)


def _group(candidate: Candidate, seed: int) -> str:
    """File name up to the chip's number, in the style of the original: WDPA category and site, or coordinates."""
    lon, lat = candidate.place.lon_lat
    if candidate.kind != "natural":
        return f"anthropo_{lon:.5f}-{lat:.5f}"
    site = key_of(seed, "wdpa", candidate.place.i, candidate.place.j)
    # shares of the categories among the published set's 7,003 natural chips
    category = str(np.array(["Ia", "Ib", "II"])[np.searchsorted([0.053, 0.697], site % 1000 / 1000)])
    return f"wdpa-{category}_{site % 900_000 + 1000}"


def _wants_knolls(natural: bool, planted: Planting | None, draw: float) -> bool:
    if planted is None:
        return False
    if planted == "random":
        return draw < 0.5
    return natural if planted == "label" or draw < 0.85 else not natural


def _make(root: Path, task: _Task) -> dict[str, object] | None:
    """Paint, check and write one chip; None if the full picture is not of the kind the sample promised."""
    ground = ground_of(task.record)
    if not _is_kind(ground, task.candidate.kind):
        return None
    record = task.record
    if task.planted:
        level = _knoll_level(record, ground)
        if level is None:
            return None
        record = ChipRecord(**(vars(record) | {"knolls": level}))
        ground = ground_of(record)
    write_chip(root, record, ground)
    lon, lat = lon_lat(record.window)
    kind = task.candidate.kind
    return vars(record) | {
        "lon": lon, "lat": lat, "category": task.group.split("_")[0], "label": int(kind == "natural"),
        "dataset": task.split, "kind": kind,
    }  # fmt: skip


def _is_kind(ground: Ground, kind: str) -> bool:
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    natural = float(ground.pattern[inner].mean())
    human = float(np.isin(ground.cover, HUMAN)[inner].mean())
    if kind == "natural":
        return 0.03 <= natural <= 0.60 and human == 0
    return not ground.pattern.any() and (human == 0 if kind == "plain" else human >= 0.04)


def _knoll_level(record: ChipRecord, ground: Ground) -> float | None:
    """The level that puts knolls on 4 to 12 % of the chip, drawn from its seed; None if there is no room."""
    field = Landscape(record.landscape).knoll_field(*pixel_centres(record.window.pad(MARGIN), Grid()))
    free = np.where(np.isin(ground.cover, HUMAN), -np.inf, field)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    share = np.random.default_rng(record.sky + 1).uniform(0.045, 0.115)
    level = float(np.quantile(free, 1 - share, method="lower"))
    return level if np.isfinite(level) and np.isfinite(free).mean() > 2 * share else None
