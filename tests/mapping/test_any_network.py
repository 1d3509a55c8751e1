"""A classifier that is not ours, and one of three classes, mapped like ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spacex
from spacex.checkpoint import save_checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.mapping.worker import Job
from spacex.model_card import Card
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.third_party import ThirdPartySettings, network_builder
from spacex.sentinel2.scene_list import save_scenes

BOX = (23.98, 67.96, 24.02, 67.975)


def patterns(folder, tiny_checkpoint, **changes):
    """The tiny checkpoint's generators around another classifier."""
    card = Card.model_validate(tiny_checkpoint.card.model_dump() | changes)
    torch.manual_seed(0)
    classifier = network_builder(card.classifier, ["third_party_networks"])()
    generators = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    return save_checkpoint(folder, card, {"classifier": classifier, **generators}).uri


@pytest.fixture(scope="module")
def stranger(tiny_checkpoint, tmp_path_factory):
    """URI of a checkpoint whose classifier chooses by comparison, so that only the path map follows it."""
    foreign = ThirdPartySettings(network="third_party_networks:Thresholded").model_dump()
    return patterns(tmp_path_factory.mktemp("stranger"), tiny_checkpoint, classifier=foreign)


@pytest.fixture
def asked(archive_list, tmp_path):
    """A small request, on one tile."""
    where = {"bbox": BOX, "datetime": "2020-07-01/2020-08-30", "catalogue": "demo", "items": archive_list}
    return where | {"output": str(tmp_path / "out.zarr"), "tile_size": 512, "threads": 1}


def test_a_stranger_is_mapped_by_its_path(stranger, asked):
    maps = ("attribution", "path_attribution")
    assert spacex.map_region(**asked, checkpoint=stranger, maps=maps, trust=["third_party_networks"]).complete
    cube = spacex.open_cube(asked["output"])
    assert float(np.isfinite(cube.path_attribution).mean()) > 0.3
    assert float(cube.path_attribution.max()) > 0
    assert 0 <= float(cube.naturalness.min()) <= float(cube.naturalness.max()) <= 1
    assert "target" not in cube.attrs


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "--trust third_party_networks"),
        ({"trust": ["third_party_networks"]}, r"cannot follow this classifier: got gt.*--maps attribution,path"),
    ],
)
def test_what_it_lacks_is_said_before_anything_is_written(stranger, asked, tmp_path, how, message):
    with pytest.raises(RequestError, match=message):
        spacex.map_region(**asked, checkpoint=stranger, **how)
    assert not list(tmp_path.iterdir())


def test_trust_travels_to_the_workers_in_the_job(stranger, make_request, tiny_checkpoint, tmp_path):
    request = make_request(maps=("attribution",))
    save_scenes(str(tmp_path / "scenes.gz"), [[]])
    from spacex.cube.store import create_cube

    create_cube(str(tmp_path / "x.zarr"), request.spec(tiny_checkpoint.card), "a", {})
    plain = {"request": request, "output": str(tmp_path / "x.zarr"), "scenes": str(tmp_path / "scenes.gz")}
    job = Job(**plain, checkpoint=stranger, trust=("third_party_networks",))
    Job.model_validate_json(job.model_dump_json()).open().close()
    with pytest.raises(CheckpointError, match="not trusted"):
        job.model_copy(update={"trust": ()}).open()


def test_a_residual_network_with_max_pooling_is_mapped_with_lift(tiny_checkpoint, asked, tmp_path):
    shape = ThirdPartySettings(network="third_party_networks:Residual").model_dump()
    uri = patterns(tmp_path / "residual", tiny_checkpoint, classifier=shape)
    assert spacex.map_region(**asked, checkpoint=uri, trust=["third_party_networks"]).complete
    assert float(spacex.open_cube(asked["output"]).lift.max()) > 0


def test_three_classes_are_mapped_with_lift_and_say_what_is_scored(tiny_checkpoint, asked, tmp_path):
    shape = ClassifierSettings(base=2, levels=2, outputs=3)
    classes = {"classes": ("mire", "forest", "fields"), "target": "mire"}
    uri = patterns(tmp_path / "three", tiny_checkpoint, classifier=shape.model_dump(), **classes)
    checkpoint = spacex.load_checkpoint(uri)
    assert isinstance(checkpoint.classifier.network, Classifier)
    assert spacex.map_region(**asked, checkpoint=checkpoint).complete
    cube = spacex.open_cube(asked["output"])
    assert float(cube.lift.max()) > 0
    assert cube.attrs["target"].startswith("mire: the class that naturalness scores")
