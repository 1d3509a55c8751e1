"""What is evaluated is what maps: the numbers of the tables come from the code that draws the maps, bit by bit."""

import numpy as np
import pandas as pd
import pytest
import torch

from spacex.attribution.attributor import Attributor
from spacex.attribution.names import MAP_NAMES
from spacex.evaluation import metrics
from spacex.evaluation.evaluate import EvaluationRequest, evaluate
from spacex.evaluation.masks import TRUTH
from spacex.evaluation.methods.chip_batch import ChipBatch, supported_maps
from spacex.evaluation.methods.counterfactual import counterfactual_methods
from spacex.evaluation.rows import regions
from spacex.evaluation.run import EvaluationSettings
from spacex.evaluation.samples import LandCoverSource

METHOD_OF = {"attribution": "attribution", "lift": "lift", "path_attribution": "path"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_map_is_the_mappings_to_the_bit(tiny_checkpoint, precision):
    """Chips by themselves, and chips whose x− comes from elsewhere, as in a map of windows."""
    x = np.random.default_rng(0).random((3, 3, 256, 256), dtype=np.float32) * 0.2
    networks = Attributor(tiny_checkpoint, MAP_NAMES, steps=2, precision=precision)
    chips = ChipBatch.of(tiny_checkpoint, torch.from_numpy(x), "abc", steps=2, precision=precision)
    methods = {method.name: method for method in counterfactual_methods(tiny_checkpoint)}
    assert supported_maps(tiny_checkpoint) == MAP_NAMES
    mapped = networks(x)
    classified = networks.classify(x, chips.delta_minus.numpy())()
    assert mapped.maps.keys() == METHOD_OF.keys()
    for name, values in mapped.maps.items():
        evaluated = methods[METHOD_OF[name]](chips).numpy()
        np.testing.assert_array_equal(evaluated, values, err_msg=name)
        if name != "attribution":
            np.testing.assert_array_equal(evaluated, classified.maps[name], err_msg=name)
    np.testing.assert_array_equal(chips.score.numpy(), mapped.score)
    np.testing.assert_array_equal(chips.dissimilarity.numpy(), mapped.dissimilarity)


def test_the_rows_are_measured_on_the_maps_and_every_chip_is_classified_once(
    fresh_chips, sure_checkpoint, tmp_path, monkeypatch
):
    classified = []
    for name in ("lift", "score"):
        original = getattr(Attributor, name)

        def counting(self, u, *more, original=original):
            classified.append(len(u))
            return original(self, u, *more)

        monkeypatch.setattr(Attributor, name, counting)
    settings = EvaluationSettings(methods=("lift", "attribution"), limit=4, batch=4, perturbed=0, sanity_chips=0)
    monkeypatch.setattr("spacex.evaluation.run.Evaluation._examine_counterfactuals", lambda *_: None)
    monkeypatch.setattr("spacex.evaluation.gallery.EACH", 0)
    request = EvaluationRequest(
        data=str(fresh_chips), output=str(tmp_path), checkpoint=sure_checkpoint.uri, settings=settings
    )
    evaluate(request)
    assert sum(classified) == 4
    rows = pd.read_parquet(tmp_path / "chips.parquet").set_index(["method", "file"])
    monkeypatch.undo()

    source = LandCoverSource(fresh_chips, sure_checkpoint.card.bands, "test", limit=4)
    samples = next(source.batches(4))
    samples = samples.pick(np.logical_or.reduce([region.usable for region in regions(samples, source.definitions)]))
    mapped = Attributor(sure_checkpoint)(samples.x.numpy())
    (region,) = regions(samples, [TRUTH])
    for name in ("lift", "attribution"):
        order = metrics.sort(mapped.maps[name].reshape(len(samples), -1))
        expected = metrics.auroc(metrics.rank(order, region.inside, region.valid))
        for index, file in enumerate(samples.files):
            assert rows.loc[(name, file), "score"] == mapped.score[index]
            if region.usable[index]:
                assert rows.loc[(name, file), "auroc"] == expected[index]
