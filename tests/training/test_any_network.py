"""Other networks, several classes and pictures, from training to attribution."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import third_party_networks
import torch
from safetensors.torch import save_file
from small_pictures import build_pictures

import spacex
from spacex.checkpoint import load_checkpoint, read_card, save_checkpoint
from spacex.errors import RequestError
from spacex.models.classes import native_network
from spacex.training.augment import draw_partners
from spacex.training.metrics import multiclass_metrics

QUIET = {"report": lambda epoch: None}
SMALL = ["generator.base=4", "generator.blocks=1", "generator.downs=1", "generator.stem=3", "warmup=0", "batch=2"]
STRANGER = {"network": "third_party_networks:Stages", "trust": ["third_party_networks"]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four pictures of 64 pixels of each of three classes, in every split."""
    return build_pictures(tmp_path_factory.mktemp("pictures"))


def train(data, output, **settings):
    asked = {"epochs": 1, "changes": ["recipe.batch=4", "network.levels=2"], "base": 2} | QUIET | settings
    if "network" in settings:
        asked |= {"changes": ["recipe.batch=4"], "base": settings.get("base")}
    return spacex.train_classifier(str(data), str(output), **asked)


def test_a_size_of_our_own_network_is_refused_for_another_one(tiny_data, tmp_path):
    with pytest.raises(RequestError, match="--base is a size of our own network"):
        train(tiny_data, tmp_path / "classifier", **STRANGER, base=4)


def test_a_stranger_is_trained_saved_explained_and_asked(tiny_data, tmp_path):
    made = train(tiny_data, tmp_path / "classifier", **STRANGER, arguments={"width": 6})
    assert made.card.classifier.network == "third_party_networks:Stages"
    assert made.card.features == ("stem", "middle")
    assert made.card.metrics["test"]["chips"] == 4
    assert made.card.lift.miss <= 1e-4
    with pytest.raises(RequestError, match="--trust third_party_networks"):
        spacex.train_gan(str(tiny_data), str(tmp_path / "classifier"), str(tmp_path / "no"), **QUIET)
    asked = {"epochs": 1, "changes": SMALL, "trust": ["third_party_networks"]} | QUIET
    patterns = spacex.train_gan(str(tiny_data), str(tmp_path / "classifier"), str(tmp_path / "gan"), **asked)
    assert patterns.card.features == made.card.features
    assert patterns.card.lift.quadrature == ()
    assert not any(p.requires_grad for p in patterns.classifier.parameters())
    chips = np.random.default_rng(0).uniform(0.02, 0.1, (2, 3, 256, 256)).astype("float32")
    found = spacex.attribute(chips, patterns, maps=("attribution", "lift", "path_attribution"))
    assert found.maps["path_attribution"].shape == (2, 256, 256)
    with torch.no_grad():
        expected = torch.sigmoid(made.classifier(made.card.scaling.standardise(torch.from_numpy(chips))))
    assert np.allclose(found.score, expected, atol=1e-6)


def test_our_residual_network_is_trained_by_its_name_without_trust(pictures, tmp_path):
    how = {"network": "spacex.models.residual:ResidualNetwork", "arguments": {"widths": [4, 6, 8], "outputs": 3}}
    made = train(pictures, tmp_path / "classifier", target="striped", **how)
    assert made.card.features == ("stem", "blocks.0", "blocks.1")
    asked = {"epochs": 1, "changes": SMALL} | QUIET
    patterns = spacex.train_gan(str(pictures), made.uri, str(tmp_path / "gan"), **asked)
    assert spacex.attribute(np.full((1, 3, 64, 64), 0.3, "float32"), patterns).maps["lift"].shape == (1, 64, 64)


def test_a_head_is_trained_on_frozen_pretrained_weights(tiny_data, tmp_path):
    torch.manual_seed(4)
    backbone = third_party_networks.Residual(classes=7)
    backbone(torch.randn(8, 3, 64, 64))  # statistics that training would change
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    shape = {"network": "third_party_networks:Residual", "trust": ["third_party_networks"]}
    pretrained = {"weights": str(tmp_path / "weights.safetensors"), "freeze": True}
    made = train(tiny_data, tmp_path / "run", **shape, **pretrained)
    for name, tensor in made.classifier.network.state_dict().items():
        if not name.startswith("last."):
            assert torch.equal(tensor, backbone.state_dict()[name]), name
    assert len(made.card.training["digest of weights"]) == 64
    assert made.card.training["freeze"] is True
    assert "weights" not in made.card.training
    with pytest.raises(RequestError, match="Name its --weights"):
        train(tiny_data, tmp_path / "no", **shape, freeze=True)


