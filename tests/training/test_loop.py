import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spacex import load_checkpoint
from spacex.errors import CheckpointError, RequestError
from spacex.models.classifier import ClassifierSettings
from spacex.models.generator import Generator
from spacex.training.classifier_run import ClassifierRun, learn_classifier
from spacex.training.data import DatasetSettings, band_statistics, open_split
from spacex.training.distributed import Distributed
from spacex.training.gan_run import PatternRun, learn_patterns
from spacex.training.overrides import with_overrides
from spacex.training.presets import PRESETS, ClassifierRecipe
from spacex.training.state import RunStore

BANDS = ("B02", "B03", "B04")
SMALL = ["generator.base=4", "generator.blocks=1", "generator.downs=1", "generator.stem=3", "warmup=0", "batch=2"]


@pytest.fixture(scope="module")
def classifier_run(tiny_data, tmp_path_factory):
    """A finished classifier's run of three epochs."""
    run = _classifier(tiny_data, str(tmp_path_factory.mktemp("runs") / "classifier"))
    epochs = list(learn_classifier(run))
    return run, epochs


@pytest.fixture(scope="module")
def reflectance_run(tiny_data, tmp_path_factory):
    """A classifier that sees plain reflectance, as imported ones do."""
    output = str(tmp_path_factory.mktemp("runs") / "plain")
    recipe = {"units": "reflectance", "recipe": ClassifierRecipe(batch=4, epochs=1)}
    run = _classifier(tiny_data, output).model_copy(update=recipe)
    list(learn_classifier(run))
    return run


def _classifier(data, output, **source):
    return ClassifierRun(
        source=DatasetSettings(root=str(data), bands=BANDS, **source),
        output=output,
        recipe=ClassifierRecipe(batch=4, epochs=3),
        network=ClassifierSettings(base=2, levels=2),
    )


def _patterns(classifier, output, preset="delta", epochs=3, **settings):
    chosen = with_overrides(PRESETS[preset], [*SMALL, f"epochs={epochs}"])
    return PatternRun(source=classifier.source, output=output, classifier=classifier.output, preset=chosen, **settings)


def _weights(folder):
    return {p.name.rsplit("-", 1)[0]: load_file(p) for p in sorted(folder.glob("*.safetensors"))}


def _same(a, b):
    return all(torch.equal(a[part][name], b[part][name]) for part in a for name in a[part])


def test_a_classifier_run_ends_with_a_checkpoint_that_says_what_it_is(classifier_run):
    run, epochs = classifier_run
    card = load_checkpoint(run.output, bands=BANDS).card
    assert [e.number for e in epochs] == [1, 2, 3]
    assert card.kind == "classifier"
    assert set(card.metrics) == {"train", "val", "test"}
    table = card.metrics["test"]["confusion"]
    assert sum(sum(row.values()) for row in table.values()) == card.metrics["test"]["chips"] == 4
    assert card.data["chips"]["train"] == {"natural": 4, "unnatural": 4}
    assert card.data["split_hash"]
    assert card.training["recipe"]["batch"] == 4
    assert card.training["seconds"] > 0


def test_a_finished_run_does_nothing_again(classifier_run):
    run, _ = classifier_run
    assert list(learn_classifier(run)) == []


def test_another_request_in_the_same_place_is_refused_and_named(classifier_run):
    run, _ = classifier_run
    with pytest.raises(RequestError, match=r"seed=9.*seed=0"):
        next(learn_classifier(run.model_copy(update={"seed": 9})))


@pytest.mark.parametrize("preset", ["delta", "class-difference"])
def test_killed_and_resumed_equals_uninterrupted(classifier_run, preset, tmp_path):
    whole, broken = (_patterns(classifier_run[0], str(tmp_path / name), preset) for name in ("whole", "broken"))
    list(learn_patterns(whole))
    first = learn_patterns(broken)
    next(first)
    torch.rand(7)  # whatever else happens in a process
    first.close()  # killed in its second epoch
    torch.manual_seed(99)
    assert [epoch.number for epoch in learn_patterns(broken)] == [2, 3]
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "broken"))


