"""The certificate: its numbers against independent computations, where it is kept, and who shows it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

import spacex
from spacex.api import evaluation
from spacex.attribution.attributor import Attributor
from spacex.bootstrap import draw
from spacex.certificate import Certificate, Check
from spacex.checkpoint import load_checkpoint, save_checkpoint
from spacex.errors import RequestError
from spacex.evaluation import certify
from spacex.training.data import DatasetSettings, open_split


@pytest.fixture(scope="module")
def demo(fresh_chips):
    """The embedded weights, chips of a country they have not seen, and what certifies them there."""
    checkpoint = load_checkpoint("demo")
    source = DatasetSettings(root=str(fresh_chips), bands=checkpoint.card.bands)
    return checkpoint, open_split(source, "test"), certify.certify(checkpoint, source)


def check(certificate, start):
    return next(one for one in certificate.checks if one.name.startswith(start))


def test_scores_are_what_the_classifier_gives(demo):
    checkpoint, test, certificate = demo
    x, truth = test.__getitems__(test.all)
    scores = spacex.score(x.numpy(), checkpoint=checkpoint)
    assert certificate.chips == len(test)
    assert check(certificate, "AUROC").value == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert check(certificate, "accuracy").value == pytest.approx(np.mean((scores > 0.5) == truth.numpy()))


def test_generators_turn_what_they_turn(demo):
    checkpoint, test, certificate = demo
    networks = Attributor(checkpoint, ("attribution",))
    for start, chips, natural, change in (
        ("x- turns", test.natural, True, networks.delta_minus),
        ("x+ turns", test.unnatural, False, networks.delta_plus),
    ):
        u = networks.standardise(test.__getitems__(chips)[0].numpy())
        before, after = networks.score(u).logit > 0, networks.score(u + change(u)).logit > 0
        turned = (before != after)[before == natural]
        assert check(certificate, start).value == pytest.approx(float(turned.float().mean()))


def test_haze_is_told_by_its_dissimilarity(demo):
    checkpoint, test, certificate = demo
    networks, (x, _) = Attributor(checkpoint, ()), test.__getitems__(test.all)
    seen = [networks.score(networks.standardise(part.numpy())).dissimilarity for part in (x, 0.6 * x + 0.15)]
    labels = torch.tensor([0, 1]).repeat_interleave(len(x))
    ranks = torch.cat(seen).argsort().argsort() / len(labels)  # the function squashes what is not in 0..1
    assert check(certificate, "AUROC of heavy haze").value == pytest.approx(
        float(binary_auroc(ranks, labels)), abs=1e-4
    )
    outside = check(certificate, "test chips outside").value
    assert outside == pytest.approx(float((seen[0] > 1).float().mean()))


def test_what_was_not_measured_has_a_reason(demo, tiny_checkpoint, fresh_chips, tmp_path):
    assert set(demo[2].missing) == {"planted shortcut"}
    alone = tiny_checkpoint.card.model_copy(update={"kind": "classifier", "generator": None, "hashes": {}})
    bare = save_checkpoint(tmp_path / "bare", alone, {"classifier": tiny_checkpoint.classifier})
    certificate = certify.certify(bare, DatasetSettings(root=str(fresh_chips), bands=bare.card.bands))
    assert set(certificate.missing) == {"planted shortcut", "applicability", "maps"}
    assert [one.name for one in certificate.checks] == ["AUROC", "accuracy"]
    assert certificate.collapsed == ""
    # a further classifier, and generators whose training says that they do nothing
    first, figures = tiny_checkpoint.classifier, {"z": 4.0, "z_minus": 3.999, "z_plus": 6.0, "change_minus": 0.0}
    modules = tiny_checkpoint.modules
    metrics = tiny_checkpoint.card.metrics | {"patterns": {"test": figures}}
    card = tiny_checkpoint.card.model_copy(update={"hashes": {}, "metrics": metrics})
    several = replace(save_checkpoint(tmp_path / "several", card, modules), further=(first, first))
    certificate = certify.certify(several, DatasetSettings(root=str(fresh_chips), bands=card.bands))
    assert certificate.missing["further classifiers"] == "all checks are of the first of 3, of which maps are drawn"
    assert "its generators collapsed: no score change, the minimiser lowers the mean logit by 0.001" in certificate.line


def test_a_doubt_is_told_at_the_end_of_a_training(tiny_checkpoint, monkeypatch):
    bad = Certificate(data="demo", chips=8, places=4, checks=(Check(name="AUROC", value=0.18, low=0.03, high=0.47),))
    monkeypatch.setattr(evaluation, "measure", lambda *_: bad)
    monkeypatch.setattr(evaluation, "write_card", lambda *_: None)
    told = []
    source = DatasetSettings(root="demo", bands=tiny_checkpoint.card.bands)
    evaluation.keep_certificate(tiny_checkpoint, source, told.append)
    assert told == ["doubtful: its scores may be no better than chance"]


def test_the_colour_control_sees_colour_and_nothing_else():
    class Land:
        natural, unnatural = [*range(40)], [*range(40, 80)]

        def __len__(self):
            return 80

        def __getitem__(self, index):
            noise = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(index)) * 0.01
            return noise + (0.3 if index < 40 else 0.1), torch.tensor(float(index < 40))

    control = certify._colour_control(Land())
    bright, dark = torch.full((1, 1, 8, 8), 0.3), torch.full((1, 1, 8, 8), 0.1)
    spread = torch.randn(1, 1, 8, 8) * 0.01
    seen = control(certify._colours(torch.cat([bright + spread, dark + spread, (bright + spread).flip(-1)])))
    assert seen[0] > 0.9
    assert seen[1] < 0.1
    assert seen[0] == seen[2]  # turned round, with the same colours


def test_a_share_lies_where_it_lies():
    inside = torch.zeros(1, 4, 4, dtype=torch.bool)
    inside[:, :2] = True
    maps = torch.where(inside, 0.4, 0.1)
    assert certify._share(maps, inside) == pytest.approx(0.8)
    assert certify._share(torch.zeros(1, 4, 4), inside) == 0


def test_partners_are_neighbours(demo):
    test = demo[1]
    where = test.infos.assign(lat=60 + np.arange(len(test)) * 0.1, lon=20.0)
    test.infos, before = where, test.infos
    try:
        nearest = certify._nearest(test, test.natural, test.unnatural)
    finally:
        test.infos = before
    for chip, partner in zip(test.natural, nearest, strict=True):
        assert abs(chip - partner) == min(abs(chip - other) for other in test.unnatural)


def test_intervals_are_by_place_and_none_where_there_is_one_place():
    values = np.array([1.0, 1.0, 0.0, 0.0])
    wide = certify._mean("share", values, draw(["a", "a", "b", "b"]))
    assert (wide.value, wide.low, wide.high) == (0.5, 0.0, 1.0)
    assert certify._mean("share", values, draw(["a"] * 4)).low is None


def test_the_card_keeps_it_and_maps_stay_the_same(tiny_checkpoint, fresh_chips, tmp_path, capsys):
    modules = tiny_checkpoint.modules
    card = tiny_checkpoint.card.model_copy(update={"hashes": {}})
    saved = save_checkpoint(tmp_path / "run", card, modules, tiny_checkpoint.applicability)
    certificate = spacex.certify(str(tmp_path / "run"), str(fresh_chips))
    kept = load_checkpoint(tmp_path / "run")
    assert kept.card.certificate == certificate
    assert kept.digest == saved.digest
    assert kept.card.model_copy(update={"certificate": None}) == saved.card
    assert "certificate: scores of" in capsys.readouterr().err
    with pytest.raises(RequestError, match="ships"):
        spacex.certify("europe", str(fresh_chips))
