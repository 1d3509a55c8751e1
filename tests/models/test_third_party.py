"""Networks that are not ours: built where they are trusted, else refused in one line with nothing imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import third_party_networks
import torch

from spacex.attribution.inference import prepare_classifier
from spacex.attribution.lift import check_lift
from spacex.checkpoint import Card, Checkpoint, Scaling, load_checkpoint, save_checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.models.features import feature_modules
from spacex.models.third_party import BUILDERS, ThirdPartySettings, check_trusted, network_builder
from spacex.settings import fingerprint
from spacex.weights import SHIPPED

BANDS = ("B02", "B03", "B04")


def card(network: str = "third_party_networks:Stages", side: int = 64, **changes: object) -> Card:
    settings: dict[str, object] = {
        "kind": "classifier",
        "bands": BANDS,
        "scaling": Scaling.identity(3),
        "chip_size": side,
        "frame": side // 8,
        "stride": side // 2,
        "classifier": ThirdPartySettings(network=network),
    }
    return Card(**(settings | changes))  # type: ignore[arg-type]


def saved(uri: str | Path, network: str = "third_party_networks:Stages", **changes: object) -> Checkpoint:
    torch.manual_seed(0)
    bare = network_builder(card(network).classifier, ["third_party_networks"])()
    return save_checkpoint(uri, card(network, **changes), {"classifier": bare})


def test_it_judges_as_it_did_before_it_was_saved(tmp_path):
    torch.manual_seed(1)
    network = third_party_networks.Stages(width=6).eval()
    settings = ThirdPartySettings(network="third_party_networks:build", arguments={"width": 6})
    save_checkpoint(tmp_path, card(classifier=settings), {"classifier": network})
    again = load_checkpoint(tmp_path, bands=BANDS, trust=["third_party_networks"])
    chips = torch.randn(3, 3, 64, 64)
    assert torch.equal(again.classifier(chips), network(chips)[:, 0])
    assert not again.classifier.training
    assert not any(parameter.requires_grad for parameter in again.classifier.parameters())
    assert again.trust == ("third_party_networks",)


def test_the_weights_are_named_as_the_network_names_them(tmp_path):
    from safetensors.torch import load_file

    written = saved(tmp_path)
    weights = load_file(tmp_path / next(iter(written.card.hashes)))
    assert weights.keys() == third_party_networks.Stages().state_dict().keys()


def test_numbers_needed_while_building_do_not_hinder(tmp_path):
    assert saved(tmp_path, "third_party_networks:measured").classifier(torch.zeros(1, 3, 64, 64)).shape == (1,)


def test_what_is_not_trusted_is_not_imported(tmp_path, monkeypatch):
    marker = tmp_path / "imported"
    (tmp_path / "unknown_strangers.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef build(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    saved(tmp_path / "c")
    file = tmp_path / "c" / "card.json"
    plain = json.loads(file.read_text())
    file.write_text(json.dumps(plain | {"classifier": {"network": "unknown_strangers:build"}}))
    for trust in ([], ["third_party_networks"], ["unknown"], ["unknown_strangers.inner"]):
        with pytest.raises(CheckpointError, match=r"unknown_strangers is not trusted.*--trust unknown_strangers"):
            load_checkpoint(tmp_path / "c", trust=trust)
    assert not marker.exists()
    assert "unknown_strangers" not in sys.modules
    with pytest.raises(CheckpointError, match="builds no network: got NoneType"):
        load_checkpoint(tmp_path / "c", trust=["unknown_strangers"])
    assert marker.exists()


@pytest.mark.parametrize(
    ("network", "trust", "message"),
    [
        ("no_such_package:build", "no_such_package", r"not installed.*Install the package no_such_package"),
        ("third_party_networks:nothing", "third_party_networks", "has no function or class nothing of its own"),
        ("third_party_networks:torch", "third_party_networks", "has no function or class torch"),
        ("os.path:os", "os", "has no function or class"),
        ("os:system", "os", "has no function or class system of its own"),  # it is posix's
        ("third_party_networks:no_network", "third_party_networks", "builds no network: got int"),
    ],
)
def test_what_cannot_be_built_is_said(network, trust, message):
    with pytest.raises(CheckpointError, match=message):
        network_builder(ThirdPartySettings(network=network), [trust])()


def test_wrong_arguments_are_said():
    settings = ThirdPartySettings(network="third_party_networks:Stages", arguments={"depth": 3})
    with pytest.raises(
        CheckpointError, match=r"third_party_networks:Stages cannot build the network: got TypeError.*depth"
    ):
        network_builder(settings, ["third_party_networks"])()


@pytest.mark.parametrize(
    "network",
    [
        "third_party_networks",
        "third_party_networks:",
        ":build",
        "third_party_networks:a.b",
        "../x:y",
        "a b:c",
        "x:y(1)",
    ],
)
def test_names_that_are_none_are_refused(network):
    with pytest.raises(ValueError, match="pattern"):
        ThirdPartySettings(network=network)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pretrained": True},
        {"weights": "DEFAULT"},
        {"checkpoint_path": "weights.pth"},
        {"model_name": "hf-hub:somebody/something"},
        {"model_name": "local-dir:/tmp"},
        {"model_name": "../x"},
        {"pretrained_cfg": {"url": "https://nowhere.invalid/x.pth"}},
        {"features": ["a", "/b"]},
    ],
)
@pytest.mark.parametrize("builder", BUILDERS)
def test_builders_without_trust_take_plain_arguments_only(builder, arguments):
    plain = {"model_name": "resnet18", "num_classes": 1, "rate": 0.1, "pretrained": False, "kernels": [3], "act": None}
    check_trusted(ThirdPartySettings(network=builder, arguments=plain), ())
    settings = ThirdPartySettings(network=builder, arguments=plain | arguments)
    with pytest.raises(CheckpointError, match=f"not trusted with these arguments: got {next(iter(arguments))}"):
        check_trusted(settings, ())
    check_trusted(settings, [builder.partition(".")[0].partition(":")[0]])


def test_other_functions_of_the_same_packages_need_trust():
    with pytest.raises(CheckpointError, match="not trusted"):
        check_trusted(ThirdPartySettings(network="torchvision.datasets.utils:download_url"), ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": {"network": "third_party_networks:Stages", "arguments": {"classes": 5}}}, "not have the shape"),
        (
            {"classifier": {"network": "third_party_networks:Stages", "bands": 3}},
            "damaged at classifier.third-party.bands",
        ),
        ({"classifier": {"base": 2}}, "built for chips of 256 pixels"),
        ({"features": ["stem", "roof"]}, r"lacks: got roof; expected modules of the network, such as stem"),
        ({"features": ["last"]}, r"feature last of the card does not fit: got shapes \[\(1, 1\)\]"),
        ({"features": [""]}, "lacks"),
        ({"classes": ["a", "b", "c"], "target": "a"}, r"another number of logits: got 1; expected 3 for 3 classes"),
        ({"classes": ["a", "b"], "target": "z"}, "target 'z' is none of the classes"),
        ({"classes": ["a"], "target": "a"}, "two or more different classes"),
        ({"classes": ["a", "b"]}, "target '' is none of the classes"),
        ({"bands": ["B02"], "scaling": {"mean": [0], "std": [1]}}, "cannot take chips of 1 bands and 64 x 64 pixels"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_its_network_is_refused(tmp_path, changes, message):
    saved(tmp_path)
    file = tmp_path / "card.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path, trust=["third_party_networks"])


def test_features_are_the_stages_unless_they_are_named(tmp_path):
    found = saved(tmp_path / "a").classifier
    assert found.features == ("stem", "middle")
    assert feature_modules(found) == [found.network.stem, found.network.middle]
    assert feature_modules(found, ["middle.0"]) == [found.network.middle[0]]
    assert saved(tmp_path / "b", features=("middle",)).classifier.features == ("middle",)
    with pytest.raises(CheckpointError, match=r"lacks: got roof"):
        feature_modules(found, ["stem", "roof"])
    own = Classifier(ClassifierSettings(base=2, levels=2))
    assert feature_modules(own, ["whatever"]) == list(own.unet.encoders)


def test_one_deep_chain_of_stages_is_found_inside_it():
    from spacex.models.features import find_features

    inner = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(12)))
    wrapped = torch.nn.Sequential(torch.nn.Sequential(inner), torch.nn.Flatten(), torch.nn.Linear(3 * 64, 1))
    names = find_features(wrapped.eval(), torch.zeros(1, 3, 8, 8))
    assert len(names) == 8
    assert names[0] == "0.0.0"
    assert names[-1] == "0.0.11"
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
    assert find_features(flat, torch.zeros(1, 3, 8, 8)) == ()


def test_pictures_with_their_channels_last_are_no_features():
    """As of a Swin's stages: width and channels were taken for height and width, and Grad-CAM was flat."""
    from spacex.models.features import find_features

    class Last(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inner = torch.nn.Linear(width, 12)

        def forward(self, x):
            return self.inner(x)

    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = torch.nn.Conv2d(3, 5, 4, stride=4), Last(5), Last(12)
            self.head = torch.nn.Linear(12, 1)

        def forward(self, x):
            return self.head(self.two(self.one(self.stem(x).permute(0, 2, 3, 1))).mean((1, 2)))

    assert find_features(Turned().eval(), torch.zeros(1, 3, 32, 32)) == ("stem",)
    with pytest.raises(CheckpointError, match=r"feature two of the card does not fit"):
        find_features(Turned().eval(), torch.zeros(1, 3, 32, 32), ["two"])


def test_nothing_in_it_writes_over_its_input(tmp_path):
    network = saved(tmp_path).classifier
    assert not any(getattr(layer, "inplace", False) for layer in network.modules())


def test_it_is_made_ready_without_being_rearranged(tmp_path):
    network = saved(tmp_path).classifier
    ready = prepare_classifier(network, "bfloat16", torch.device("cpu"))
    chips = torch.randn(2, 3, 64, 64)
    assert torch.allclose(ready(chips), network(chips), atol=1e-6)
    assert isinstance(ready.network.stem[1], torch.nn.BatchNorm2d)
    assert next(ready.parameters()).dtype == torch.float32


def test_lift_follows_any_network_and_refuses_jumps(tmp_path):
    for name in ("Stages", "Hidden", "Gated", "Residual", "SqueezeExcite", "Transformer"):
        assert check_lift(saved(tmp_path / name, f"third_party_networks:{name}").classifier, 3, 64).miss <= 1e-4
    with pytest.raises(RequestError, match=r"got gt.*--maps attribution,path_attribution"):
        check_lift(saved(tmp_path / "no", "third_party_networks:Thresholded").classifier, 3, 64)


def test_cards_of_our_own_networks_read_as_ever(tiny_checkpoint):
    text = (Path(tiny_checkpoint.uri) / "card.json").read_text()
    assert not {"classes", "target", "features"} & json.loads(text).keys()
    assert "outputs" not in json.loads(text)["classifier"]
    shipped = load_checkpoint("demo")
    assert isinstance(shipped.classifier, Classifier)
    # the digest as it was made before networks could be others', from the card as it stands in the file
    told = json.loads((SHIPPED["demo"] / "card.json").read_text())
    names = ("format_version", "bands", "chip_size", "scaling", "classifier", "generator", "frame", "stride")
    assert shipped.digest == fingerprint({name: told[name] for name in names}, sorted(told["hashes"].values()))