def test_a_killed_classifier_resumes_its_random_occlusion_too(tiny_data, tmp_path):
    runs = [_classifier(tiny_data, str(tmp_path / name)) for name in ("whole", "broken")]
    list(learn_classifier(runs[0]))
    first = learn_classifier(runs[1])
    next(first)
    first.close()
    torch.manual_seed(99)
    list(learn_classifier(runs[1]))
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "broken"))


def test_state_lives_at_any_uri(classifier_run):
    run = _patterns(classifier_run[0], "memory://runs/gan", epochs=2)
    first = learn_patterns(run)
    next(first)
    first.close()
    assert [epoch.number for epoch in learn_patterns(run)] == [2]
    checkpoint = load_checkpoint("memory://runs/gan", bands=BANDS)
    assert checkpoint.card.kind == "patterns"
    assert checkpoint.card.training["patterns"]["preset"]["margin_minus"] == run.preset.margin_minus


def test_new_generators_for_old_ones_classifier_tell_of_the_classifier_alone(classifier_run, tmp_path):
    first = _patterns(classifier_run[0], str(tmp_path / "first"), epochs=1)
    list(learn_patterns(first))
    again = first.model_copy(update={"classifier": first.output, "output": str(tmp_path / "again")})
    list(learn_patterns(again))
    told = [load_checkpoint(run.output, bands=BANDS).card for run in (first, again)]
    assert told[0].metrics["classifier"] == told[1].metrics["classifier"]
    assert told[0].training["classifier"] == told[1].training["classifier"]


def test_damaged_state_is_refused(classifier_run, tmp_path):
    run = _patterns(classifier_run[0], str(tmp_path / "gan"))
    first = learn_patterns(run)
    next(first)
    first.close()
    pointer = json.loads((tmp_path / "gan/state/latest.json").read_text())
    file = tmp_path / "gan/state" / pointer["folder"] / "rank-0.pt"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        next(learn_patterns(run))
    file.unlink()
    with pytest.raises(CheckpointError, match=r"rank-0.pt is damaged.*Delete .*state to start afresh"):
        next(learn_patterns(run))
    for name, content in (("latest.json", ""), ("latest.json", "{}"), ("run.json", "["), ("run.json", "[]")):
        (tmp_path / "gan/state" / name).write_text(content)
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            next(learn_patterns(run))


def test_only_two_states_are_kept(classifier_run, tmp_path):
    run = _patterns(classifier_run[0], str(tmp_path / "gan"), epochs=4)
    list(learn_patterns(run))
    kept = [path.name for path in (tmp_path / "gan/state").iterdir() if path.is_dir()]
    assert sorted(name[:5] for name in kept) == ["00003", "00004"]


