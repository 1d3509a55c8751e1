"""The workbench: each window and chip once, whatever the batch, and never a batch that waits for ever."""

from collections import Counter

import numpy as np
import pytest
from fakes import FakeNetworks, ground

from spacex.execution.tasks import TileTask
from spacex.grid import Window, chip_windows
from spacex.mapping.chip_batcher import ChipBatcher
from spacex.mapping.tile import ChipSettings, TileInput

WINDOWS = ChipSettings(maps=("attribution", "lift"), stride=128, window=384, margin=40)
CHIPS = ChipSettings(maps=("attribution", "lift"), stride=128, frame=32)


class Counting(FakeNetworks):
    """Counts calls and keeps what was asked."""

    def __init__(self):
        self.calls, self.seen = Counter(), Counter()

    def _note(self, kind, x):
        self.calls[kind] += 1
        self.seen.update({(kind, picture.tobytes()) for picture in x})

    def generate(self, x):
        self._note("generate", x)
        return super().generate(x)

    def classify(self, x, *deltas):
        self._note("classify", x)
        return super().classify(x, *deltas)


def tile(core, settings, step=0):
    around = settings.padded(core)
    return TileInput(core, around, ground(around, 3, step), np.ones(around.shape, np.uint16))


def work_off(batcher):
    done = []
    while batcher.compute(flush=True) or len(batcher):
        done += batcher.pop_completed()
    return done + batcher.pop_completed()


@pytest.mark.parametrize("settings", [WINDOWS, CHIPS])
def test_what_is_read_holds_what_is_needed(settings):
    core = Window(-1000, 317, 512, 300)
    around = settings.padded(core)
    for chip in settings.chips(core):
        assert chip.intersect(around) == chip
        for window in settings.windows(chip):
            assert window.pad(settings.margin).intersect(around) == window.pad(settings.margin)


@pytest.mark.parametrize("batch", [1, 5])
def test_neighbours_share_windows_and_chips(batch):
    networks = Counting()
    batcher = ChipBatcher(networks, WINDOWS, batch)
    cores = [Window(0, 0, 512, 512), Window(0, 512, 512, 512)]
    chips = [chip_windows(core, 128, 256) for core in cores]
    for index, core in enumerate(cores):
        batcher.submit(TileTask(0, 0, index), tile(core, WINDOWS), chips[index], 1.0)
    done = work_off(batcher)
    assert [made.task.col for made in done] == [0, 1]
    distinct = set(chips[0]) | set(chips[1])
    windows = {w for chip in distinct for w in WINDOWS.windows(chip)}
    kinds = Counter(kind for kind, _ in networks.seen)
    assert kinds == {"classify": len(distinct), "generate": len(windows)}
    assert all(count == 1 for count in networks.seen.values()) or batch > 1  # a padded batch repeats its last
    assert networks.calls["classify"] <= len(distinct) // batch + 2
    assert sum(made.computed for made in done) == len(distinct)
    assert done[1].computed < len(chips[1])


def test_what_is_remembered_is_not_computed_again():
    networks = Counting()
    batcher = ChipBatcher(networks, WINDOWS)
    core = Window(0, 0, 512, 512)
    first, again = (
        (batcher.submit(TileTask(0, 0, 0), tile(core, WINDOWS), chip_windows(core, 128, 256), 1.0), work_off(batcher))[
            1
        ]
        for _ in range(2)
    )
    assert again[0].computed == 0
    assert set(again[0].results) == set(first[0].results)
    batcher.submit(TileTask(1, 0, 0), tile(core, WINDOWS, step=1), chip_windows(core, 128, 256), 1.0)
    assert work_off(batcher)[0].computed == len(first[0].results)  # another day is another picture


def test_memory_of_results_is_bounded(monkeypatch):
    monkeypatch.setattr("spacex.mapping.chip_batcher.CACHE_BYTES", 4 * 2**20)
    batcher = ChipBatcher(FakeNetworks(), WINDOWS)
    for col in range(6):
        core = Window(0, 512 * col, 512, 512)
        batcher.submit(TileTask(0, 0, col), tile(core, WINDOWS), chip_windows(core, 128, 256), 1.0)
        work_off(batcher)
        for shelf, share in ((batcher._windows, 3), (batcher._chips, 1)):
            assert sum(size for _, size in shelf._recent.values()) <= share * 2**20


def test_where_nothing_was_seen_nothing_was_lowered():
    core = Window(0, 0, 384, 384)
    read = tile(core, WINDOWS)
    hole = Window(100, 100, 50, 60)
    read.reflectance[(slice(None), *hole.slices(read.padded_window))] = np.nan
    batcher = ChipBatcher(FakeNetworks(), WINDOWS)
    batcher.submit(TileTask(0, 0, 0), read, chip_windows(core, 128, 256), 1.0)
    (made,) = work_off(batcher)
    delta_minus = made.generated[Window(0, 0, 384, 384)].delta_minus
    assert (delta_minus[:, 100:150, 100:160] == 0).all()
    assert (delta_minus[:, :100] != 0).all()


def test_a_tile_without_data_is_complete_at_once():
    core = Window(0, 0, 512, 512)
    read = tile(core, WINDOWS)
    read.reflectance[...] = np.nan
    batcher = ChipBatcher(FakeNetworks(), WINDOWS, batch=4)
    batcher.submit(TileTask(0, 0, 0), read, chip_windows(core, 128, 256), 1.0)
    assert len(batcher.pop_completed()) == 1
    assert not batcher.compute(flush=True)


def test_a_short_batch_costs_no_more_than_it_holds():
    networks = Counting()
    batcher = ChipBatcher(networks, CHIPS, batch=8)
    core = Window(0, 0, 256, 256)
    chips = chip_windows(core, 128, 256)[:3]
    batcher.submit(TileTask(0, 0, 0), tile(core, CHIPS), chips, 1.0)
    work_off(batcher)
    assert sum(networks.seen.values()) == len(set(networks.seen))