def test_a_stranger_resumes_with_the_state_it_had(tiny_data, tmp_path):
    from spacex.models.third_party import ThirdPartySettings
    from spacex.training.classifier_run import ClassifierRun, learn_classifier
    from spacex.training.data import DatasetSettings
    from spacex.training.presets import ClassifierRecipe

    runs = [
        ClassifierRun(
            source=DatasetSettings(root=str(tiny_data), bands=("B02", "B03", "B04")), output=str(tmp_path / name),
            recipe=ClassifierRecipe(batch=4, epochs=2),
            network=ThirdPartySettings(network="third_party_networks:Stages"),
            trust=("third_party_networks",),
        )
        for name in ("whole", "broken")
    ]  # fmt: skip
    list(learn_classifier(runs[0]))
    first = learn_classifier(runs[1])
    next(first)
    first.close()
    assert [epoch.number for epoch in learn_classifier(runs[1])] == [2]
    cards = [read_card(run.output) for run in runs]
    assert cards[0].hashes == cards[1].hashes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "third_party_networks:Stages"}, "third_party_networks is not trusted"),
        ({"network": "nowhere_at_all:x", "trust": ["nowhere_at_all"]}, "not installed"),
        ({"network": "no colon", "trust": ["no"]}, "network: got 'no colon'"),
        (STRANGER | {"arguments": {"classes": 3}}, "gives another number of logits: got 3; expected 1"),
        (STRANGER | {"arguments": {"bands": 4}}, "cannot take chips of 3 bands"),
        ({"target": "mire"}, "classes.csv cannot be read"),
    ],
)
def test_requests_that_do_not_fit_leave_nothing(tiny_data, tmp_path, settings, message):
    with pytest.raises(RequestError, match=message):
        train(tiny_data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def three(pictures, tmp_path_factory):
    """Our own classifier of three classes of pictures, and generators that explain one of them."""
    root = tmp_path_factory.mktemp("three")
    made = train(pictures, root / "classifier", target="striped", epochs=2)
    asked = {"epochs": 1, "changes": SMALL} | QUIET
    return made, spacex.train_gan(str(pictures), str(root / "classifier"), str(root / "gan"), **asked)


def test_three_classes_of_pictures(three):
    made, patterns = three
    card = patterns.card
    assert card.classes == ("dotted", "plain", "striped")
    assert (card.target, card.chip_size, card.bands) == ("striped", 64, ("red", "green", "blue"))
    assert card.frame <= 16
    assert card.stride == 64 - 2 * card.frame
    assert native_network(made.classifier).settings.outputs == 3
    told = made.card.metrics["test"]
    assert told["by_class"].keys() == told["confusion"].keys() == set(card.classes)
    assert sum(sum(row.values()) for row in told["confusion"].values()) == told["chips"] == 12
    assert made.card.data["chips"]["train"] == {"natural": 4, "unnatural": 8}


def test_single_pictures_are_attributed_by_name(three, pictures):
    _, patterns = three
    file = pictures / "test" / "striped" / "striped0.png"
    found = spacex.attribute(file, patterns)
    assert found.maps["lift"].shape == (1, 64, 64)
    assert np.array_equal(spacex.attribute([str(file), file], patterns).score, [found.score[0]] * 2)
    with pytest.raises(RequestError, match="pictures need a checkpoint trained on pictures"):
        spacex.attribute(file)
    with pytest.raises(RequestError, match="cannot be read"):
        spacex.attribute(pictures / "nothing.png", patterns)


def test_pictures_are_evaluated_without_regions(three, pictures, tmp_path):
    _, patterns = three
    modules = {name: copy.deepcopy(getattr(patterns, name)) for name in ("classifier", "maximiser", "minimiser")}
    modules["classifier"].network.head[-1].bias[2] += 9.0  # it takes all for striped
    sure = save_checkpoint(tmp_path / "sure", patterns.card, modules)
    methods = ("lift", "attribution", "asos", "gradcam-last", "brightness")
    how = {"methods": methods, "perturbed": 2, "sanity_chips": 1}
    table = spacex.evaluate(str(pictures), sure.uri, str(tmp_path / "report"), **how)
    assert table.chips["all"] == 4
    frame = table.frame().set_index("method")
    assert frame["iou"].isna().all()
    assert frame["deletion_blur"].between(0, 1).all()
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Nothing says where in these pictures" in page
    assert "Counterfactual quality" in page
    assert (tmp_path / "report" / "figure-4.png").stat().st_size > 1000


def test_two_classes_of_pictures_are_one_logit(tmp_path):
    data = build_pictures(tmp_path / "data", classes=("plain", "striped"))
    made = train(data, tmp_path / "run", target="plain")
    assert made.card.classes == ("striped", "plain")
    assert native_network(made.classifier).settings.outputs == 1
    assert made.card.metrics["val"]["by_class"].keys() == {"striped", "plain"}
    again = train(data, tmp_path / "two", target="plain", **STRANGER, arguments={"classes": 2})
    chips = torch.randn(3, 3, 64, 64)
    logits = again.classifier.network(chips)
    assert torch.allclose(again.classifier(chips), logits[:, 1] - logits[:, 0], atol=1e-6)


def test_pictures_that_do_not_halve_are_refused(tmp_path):
    data = build_pictures(tmp_path / "data", side=72, each=1)
    with pytest.raises(RequestError, match=r"72 x 72 pixels; expected a multiple of 16, at least 64"):
        train(data, tmp_path / "run", target="plain", changes=["recipe.batch=2"])


def test_classes_beside_anthroprotects_table(tiny_data, tmp_path):
    import shutil

    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    files = pd.read_csv(root / "infos.csv")["file"]
    names = [["mire", "forest", "fields"][i % 3] for i in range(len(files))]
    pd.DataFrame({"file": files, "class": names}).to_csv(root / "classes.csv", index=False)
    made = train(root, tmp_path / "run", target="forest")
    assert made.card.classes == ("fields", "mire", "forest")
    assert made.card.bands == ("B02", "B03", "B04")
    pd.DataFrame({"file": files[:-1], "class": names[:-1]}).to_csv(root / "classes.csv", index=False)
    with pytest.raises(RequestError, match="leaves tiles without a class"):
        train(root, tmp_path / "other", target="forest")


def test_bands_of_pictures_are_not_mapped(three, tmp_path):
    with pytest.raises(RequestError, match="red"):
        spacex.plan(catalogue="demo", checkpoint=three[1], output=str(tmp_path / "x.zarr"))


def test_a_checkpoint_is_told_other_data(three, tiny_data, pictures, tmp_path):
    made, _ = three
    with pytest.raises(RequestError, match=r"classes.csv cannot be read"):
        spacex.train_gan(str(tiny_data), made.uri, str(tmp_path / "x"), **QUIET)
    with pytest.raises(RequestError, match="unknown bands: got B04"):
        train(pictures, tmp_path / "y", bands=("B04",), target="plain")


def test_what_three_classes_are_measured_by():
    """Worked by hand: of a 2 of 3 are right, of b 1 of 1, c has no chip."""
    logits = torch.tensor([[3.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 3, 0]])
    told = multiclass_metrics(logits, torch.tensor([0.0, 0, 0, 1]), ("a", "b", "c"))
    assert told["accuracy"] == 0.75
    assert told["by_class"]["a"] == pytest.approx(2 / 3)
    assert told["by_class"]["b"] == 1
    assert np.isnan(told["by_class"]["c"])
    assert told["confusion"]["a"] == {"a": 2, "b": 1, "c": 0}


def test_partners_are_of_any_other_class():
    label = torch.tensor([0, 0, 1, 2, 2, 2])
    for seed in range(20):
        partner = draw_partners(label, torch.Generator().manual_seed(seed))
        assert (label[partner] != label).all()


def test_the_card_says_nothing_of_classes_where_there_are_none(tiny_data, tmp_path):
    train(tiny_data, tmp_path)
    plain = json.loads((tmp_path / "card.json").read_text())
    assert not {"classes", "target", "features"} & plain.keys()
    assert "outputs" not in plain["classifier"]
    run = json.loads((tmp_path / "state" / "run.json").read_text())
    assert "trust" not in run
    assert "target" not in run["source"]
    assert load_checkpoint(tmp_path).trust == ()
