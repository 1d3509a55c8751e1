"""A classifier's run on a small set of EuroSAT's form: what its card says."""

from __future__ import annotations

import pytest
from small_eurosat import COLOURS, build_eurosat

from spacex.errors import CheckpointError, RequestError
from spacex.training.classifier_run import ClassifierRun, learn_classifier, prepare_classifier
from spacex.training.data import DatasetSettings
from spacex.training.presets import ClassifierRecipe


def test_mosaics_of_a_batch_need_a_network_of_any_size_and_four_chips_each(tmp_path):
    source = DatasetSettings(root=f"eurosat:{build_eurosat(tmp_path, each=12)}", bands=("B04", "B03", "B02"))
    run = ClassifierRun(source=source, output=str(tmp_path / "run"), recipe=ClassifierRecipe(mosaics=0.5, batch=8))
    with pytest.raises(CheckpointError, match="cannot take chips of 3 bands and 128 x 128 pixels"):
        prepare_classifier(run)
    network = {"network": "spacex.models.residual:ResidualNetwork", "arguments": {"widths": [4, 8]}}
    sized = ClassifierRun.model_validate(run.model_dump() | {"network": network})
    prepare_classifier(sized)
    with pytest.raises(RequestError, match=r"mosaics of 2 x 2: got batch 6; expected a multiple of 4"):
        prepare_classifier(sized.model_copy(update={"recipe": ClassifierRecipe(mosaics=0.5, batch=6)}))


@pytest.mark.parametrize(("mosaic", "side"), [(1, 64), (2, 128)])
def test_the_card_tells_of_places_of_every_class_and_of_shares(mosaic, side, tmp_path):
    import spacex

    root = build_eurosat(tmp_path / "chips", each=24)
    recipe = ClassifierRecipe(batch=8, epochs=3, rate=0.01, loss="bce", cutmix=0.0, average=0.5)
    source = DatasetSettings(root=f"eurosat:{root}", bands=("B04", "B03", "B02"), mosaic=mosaic)
    network = {"network": "spacex.models.residual:ResidualNetwork", "arguments": {"widths": [4, 8]}}
    run = ClassifierRun(source=source, output=str(tmp_path / "run"), recipe=recipe)
    list(learn_classifier(ClassifierRun.model_validate(run.model_dump() | {"network": network})))
    card = spacex.load_checkpoint(str(tmp_path / "run")).card
    assert card.chip_size == side
    assert card.data["name"] == "eurosat:chips"
    assert card.data["split"].startswith("by place")
    assert card.data.get("mosaic", 1) == mosaic
    assert "not protection" in card.meaning
    test = card.metrics["test"]
    assert test["auroc"] > 0.9  # dark forest and water against bright fields and roofs
    if mosaic == 1:
        assert set(test["taken_for_natural"]) == set(COLOURS)
    else:
        assert test["correlation"] > 0.7
