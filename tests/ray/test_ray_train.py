"""Two workers under Ray Train, one of which is killed in mid-epoch."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from spacex import load_checkpoint
from spacex.errors import RequestError, SpacexError
from spacex.training.data import DatasetSettings
from spacex.training.gan_run import PatternRun, learn_patterns
from spacex.training.overrides import with_overrides
from spacex.training.presets import DELTA

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SMALL = ["generator.base=4", "generator.blocks=1", "generator.downs=1", "generator.stem=3", "warmup=0", "batch=2"]


def _run(data, checkpoint, output):
    preset = with_overrides(DELTA, [*SMALL, "epochs=3"])
    source = DatasetSettings(root=str(data), bands=("B02", "B03", "B04"))
    return PatternRun(source=source, output=str(output), classifier=checkpoint.uri, preset=preset)


def _learn_and_die(run, team, progress):
    """The run, in which rank 1 is killed once, in the second step of its second epoch; notes every epoch begun."""
    from spacex.training import gan

    notes, step = Path(run.output).parent, gan.PatternLearner.step

    def dying(learner, *args, **kwargs):
        if team.rank == 1 and learner.step_number == 3 and not (notes / "died").exists():
            (notes / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if team.rank == 0:
            with (notes / "steps").open("a") as file:
                file.write(f"{learner.step_number}\n")
        return step(learner, *args, **kwargs)

    gan.PatternLearner.step = dying
    yield from learn_patterns(run, team, progress)


def test_a_killed_worker_costs_at_most_its_epoch_and_two_learn_what_one_does(
    cluster, tiny_data, tiny_checkpoint, tmp_path
):
    import ray

    from spacex.training.ray_train import train

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run = _run(tiny_data, tiny_checkpoint, tmp_path / "two")
    train(_learn_and_die, run, workers=2)

    steps = [int(line) for line in (tmp_path / "steps").read_text().split()]
    assert (tmp_path / "died").exists()
    assert steps[-4:] == [2, 3, 4, 5]  # the second epoch again, and the third
    assert steps.count(0) == steps.count(1) == 1  # the first epoch was not lost

    alone = run.model_copy(update={"output": str(tmp_path / "one")})
    list(learn_patterns(alone))
    two, one = (load_checkpoint(r.output).card.metrics["patterns"]["test"] for r in (run, alone))
    assert two == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_two_workers_train_several_classifiers_into_one_checkpoint(cluster, tiny_data, tmp_path, monkeypatch):
    from spacex.api import training

    monkeypatch.setattr(training, "keep_certificate", lambda *_: None)
    trained = training.train_classifier(
        str(tiny_data), str(tmp_path / "run"), workers=2, members=2, epochs=1, base=2,
        changes=["recipe.batch=4", "network.levels=2"], report=lambda epoch: None, progress=lambda line: None,
    )  # fmt: skip
    members, (second,) = trained.card.members, trained.further
    assert (members.count, members.seeds) == (2, (0, 1))
    assert members.test[0]["accuracy"] == pytest.approx(trained.card.metrics["test"]["accuracy"])
    own = load_checkpoint(tmp_path / "run" / "members" / "2")
    for network, same in ((own.classifier, True), (trained.classifier, False)):
        pairs = zip(network.state_dict().values(), second.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs) == same


def test_a_worker_s_own_error_reaches_the_caller():
    from spacex.training import ray_train

    inner, from_ray = RequestError("no such thing", do="Try another."), RuntimeError("boom")
    from_ray.worker_failures = {0: inner}

    def fail(error):
        raise error

    with pytest.raises(RequestError, match="no such thing"):
        ray_train.fit_until_done(lambda: fail(from_ray), lambda: 0, RuntimeError)
    with pytest.raises(SpacexError, match="last line"):
        ray_train.fit_until_done(lambda: fail(ValueError("first\nlast line")), lambda: 0, ValueError)


@pytest.mark.parametrize(("epochs", "survives"), [([1, 2, 3], True), ([1, 1, 3], False)])
def test_a_long_run_survives_many_deaths_as_long_as_it_gets_on(epochs, survives):
    from spacex.training.ray_train import fit_until_done

    done, left = [0], list(epochs)

    def fit():
        done[0] = left.pop(0)
        if left:
            raise RuntimeError("a worker died too often")

    if survives:
        fit_until_done(fit, lambda: done[0], RuntimeError)
        assert left == []
    else:
        with pytest.raises(SpacexError, match="died too often"):
            fit_until_done(fit, lambda: done[0], RuntimeError)
