"""A checkpoint reads back as it was written, from anywhere, and says clearly what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save

import spacex
from spacex.checkpoint import Card, Checkpoint, Scaling, load_checkpoint, read_card, save_checkpoint
from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.storage import write_bytes
from spacex.weights import SHIPPED

BANDS = ("B02", "B03", "B04")


def make_card(**changes: object) -> Card:
    settings = {
        "kind": "classifier",
        "bands": BANDS,
        "scaling": Scaling.identity(3),
        "classifier": ClassifierSettings(base=2, levels=2),
    }
    return Card(**(settings | changes))


def write(uri: str | Path, seed: int = 0, **changes: object) -> Checkpoint:
    torch.manual_seed(seed)
    card = make_card(**changes)
    return save_checkpoint(uri, card, {"classifier": Classifier(card.classifier)})


def test_weights_survive_the_round_trip_and_networks_are_frozen(tiny_checkpoint: Checkpoint) -> None:
    again = load_checkpoint(tiny_checkpoint.uri, bands=BANDS)
    chips = torch.randn(2, 3, 256, 256)
    for name in ("classifier", "maximiser", "minimiser"):
        one, two = getattr(tiny_checkpoint, name), getattr(again, name)
        assert torch.equal(one(chips), two(chips))
        assert not two.training
        assert not any(parameter.requires_grad for parameter in two.parameters())
    assert again.digest == tiny_checkpoint.digest
    assert not torch.equal(again.maximiser(chips), again.minimiser(chips))
    assert (again.maximiser(chips) - chips).abs().mean() > 0.01


def test_any_store_will_do() -> None:
    written = write("memory://checkpoints/one")
    assert load_checkpoint("memory://checkpoints/one").digest == written.digest
    paths = fsspec.filesystem("memory").ls("/checkpoints/one", detail=False)
    assert {path.rsplit("/", 1)[-1] for path in paths} == {"card.json", *written.card.hashes}


def test_an_s3_store(monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs
    from moto.server import ThreadedMotoServer

    s3fs.S3FileSystem.clear_instance_cache()  # they remember another test's server

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        fsspec.filesystem("s3").mkdir("bucket")
        first, second = write("s3://bucket/runs/one", seed=1), write("s3://bucket/runs/one", seed=2)
        assert first.digest != second.digest == load_checkpoint("s3://bucket/runs/one").digest
        listed = fsspec.filesystem("s3").ls("bucket/runs/one", detail=False, refresh=True)
        assert {path.rsplit("/", 1)[-1] for path in listed} == {"card.json", *second.card.hashes}
        with pytest.raises(CheckpointError, match="no checkpoint at s3://bucket/runs/two"):
            load_checkpoint("s3://bucket/runs/two")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first = write(tmp_path, seed=1)
    second = write(tmp_path, seed=2)
    assert first.digest != second.digest
    assert load_checkpoint(tmp_path).digest == second.digest
    assert {path.name for path in tmp_path.iterdir()} == {"card.json", *second.card.hashes}


def test_a_writer_killed_before_the_card_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(tmp_path, seed=1)

    def die_before_the_card(uri: str, data: bytes, *, durable: bool) -> None:
        if uri.endswith("card.json"):
            raise KeyboardInterrupt
        write_bytes(uri, data, durable=durable)

    monkeypatch.setattr("spacex.checkpoint.write_bytes", die_before_the_card)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, seed=2)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).digest == old.digest


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    written = write(tmp_path)
    with pytest.raises(CheckpointError, match=r"other bands.*B04,B03,B02.*B02,B03,B04"):
        load_checkpoint(tmp_path, bands=("B04", "B03", "B02"))
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="no place"):
        load_checkpoint("nosuchstore://x")

    weights = tmp_path / next(iter(written.card.hashes))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[:200], "is damaged.*expected safetensors"),
        (lambda data: b"", "is damaged.*expected safetensors"),
        (lambda data: pickle.dumps([1]), "is damaged.*expected safetensors"),
        (lambda data: (2**60).to_bytes(8, "little") + data[8:], "is damaged.*expected safetensors"),
        (lambda data: save({name: one * torch.nan for name, one in load(data).items()}), "NaN or infinity in "),
        (lambda data: save({name: one + torch.inf for name, one in load(data).items()}), "NaN or infinity in "),
    ],
)
def test_weights_that_are_none_are_refused_though_the_card_has_their_hash(
    tmp_path: Path, content: Callable[[bytes], bytes], message: str
) -> None:
    name = next(iter(write(tmp_path).card.hashes))
    data = content((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(data)
    card = json.loads((tmp_path / "card.json").read_text())
    card["hashes"][name] = hashlib.sha256(data).hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "another format.*99.*version 1"),
        ({"chip_size": 512, "classifier": {"base": 2, "levels": 2, "chip_size": 512}}, "does not have the shape"),
        ({"chip_size": 512}, "classifier is built for chips of 256 pixels"),
        ({"bands": ["B02"]}, "numbers of bands differ"),
        ({"scaling": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "std must be positive"),
        ({"hashes": {}}, "names no weights"),
        ({"hashes": {"classifier-../../x.safetensors": "00"}}, "names no weights"),
        ({"classifier": {"base": 3, "levels": 2}}, "does not have the shape"),
        ({"classifier": {"base": 1_000_000, "levels": 6}}, "does not have the shape"),
        ({"scaling": {"mean": [0, 0, float("nan")], "std": [1, 1, 1]}}, "must be finite"),
        ({"limits": "x" * 5_000_000}, "too large"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_a_card_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(tmp_path)


def test_modules_must_match_the_kind(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="maximiser"):
        save_checkpoint(tmp_path, make_card(), {"maximiser": torch.nn.Identity()})


def test_frame_and_stride_must_cover_the_ground() -> None:
    with pytest.raises(ValidationError, match="gaps"):
        make_card(frame=40, stride=192)


@pytest.mark.parametrize(("side", "frame", "stride"), [(64, 8, 48), (120, 12, 96), (256, 32, 192), (512, 64, 384)])
def test_frame_and_stride_follow_the_chip_size(side: int, frame: int, stride: int) -> None:
    shape = ClassifierSettings(chip_size=side)
    card = make_card(chip_size=side, classifier=shape)
    assert (card.frame, card.stride) == (frame, stride)
    assert Card.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize(
    "cells", [torch.zeros(4, 4), torch.ones(4, 3), torch.ones(300, 300), torch.full((2, 2), torch.nan)]
)
def test_a_sensitivity_that_maps_cannot_be_divided_by_is_refused(tmp_path: Path, cells: torch.Tensor) -> None:
    card = make_card()
    with pytest.raises(CheckpointError, match="sensitivity"):
        save_checkpoint(tmp_path, card, {"classifier": Classifier(card.classifier)}, sensitivity=cells)


def test_scaling_and_back() -> None:
    scaling = Scaling(mean=(0.1, 0.2), std=(0.05, 0.5))
    x = torch.tensor([0.2, 0.7]).view(1, 2, 1, 1)
    assert scaling.standardise(x).flatten().tolist() == pytest.approx([2.0, 1.0])
    assert torch.allclose(scaling.restore(scaling.standardise(x)), x)


def test_the_digest_names_what_decides_the_values(tmp_path: Path) -> None:
    one = write(tmp_path / "a", preset="x", metrics={"accuracy": 0.9}, created="2020-01-01")
    two = write(tmp_path / "b", preset="y", metrics={"accuracy": 0.1}, created="2021-01-01")
    assert one.digest == two.digest
    assert one.digest != write(tmp_path / "c", scaling=Scaling(mean=(0, 0, 0), std=(1, 1, 2))).digest
    assert one.digest != write(tmp_path / "d", stride=128).digest


def test_the_card_alone_can_be_read(tiny_checkpoint: Checkpoint) -> None:
    assert read_card(tiny_checkpoint.uri) == tiny_checkpoint.card


def test_the_package_exports_load_checkpoint_without_loading_torch() -> None:
    assert spacex.load_checkpoint is load_checkpoint
    code = "import sys, spacex; assert 'torch' not in sys.modules; assert spacex.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = spacex.nothing


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_ships_beside_the_parts_that_a_card_names(name: str) -> None:
    parts = {path.name for path in SHIPPED[name].glob("*.safetensors")}
    assert parts == set(read_card(str(SHIPPED[name])).hashes)
