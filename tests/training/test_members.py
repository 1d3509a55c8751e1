"""Several classifiers of one training: the same bits as alone, one checkpoint, resumed like any run."""

import json

import pytest
import torch

import spacex
from spacex.checkpoint import load_checkpoint, read_card
from spacex.errors import RequestError

pytestmark = pytest.mark.usefixtures("no_certificate")

SMALL = ["generator.base=4", "generator.blocks=1", "generator.downs=1", "generator.stem=3", "warmup=0", "batch=2"]
QUIET = {"report": lambda epoch: None}


def train(data, output, members=1, lines=None, **more):
    how = {"epochs": 1, "changes": ["recipe.batch=4", "network.levels=2"], "base": 2} | QUIET | more
    progress = (lambda line: None) if lines is None else lines.append
    return spacex.train_classifier(str(data), str(output), members=members, progress=progress, **how)


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


@pytest.fixture(scope="module")
def three(tiny_data, tmp_path_factory):
    return train(tiny_data, tmp_path_factory.mktemp("three") / "run", 3)


@pytest.fixture(scope="module")
def alone(tiny_data, tmp_path_factory):
    return train(tiny_data, tmp_path_factory.mktemp("alone") / "run")


def test_one_member_is_the_training_of_today(alone):
    assert alone.card.members is None
    assert alone.further == ()
    assert "members" not in json.loads(alone.card.model_dump_json())
    assert sorted(name.partition("-")[0] for name in alone.card.hashes) == ["applicability", "classifier"]


def test_the_first_of_several_has_the_bits_of_one_alone_and_the_others_differ(three, alone, tiny_data, tmp_path):
    assert torch.equal(weights(three.classifier), weights(alone.classifier))
    assert alone.card.hashes.items() <= three.card.hashes.items()
    assert three.digest != alone.digest
    second, third = three.further
    assert not torch.equal(weights(second), weights(third))
    assert not torch.equal(weights(second), weights(three.classifier))
    own = train(tiny_data, tmp_path / "second", seed=1)
    assert torch.equal(weights(second), weights(own.classifier))


def test_the_card_has_each_members_figures_their_mean_and_the_spread(three, alone):
    members = three.card.members
    assert (members.count, members.seeds, len(members.test)) == (3, (0, 1, 2), 3)
    assert (
        members.test[0]["accuracy"] == alone.card.metrics["test"]["accuracy"] == three.card.metrics["test"]["accuracy"]
    )
    assert members.mean["ece"] == pytest.approx(sum(one["ece"] for one in members.test) / 3)
    assert members.spread.factor > 0


def test_generators_explain_the_first_and_carry_the_others(three, tiny_data, tmp_path):
    asked = {"epochs": 1, "changes": SMALL, "progress": lambda line: None} | QUIET
    patterns = spacex.train_gan(str(tiny_data), three.uri, str(tmp_path / "gan"), **asked)
    assert patterns.card.members == three.card.members
    assert torch.equal(weights(patterns.classifier), weights(three.classifier))
    assert [*map(float, map(torch.sum, map(weights, patterns.further)))] == [
        *map(float, map(torch.sum, map(weights, three.further)))
    ]
    assert patterns.minimiser is not None


def test_members_are_resumed_and_added_where_they_are_missing(tiny_data, tmp_path, monkeypatch):
    def stop(epoch):
        raise KeyboardInterrupt

    run, lines = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        train(tiny_data, run, 2, report=stop)
    assert not (run / "card.json").exists()
    two = train(tiny_data, run, 2, lines)
    assert [line for line in lines if "seed" in line] == ["classifier 1 of 2, seed 0", "classifier 2 of 2, seed 1"]
    assert two.card.members.count == 2
    before = (run / "card.json").stat().st_mtime_ns
    again = train(tiny_data, run, 2)
    assert (run / "card.json").stat().st_mtime_ns == before
    assert again.digest == two.digest
    more = train(tiny_data, run, 3)
    assert more.card.members.count == 3
    assert torch.equal(weights(more.further[0]), weights(two.further[0]))
    with pytest.raises(RequestError, match=r"holds more classifiers: got 2; expected 3\. Give --members 3"):
        train(tiny_data, run, 2)


def test_a_missing_member_is_named(three, tmp_path):
    import shutil

    copy = shutil.copytree(three.uri, tmp_path / "copy")
    next(copy.glob("member2-*.safetensors")).unlink()
    assert read_card(copy).members.count == 3
    with pytest.raises(spacex.errors.CheckpointError, match=r"weights are missing: .*member2-"):
        load_checkpoint(copy)
