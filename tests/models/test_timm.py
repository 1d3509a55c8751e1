"""timm's networks, where timm can be imported; it is no dependency, for its torchvision must fit the build of torch."""

from __future__ import annotations

import pytest
import timm_networks
import torch

from spacex.attribution.lift import check_lift
from spacex.checkpoint import Card, Scaling, load_checkpoint, save_checkpoint
from spacex.evaluation.methods.chip_batch import has_lift
from spacex.evaluation.methods.selection import all_methods
from spacex.models.classes import BinaryView
from spacex.models.features import feature_modules
from spacex.models.third_party import ThirdPartySettings, network_builder

try:
    timm_networks.import_timm()
except Exception as error:  # torchvision built for another torch raises what it likes
    pytest.skip(f"timm cannot be imported ({error})", allow_module_level=True)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet10t", ("conv1", "layer1", "layer2", "layer3", "layer4")),
        ("mobilenetv3_small_050", ("conv_stem", *(f"blocks.{i}" for i in range(6)))),
        ("vit_tiny_patch16_224", ("patch_embed.proj",)),
    ],
)
def test_a_network_of_timm_needs_no_trust(name, stages, tmp_path):
    side = 224 if "224" in name else 64
    settings = ThirdPartySettings(network="timm:create_model", arguments={"model_name": name, "num_classes": 1})
    card = Card(
        kind="classifier", bands=("B02", "B03", "B04"), scaling=Scaling.identity(3), classifier=settings,
        chip_size=side, frame=8, stride=32,
    )  # fmt: skip
    save_checkpoint(tmp_path, card, {"classifier": network_builder(settings)()})
    again = load_checkpoint(tmp_path)
    assert again.classifier(torch.zeros(2, 3, side, side)).shape == (2,)
    assert again.classifier.features == stages
    assert len(feature_modules(again.classifier)) == len(stages)
    assert has_lift(again)  # max pooling; squeeze and excitation; layer norm and attention
    assert {"gradcam-first", "gradcam-last", "deeplift"} <= {method.name for method in all_methods(again)}


@pytest.mark.slow
@pytest.mark.parametrize("name", timm_networks.NETWORKS)
def test_lift_is_complete_on_every_family(name):
    network, side = timm_networks.build(name)
    record = check_lift(BinaryView(network).eval(), 3, side)
    assert record.miss <= 1e-4
    assert record.quadrature == ()
