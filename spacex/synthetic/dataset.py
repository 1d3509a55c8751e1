"""A training set of the embedded world in AnthroProtect's exact layout, with the truth beside it.

::

    infos.csv           file,lon,lat,category,label,dataset
    classes.csv         file,class: natural, anthropogenic, or forest (which neither pattern nor people touch)
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
from spacex.synthetic.cache import cached_folder, code_digest
from spacex.synthetic.chip import FOLDERS, ChipRecord, ground_of, write_chip
from spacex.synthetic.landscape import Ground, Landscape, pixel_centres
from spacex.synthetic.locations import Candidate, Place, find_places, lon_lat, survey
from spacex.synthetic.noise import key_of
from spacex.synthetic.region import DEMO_SEED
from spacex.synthetic.sensor import MARGIN
from spacex.synthetic.spectra import HUMAN

Planting = Literal["random", "label", "label-85"]
SIZES: dict[str, dict[str, int]] = {
    "default": {"train": 1200, "val": 240, "test": 240},
    "tiny": {"train": 24, "val": 12, "test": 12},
}
"""Chips per split of the cached sets."""
_SOURCES = (
    "noise", "spectra", "terrain", "nature", "people", "landscape", "sensor", "region", "chip", "places", "dataset",
    "character",
)  # fmt: skip
CLASSES = {"natural": "natural", "human": "anthropogenic", "plain": "forest"}
"""Names in `classes.csv` of the kinds of chips."""
_PER_PLACE = 5  # chips of one kind that one place may give


class _Sort(NamedTuple):
    """Chips that are counted together."""

    kind: str
    """natural, human or plain."""
    knolls: bool
    """With planted knolls."""


class _Task(NamedTuple):
    split: str
    candidate: Candidate
    sort: _Sort
    group: str
    record: ChipRecord


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
    table[["file", "class"]].to_csv(root / "classes.csv", index=False)
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
    missing = _quotas(number, planted)
    waiting: dict[str, deque[Candidate]] = {sort.kind: deque() for sort in missing}
    unseen = iter(places)
    rows: list[dict[str, object]] = []
    while any(missing.values()):
        if not _enough(waiting, missing) and _look_further(unseen, seed, waiting, spread):
            continue
        tasks = [
            _task(waiting[sort.kind].popleft(), sort, split, seed)
            for sort, count in missing.items()
            for _ in range(min(count, len(waiting[sort.kind])))
        ]
        if not tasks:
            raise RequestError(f"the country has too few places for {number} chips of {split}", got=missing,
                               do="Ask for fewer chips or take another seed.")  # fmt: skip
        for row in spread(partial(_make, root), tasks):
            if isinstance(row, dict):
                missing[row.pop("sort")] -= 1
                rows.append(row)
    return rows


def _quotas(number: int, planted: Planting | None) -> dict[_Sort, int]:
    """How many chips of every sort a split needs, in the order they are made."""
    natural = number // 2
    plain = (number - natural) // 4
    kinds = {"natural": natural, "human": number - natural - plain, "plain": plain}
    with_knolls = {kind: round(count * _share_with_knolls(kind, planted)) for kind, count in kinds.items()}
    sorts = {_Sort(kind, False): count - with_knolls[kind] for kind, count in kinds.items()}
    return sorts | {_Sort(kind, True): count for kind, count in with_knolls.items() if count}


def _share_with_knolls(kind: str, planted: Planting | None) -> float:
    if planted is None:
        return 0.0
    agree = {"random": 0.5, "label": 1.0, "label-85": 0.85}[planted]
    return agree if kind == "natural" else 1 - agree


def _enough(waiting: Mapping[str, deque[Candidate]], missing: Mapping[_Sort, int]) -> bool:
    need = {kind: sum(count for sort, count in missing.items() if sort.kind == kind) for kind in waiting}
    return all(len(waiting[kind]) >= count for kind, count in need.items())


def _look_further(unseen: Iterator[Place], seed: int, waiting: dict[str, deque[Candidate]], spread: Spread) -> bool:
    batch = [place for place, _ in zip(unseen, range(16), strict=False)]
    for found in spread(partial(survey, landscape=seed), batch):
        taken = dict.fromkeys(waiting, 0)
        for candidate in found:  # type: ignore[attr-defined]
            if taken[candidate.kind] < _PER_PLACE:
                taken[candidate.kind] += 1
                waiting[candidate.kind].append(candidate)
    return bool(batch)


def _task(candidate: Candidate, sort: _Sort, split: str, seed: int) -> _Task:
    window, place = candidate.window, candidate.place
    random = np.random.default_rng(key_of(seed, place.i, place.j, candidate.number))
    random.random()  # one number of every chip's stream is spare
    group = _group(candidate, seed)
    file = f"{group}_{candidate.number}.tif"
    record = ChipRecord(file, window.row, window.col, seed, int(random.integers(1 << 31)), float("nan"))
    return _Task(split, candidate, sort, group, record)


def _group(candidate: Candidate, seed: int) -> str:
    """File name up to the chip's number, in the style of the original: WDPA category and site, or coordinates."""
    lon, lat = candidate.place.lon_lat
    if candidate.kind != "natural":
        return f"anthropo_{lon:.5f}-{lat:.5f}"
    site = key_of(seed, "wdpa", candidate.place.i, candidate.place.j)
    # shares of the categories among the published set's 7,003 natural chips
    category = str(np.array(["Ia", "Ib", "II"])[np.searchsorted([0.053, 0.697], site % 1000 / 1000)])
    return f"wdpa-{category}_{site % 900_000 + 1000}"


def _make(root: Path, task: _Task) -> dict[str, object] | None:
    """Paint, check and write one chip; None if the full picture is not of the kind the sample promised."""
    ground = ground_of(task.record)
    if not _is_kind(ground, task.sort.kind):
        return None
    record = task.record
    if task.sort.knolls:
        level = _knoll_level(record, ground)
        if level is None:
            return None
        record = ChipRecord(**(vars(record) | {"knolls": level}))
        ground = ground_of(record)
    write_chip(root, record, ground)
    lon, lat = lon_lat(record.window)
    return vars(record) | {
        "lon": lon, "lat": lat, "category": task.group.split("_")[0], "label": int(task.sort.kind == "natural"),
        "dataset": task.split, "class": CLASSES[task.sort.kind], "sort": task.sort,
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
