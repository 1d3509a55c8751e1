from importlib import import_module

import pytest
import torch

from spacex import load_checkpoint
from spacex.api.training import _common, share_batch
from spacex.commands.app import invoke
from spacex.training.batches import EpochOrder
from spacex.training.classifier_run import ClassifierRun
from spacex.training.data import DatasetSettings
from spacex.training.distributed import Distributed
from spacex.training.gan_run import PatternRun
from spacex.training.presets import PRESETS


@pytest.fixture
def job(capsys):
    """Runs a job as the shell would: exit code, stdout and stderr."""

    def run(name, *arguments):
        code = invoke(import_module(f"spacex.commands.{name}").app, [*map(str, arguments)], name)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_both_jobs_end_to_end(job, tiny_data, tmp_path):
    first = ("--data", tiny_data, "--output", tmp_path / "classifier", "--base", 2, "--epochs", 1)
    code, out, err = job("train_classifier", *first, "--set", "recipe.batch=4", "--set", "network.levels=2")
    assert (code, out) == (0, f"checkpoint: {tmp_path / 'classifier'}\n")
    assert "epoch 1/1" in err
    assert "accuracy" in err
    small = [f"--set=generator.{name}" for name in ("base=4", "blocks=1", "downs=1", "stem=3")]
    second = ("--data", tiny_data, "--classifier", tmp_path / "classifier", "--output", tmp_path / "gan")
    code, out, err = job("train_gan", *second, "--epochs", 1, "--limit", 4, "--set", "batch=2", *small)
    assert (code, out) == (0, f"checkpoint: {tmp_path / 'gan'}\n")
    learned, made = load_checkpoint(tmp_path / "classifier"), load_checkpoint(tmp_path / "gan")
    card = made.card
    assert card.preset == "delta"
    # where the classifier applies is learned with it, and goes on to the patterns
    assert card.applicability == learned.card.applicability
    assert card.applicability.chips >= 4
    ours, theirs = (one.applicability.tensors() for one in (made, learned))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert card.generator.base == 4
    assert str(tmp_path) not in card.model_dump_json()  # no machine's folders in what is passed on


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("train_classifier", ["--data", "/nowhere"], "no folder /nowhere"),
        ("train_classifier", ["--data", ".", "--bands", "B99"], "unknown bands"),
        ("train_classifier", ["--data", ".", "--limit", "1"], "greater than or equal to 2"),
        ("train_classifier", ["--data", ".", "--set", "recipe.bogus=1"], "no setting 'recipe.bogus'"),
        ("train_classifier", ["--data", ".", "--workers", "-1"], "greater than or equal to 0"),
        ("train_gan", ["--data", ".", "--classifier", "/nowhere"], "no checkpoint at /nowhere"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(job, name, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = job(name, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train_classifier", "train_gan"])
def test_ctrl_c_ends_in_a_line_and_with_its_exit_code(job, name, tiny_checkpoint, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"spacex.api.training.{name}", interrupt)
    classifier = ("--classifier", tiny_checkpoint.uri) if name == "train_gan" else ()
    code, out, err = job(name, "--data", "demo", *classifier)
    assert (code, out) == (130, "")
    assert "finished epochs are safe. The same command resumes" in err


@pytest.mark.parametrize("workers", range(1, 10))
def test_any_number_of_workers_shares_the_batch_of_every_preset_equally(workers):
    source, lines = DatasetSettings(root="", bands=("B02",)), []
    runs = [ClassifierRun(source=source, output="")]
    runs += [PatternRun(source=source, output="", classifier="", preset=preset) for preset in PRESETS.values()]
    for run in runs:
        shared = share_batch(run, workers, lines.append)
        before, after = (getattr(one, "recipe", None) or one.preset for one in (run, shared))
        order = EpochOrder(range(100), after.batch, 0, Distributed(size=workers))
        assert len(next(iter(order))) == after.batch / workers
        assert (after != before) == (before.batch % workers > 0)
        assert before.batch <= after.batch < before.batch + workers
    assert bool(lines) == (workers > 1)


@pytest.mark.parametrize(("asked", "readers"), [({}, 0), ({"gpu": True}, 3), ({"gpu": True, "readers": 0}, 0)])
def test_a_gpu_is_fed_by_processes_that_read_ahead(asked, readers, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    settings = {"gpu": False, "readers": None, "trust": (), "seed": 0, **asked}
    assert _common(settings, "runs/x")["readers"] == readers


@pytest.mark.parametrize("name", ["train_classifier", "train_gan"])
def test_help_explains_presets_resuming_and_exit_codes(job, name):
    code, out, _ = job(name, "--help")
    assert code == 0
    for word in ("--epochs", "--limit", "--seed", "--workers", "--gpu", "Exit code 2", "goes on"):
        assert word in out