def test_the_log_holds_every_term_gradient_score_and_change(classifier_run, tmp_path):
    run = _patterns(classifier_run[0], str(tmp_path / "gan"), "class-difference", epochs=1, pictures_every=2)
    list(learn_patterns(run))
    rows = [json.loads(line) for line in (tmp_path / "gan/log/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    for side in ("maximiser", "minimiser"):
        for term in ("similarity", "activation", "adversary"):
            assert f"loss/{term}/{side}" in rows[0]
            assert f"grad/{term}/{side}" in rows[0]
    assert {"score/x", "score/plus", "score/minus", "change/plus", "change/minus"} <= rows[0].keys()
    assert (tmp_path / "gan/log/step-000002.png").stat().st_size > 1000
    assert list((tmp_path / "gan/log").glob("events.out.*"))


def test_a_run_and_its_data_may_move_but_other_data_and_classifiers_are_refused(classifier_run, tiny_data, tmp_path):
    run = _patterns(classifier_run[0], str(tmp_path / "gan"))
    first = learn_patterns(run)
    next(first)
    first.close()
    for source, to in ((tmp_path / "gan", "moved"), (Path(classifier_run[0].output), "judge"), (tiny_data, "data")):
        shutil.copytree(source, tmp_path / to)
    source = run.source.model_copy(update={"root": str(tmp_path / "data")})
    places = {"source": source, "output": str(tmp_path / "moved"), "classifier": str(tmp_path / "judge")}
    moved = run.model_copy(update=places)
    again = learn_patterns(moved)
    assert next(again).number == 2
    again.close()
    infos = tmp_path / "data/infos.csv"
    infos.write_text("".join(infos.read_text().splitlines(keepends=True)[:-1]))  # the last test chip is gone
    with pytest.raises(RequestError, match="digest of data"):
        next(learn_patterns(moved))
    other = _classifier(tiny_data, str(tmp_path / "other")).model_copy(update={"seed": 5})
    list(learn_classifier(other))
    with pytest.raises(RequestError, match="digest of classifier 0"):
        next(learn_patterns(run.model_copy(update={"classifier": other.output})))


def test_what_all_processes_know_is_written_by_the_first_one_alone(tmp_path):
    class Second(Distributed):
        def broadcast(self, value):
            return value

        def gather_objects(self, value):
            return [value]

        def barrier(self):
            pass

    RunStore(str(tmp_path), Second(rank=1, size=2)).save(1, {"weights": torch.zeros(1000, 1000)}, {"pools": {}})
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.name for file in files] == ["rank-1.pt"]
    assert files[0].stat().st_size < 100_000


def test_a_long_epoch_says_how_far_it_is(classifier_run, tmp_path, monkeypatch):
    monkeypatch.setattr("spacex.training.loop.PROGRESS_S", 0)
    lines = []
    list(learn_patterns(_patterns(classifier_run[0], str(tmp_path), epochs=1), progress=lines.append))
    assert lines[0] == "training 1 epochs of 2 steps"
    assert lines[1].startswith("epoch 1/1  step 1/2  ")


def test_the_shortest_run_of_the_paper_trains_the_activation_and_is_checked_and_shown(reflectance_run, tmp_path):
    run = _patterns(reflectance_run, str(tmp_path / "gan"), "paper", epochs=1)
    run = run.model_copy(update={"preset": with_overrides(run.preset, ["discriminator.base=4", "pool=2"])})
    (epoch,) = learn_patterns(run)
    assert "loss/activation/minimiser" in epoch.metrics
    assert "collapsed" in epoch.warning
    assert list((tmp_path / "gan/log").glob("step-*.png"))  # although the run is shorter than `pictures_every`


def test_delta_explains_a_classifier_of_reflectance_in_standard_deviations(reflectance_run, tmp_path):
    run = _patterns(reflectance_run, str(tmp_path / "gan"), epochs=1)
    list(learn_patterns(run))
    made, statistics = load_checkpoint(run.output), band_statistics(open_split(run.source, "train"))
    assert set(made.card.scaling.std) == {1.0}
    assert (made.minimiser.settings.mean, made.minimiser.settings.std) == (statistics.mean, statistics.std)
    # the same weights give the same change, as reflectance
    trained = made.card.generator.model_copy(update={"mean": (), "std": ()})
    weights = {name: torch.randn_like(values) for name, values in made.minimiser.state_dict().items()}
    alone, inside = made.minimiser, Generator(trained).eval()
    for network in (alone, inside):
        network.load_state_dict(weights)
    chips = open_split(run.source, "val")
    x = torch.stack([chips[index][0] for index in chips.natural])
    with torch.no_grad():
        change, expected = alone.delta(x), statistics.restore_change(inside.delta(statistics.standardise(x)))
    torch.testing.assert_close(change, expected)
    # the limit of 3 counts in standard deviations of a band, some .02 of reflectance
    torch.testing.assert_close(change.abs().amax((0, 2, 3)), 3 * torch.tensor(statistics.std), rtol=1e-3, atol=0)


def test_limit_bands_and_unit_are_respected(classifier_run, tiny_data, tmp_path):
    run = _classifier(tiny_data, str(tmp_path / "few"), limit=4)
    list(learn_classifier(run.model_copy(update={"recipe": ClassifierRecipe(batch=2, epochs=1)})))
    assert load_checkpoint(tmp_path / "few").card.data["chips"]["train"] == {"natural": 2, "unnatural": 2}
    other = run.source.model_copy(update={"bands": ("B08", "B03", "B04")})
    wrong = _patterns(classifier_run[0], str(tmp_path / "x")).model_copy(update={"source": other})
    with pytest.raises(RequestError, match="other bands"):
        next(learn_patterns(wrong))
    with pytest.raises(RequestError, match="sees standardised bands"):
        next(learn_patterns(_patterns(classifier_run[0], str(tmp_path / "y"), "paper")))
