"""Chips are as large as the checkpoint's card says; the promises of mapping hold for every size."""

import numpy as np
import pytest
import torch

import spacex
from spacex.checkpoint import save_checkpoint
from spacex.mapping.request import chip_settings
from spacex.model_card import Card
from spacex.models.applicability import feature_extractor, learn_applicability, spatial_folds
from spacex.models.classifier import Classifier, ClassifierSettings

BOX = (23.99, 67.97, 24.015, 67.98)
MAPS = ("attribution", "lift", "naturalness", "dissimilarity")


@pytest.fixture(params=[64, 128, 120])
def checkpoint(request, tiny_checkpoint, tmp_path):
    """The tiny checkpoint for chips of another size."""
    side = request.param
    shape = ClassifierSettings(base=2, levels=3, chip_size=side)
    asked = tiny_checkpoint.card.model_dump(exclude={"frame", "stride", "applicability"})
    card = Card.model_validate(asked | {"chip_size": side, "classifier": shape.model_dump()})
    torch.manual_seed(0)
    classifier = Classifier(shape).eval()
    statistics = feature_extractor(classifier)(torch.randn(12, 3, side, side))
    generators = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    known = learn_applicability(statistics, spatial_folds(range(12)), 3)
    sensitivity = torch.rand(side // 4, side // 4) + 0.5
    modules = {"classifier": classifier, **generators}
    return save_checkpoint(tmp_path / "checkpoint", card, modules, known, None if side == 120 else sensitivity)


def test_any_tiling_gives_the_same_map(checkpoint, make_request, map_offline, tmp_path):
    card = checkpoint.card
    chips = chip_settings(card, ("attribution", "lift"))
    # three quarters of a chip, as 192 of 256, in steps of 4 pixels
    assert (chips.chip_size, chips.stride) == (card.chip_size, {64: 48, 128: 96, 120: 96}[card.chip_size])
    cubes = []
    for size in (512, 2048):
        request = make_request(box=BOX, chips=chips, tile_size=size)
        map_offline(request, tmp_path / f"{size}.zarr", checkpoint=checkpoint)
        cubes.append(spacex.open_cube(tmp_path / f"{size}.zarr").load())
    assert ("sensitivity" in cubes[0].lift.attrs["comment"]) == (checkpoint.sensitivity is not None)
    for name in MAPS:
        one, two = (cube[name].values for cube in cubes)
        assert np.nanmax(one) > 0
        np.testing.assert_array_equal(one, two, err_msg=name)


def test_the_embedded_country_is_mapped(checkpoint, tmp_path):
    outcome = spacex.map_region(
        (24.0, 67.95, 24.02, 67.96), catalogue="demo", checkpoint=checkpoint, output=str(tmp_path / "x.zarr")
    )
    assert outcome.complete
    assert float(spacex.open_cube(tmp_path / "x.zarr").lift.max()) > 0
