"""Several classifiers in a map: their spread against numpy, and the interval of the score with the noise of halves."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import norm

import spacex
from spacex.attribution.attributor import Attributor
from spacex.checkpoint import save_checkpoint
from spacex.cube.levels import crop
from spacex.cube.quicklook import render
from spacex.cube.store import Cube
from spacex.errors import CheckpointError, CubeError
from spacex.execution.local import run_local
from spacex.grid import Window, chip_windows
from spacex.mapping.bounds import bounds_map
from spacex.mapping.estimate import operations_per_chip
from spacex.mapping.plan import make_plan
from spacex.mapping.request import chip_settings
from spacex.models.members import Members, SpreadFit

FIT = SpreadFit(level=-2.0, slope=0.0, freedom=6.0, factor=1.0, chips=100)
EXACT = SpreadFit(level=-700.0, slope=0.0, freedom=1e9, factor=1.0, chips=100)
SPREAD, LOW, HIGH = "naturalness_spread", "naturalness_low", "naturalness_high"
PLAIN = ("attribution", "lift", "naturalness", "dissimilarity", "observations")


@pytest.fixture(scope="module")
def several(tiny_checkpoint, tmp_path_factory):
    """The tiny checkpoint with two more classifiers, whose weights are moved a little."""
    further = []
    for seed in (1, 2):
        network = copy.deepcopy(tiny_checkpoint.classifier)
        random = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=random)
        further.append(network)
    figures = {"accuracy": 0.9}
    members = Members(count=3, seeds=(0, 1, 2), test=(figures,) * 3, mean=figures, spread=FIT)
    card = tiny_checkpoint.card.model_copy(update={"members": members})
    made = replace(tiny_checkpoint, card=card, further=tuple(further))
    folder = tmp_path_factory.mktemp("several")
    return save_checkpoint(folder, card, made.modules, tiny_checkpoint.applicability)


@pytest.fixture(scope="module")
def request_sure(make_request, several):
    def make(*uncertainty, maps=("attribution", "lift"), **values):
        return make_request(chips=chip_settings(several.card, maps, uncertainty=uncertainty), **values)

    return make


@pytest.fixture(scope="module")
def sure(request_sure, several, map_offline, tmp_path_factory):
    path = tmp_path_factory.mktemp("sure") / "sure.zarr"
    request = request_sure("pixels", "classifiers", tile_size=2048)
    assert map_offline(request, path, checkpoint=several).complete
    return path


def opened(path, level=0):
    data = xr.open_zarr(path, group=str(level), chunks=None, mask_and_scale=False)
    return crop(data, Cube(str(path)).spec, level).load()


def test_an_interval_by_hand():
    window, size = Window(0, 0, 8, 8), 256
    chips = chip_windows(window, 192, size)
    scores = dict.fromkeys(chips, (0.6, 0.7, 0.8))
    noise = np.full((8, 8), 0.5, np.float32)
    noise[0, 0] = np.nan
    low, high = bounds_map(window, noise, scores, size, FIT)
    z = np.log([0.6 / 0.4, 0.7 / 0.3, 0.8 / 0.2])
    half = np.hypot(FIT.reach(z[:, None])[1][0], 1.645 * np.sqrt(2) * 0.5)
    assert low[1, 1] == pytest.approx(1 / (1 + np.exp(half - z.mean())))
    assert high[1, 1] == pytest.approx(1 / (1 + np.exp(-half - z.mean())))
    assert np.isnan(low[0, 0])
    assert np.isnan(high[0, 0])
    assert np.isfinite(low).sum() == 63


def test_the_mapped_score_is_never_outside():
    window = Window(0, 0, 4, 4)
    scores = dict.fromkeys(chip_windows(window, 192, 256), (0.2, 0.5, 0.5))
    low, high = bounds_map(window, np.zeros((4, 4), np.float32), scores, 256, EXACT)
    np.testing.assert_allclose(low, 0.2, rtol=1e-6)
    assert (high >= 0.2).all()


def test_without_spread_nine_tenths_of_other_observations_lie_within():
    random, window = np.random.default_rng(0), Window(0, 0, 1, 1)
    chips = chip_windows(window, 192, 256)
    logit, error, inside = 0.4, 0.3, 0
    for seen, again in random.normal(logit, error, (2000, 2)):
        scores = dict.fromkeys(chips, (norm_free(seen),) * 3)
        low, high = bounds_map(window, np.full((1, 1), error, np.float32), scores, 256, EXACT)
        inside += low[0, 0] <= norm_free(again) <= high[0, 0]
    assert inside / 2000 == pytest.approx(norm.cdf(1.645) * 2 - 1, abs=0.02)


def norm_free(logit):
    return 1 / (1 + np.exp(-logit))


def test_the_spread_of_a_chip_is_that_of_its_scores(several):
    x = np.random.default_rng(1).uniform(0.02, 0.1, (2, 3, 256, 256)).astype(np.float32)
    answer = Attributor(several, (), members=True).classify(x)()
    networks = (several.classifier, *several.further)
    u = several.card.scaling.standardise(torch.from_numpy(x))
    with torch.no_grad():
        expected = torch.sigmoid(torch.stack([network(u) for network in networks])).numpy()
    mapped = np.stack([answer.score, answer.generated_scores["member2"], answer.generated_scores["member3"]])
    np.testing.assert_allclose(mapped, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-4
    assert Attributor(several, ()).classify(x)().generated_scores == {}


def test_a_cube_has_the_spread_and_an_interval_around_the_score(sure):
    data = opened(sure)
    decoded = spacex.open_cube(str(sure)).load()
    score, ends = decoded.naturalness, {name: decoded[name].values for name in (LOW, HIGH)}
    mapped = np.isfinite(ends[LOW])
    assert 0.3 < mapped.mean() < 1
    np.testing.assert_array_equal(mapped, np.isfinite(ends[HIGH]))
    assert (ends[LOW][mapped] <= score.values[mapped]).all()
    assert (ends[HIGH][mapped] >= score.values[mapped]).all()
    assert (ends[HIGH] - ends[LOW])[mapped].mean() > 0.02
    assert np.array_equal(np.isfinite(data[SPREAD].values), data.naturalness.values > 0)
    np.testing.assert_array_equal(np.isfinite(data.naturalness_noise.values), data[LOW].values > 0)
    assert np.nanmin(data[SPREAD].values) > 0
    assert data[LOW].attrs["long_name"] == "naturalness low"
    assert "nine times out of ten" in data[HIGH].attrs["comment"]
    assert "of 3 classifiers" in data[SPREAD].attrs["comment"]


def test_every_other_map_has_the_bits_of_the_first_classifier_alone(sure, make_request, map_offline, tmp_path):
    map_offline(make_request(tile_size=2048), tmp_path / "plain.zarr")
    plain, data = opened(tmp_path / "plain.zarr"), opened(sure)
    for name in PLAIN:
        np.testing.assert_array_equal(data[name].values, plain[name].values, err_msg=name)


def test_small_tiles_in_another_order_and_resumed_give_the_same_bits(
    sure, request_sure, several, map_offline, tmp_path
):
    def half(job, queue, on_tick):
        queue.todo.reverse()
        kept = [queue.todo.pop() for _ in range(len(queue.todo) // 2)]
        run_local(job, queue, on_tick)
        queue.todo.extend(kept)

    request, path = request_sure("pixels", "classifiers", tile_size=512), tmp_path / "tiles.zarr"
    map_offline(request, path, half, checkpoint=several, threads=2, batch=3)
    assert map_offline(request, path, checkpoint=several).complete
    tiles, whole = opened(path), opened(sure)
    for name in (SPREAD, LOW, HIGH, "naturalness_noise"):
        np.testing.assert_array_equal(tiles[name].values, whole[name].values, err_msg=name)


def test_classifiers_alone_need_no_second_observation(sure, request_sure, several, map_offline, tmp_path):
    request = request_sure("classifiers", maps=(), tile_size=2048)
    assert map_offline(request, tmp_path / "spread.zarr", checkpoint=several).complete
    data = opened(tmp_path / "spread.zarr")
    assert not {"naturalness_noise", LOW, HIGH} & set(data)
    np.testing.assert_array_equal(data[SPREAD].values, opened(sure)[SPREAD].values)


def test_the_layers_are_drawn_exported_and_described(sure, tmp_path):
    assert render(Cube(str(sure)))[:4] == b"\x89PNG"
    renders = json.loads(sure.with_suffix(".stac.json").read_text())["properties"]["renders"]
    assert {SPREAD, LOW, HIGH} <= set(renders)
    assert renders[LOW]["colormap_name"] == "cividis"
    files = spacex.export(str(sure), str(tmp_path / "tif"), variables=[LOW, SPREAD])
    assert len(files) == 2
    assert all(path.with_suffix(".qml").exists() for path in (tmp_path / "tif").glob("*.tif"))


def test_the_plan_counts_them(request_sure, several, tmp_path):
    def operations(*uncertainty):
        return operations_per_chip(several, request_sure(*uncertainty, maps=()))

    alone = operations()
    assert operations("classifiers") == pytest.approx(3 * alone, rel=0.01)
    assert operations("pixels", "classifiers") == pytest.approx(5 * alone, rel=0.01)

    def stored(*uncertainty):
        return make_plan(request_sure(*uncertainty), str(tmp_path / "x.zarr"), several, scenes=[[]]).stored_bytes

    assert stored("pixels", "classifiers") > stored("classifiers") > stored()


def test_a_checkpoint_of_one_classifier_is_refused(make_request, several, tiny_checkpoint, map_offline, tmp_path):
    request = make_request(chips=chip_settings(several.card, (), uncertainty=("classifiers",)))
    with pytest.raises(CheckpointError, match=r"got one classifier; expected several\. Train several: .*--members 3"):
        map_offline(request, tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()


def test_a_cube_with_spread_is_no_continuation_of_one_without(sure, request_sure, several, map_offline):
    with pytest.raises(CubeError, match=r"chips\.uncertainty was \['pixels', 'classifiers'\] and is now \[\]"):
        map_offline(request_sure(tile_size=2048), sure, checkpoint=several)
