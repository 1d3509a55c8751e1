"""Generators on larger chips than their classifier was trained on, where its network allows that."""

import pytest

import spacex
from spacex.errors import DataError
from tests.small_eurosat import build_eurosat

GENERATORS = ["batch=2", "generator.base=4", "generator.blocks=1", "generator.downs=1", "warmup=0"]


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return f"eurosat:{build_eurosat(tmp_path_factory.mktemp('eurosat'), each=24)}"


def test_a_network_that_averages_over_the_chip_maps_with_mosaics(chips, tmp_path):
    network = {"bands": 3, "widths": [4, 8]}
    spacex.train_classifier(
        chips, str(tmp_path / "classifier"), network="spacex.models.residual:ResidualNetwork", arguments=network,
        epochs=1, changes=["recipe.batch=8"],
    )  # fmt: skip
    trained = spacex.train_gan(
        chips, str(tmp_path / "classifier"), str(tmp_path / "gan"), mosaic=2, epochs=1, limit=12, changes=GENERATORS
    )
    card = trained.card
    assert (card.chip_size, card.frame, card.stride) == (128, card.frame, 128 - 2 * card.frame)
    # statistics of larger chips, not the classifier's own
    assert card.applicability.chips <= 12
    assert "forest, herbaceous vegetation" in card.meaning


def test_our_own_network_is_built_for_one_size(chips, tmp_path):
    spacex.train_classifier(
        chips, str(tmp_path / "classifier"), base=2, epochs=1, limit=8, changes=["recipe.batch=4", "network.levels=2"]
    )
    with pytest.raises(DataError, match="another size: got 128 pixels; expected 64"):
        spacex.train_gan(chips, str(tmp_path / "classifier"), str(tmp_path / "gan"), mosaic=2, epochs=1, limit=8)
