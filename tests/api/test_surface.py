"""`import spacex` is quick and shows verbs and nouns; every one of them has an example that runs."""

import doctest
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import spacex
from spacex.api.declaration import complete, declared
from spacex.api.map_settings import PlanSettings
from spacex.api.scenes import scene_fields
from spacex.errors import RequestError
from spacex.mapping.request import MapRequest
from spacex.sentinel2.scene_request import CompositeSettings, SceneRequest
from spacex.synthetic.country import demo_country
from spacex.synthetic.dataset import demo_dataset

VERBS = [name for name in spacex.__all__ if name != "__version__"]


def test_importing_is_quick_and_shows_no_plumbing():
    code = (
        "import time; begun = time.perf_counter(); import spacex; took = time.perf_counter() - begun\n"
        "print(took); print(*dir(spacex))"
    )
    out = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
           for _ in range(3)]  # fmt: skip
    assert min(float(lines[0]) for lines in out) < 0.1
    assert out[0][1].split() == sorted(spacex.__all__)


def test_every_name_is_there_typed_and_told():
    assert (Path(spacex.__file__).parent / "py.typed").exists()
    for name in VERBS:
        told = getattr(spacex, name)
        assert told.__doc__
        assert told.__annotations__["return"]
    with pytest.raises(AttributeError, match="no attribute 'ndvi'"):
        spacex.ndvi  # noqa: B018


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run: their `lapland.zarr` is there."""
    place = tmp_path_factory.mktemp("examples")
    spacex.map_region(catalogue="demo", bbox=(24.0, 67.95, 24.02, 67.96), output=str(place / "lapland.zarr"))
    return place


@pytest.mark.parametrize("name", VERBS)
def test_examples_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    # a landscape of seconds rather than minutes
    monkeypatch.setattr("spacex.synthetic.dataset.demo_dataset", partial(demo_dataset, "tiny"))
    monkeypatch.setattr("spacex.synthetic.country.demo_country", partial(demo_country, "tiny"))
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(spacex, name), name)
    assert test.examples, f"{name} has no example"
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_all_settings_of_a_request_can_be_given():
    """Under the same name, or under those that are made into it."""
    chips, days = {"maps", "stride"}, {"datetime"}
    composite = set(CompositeSettings.model_fields) - {"snow_is_clear", "min_sun_elevation"} | {"snow", "min_sun"}
    asked = set(MapRequest.model_fields) - {"chips", "intervals", "composite"} | chips | days | composite
    assert asked <= set(PlanSettings.__annotations__)
    assert set(PlanSettings.__annotations__) - asked == {
        "bbox", "output", "grow", "checkpoint", "gpu", "trust", "uncertainty",
    }  # fmt: skip


def test_requests_have_the_settings_defaults():
    """A request made without settings, by a benchmark or a test, asks for what the command asks for.

    Area, precision and catalogue are decided by what else is asked."""
    settings = declared(PlanSettings)
    for model in (SceneRequest, CompositeSettings, MapRequest):
        for name in model.model_fields.keys() & settings.keys() - {"area", "precision", "catalogue"}:
            assert model.model_fields[name].default == settings[name].setting.default, name
    asked = complete(PlanSettings, {"bbox": (24.0, 67.9, 24.4, 68.0), "output": "map.zarr"})
    assert scene_fields(asked, archive=lambda: pytest.fail("only the demo has one"))["catalogue"] == "earth-search"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bbox": (24.0, 67.9, 24.4, 68.0), "area": "finland"}, "which region"),
        ({"bbox": (24.0, 67.9, 24.4)}, "west, south, east, north"),
        ({"bbox": (24.4, 67.9, 24.0, 68.0)}, "west edge east"),
        ({"output": "map.tif"}, r"\.zarr"),
        ({"stride": 7}, "stride"),
        ({"maps": ["ndvi"]}, "unknown map"),
        ({"max_cloud_cover": 200}, "max cloud cover|max_cloud_cover"),
    ],
)
def test_a_wrong_request_is_one_clear_line(wrong, message):
    with pytest.raises(RequestError, match=message) as caught:
        spacex.plan(**{"catalogue": "demo", "output": "map.zarr", **wrong})
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="which days"):
        spacex.plan(bbox=(24.0, 67.9, 24.4, 68.0))


def test_paths_are_taken_and_what_does_not_fit_is_refused_alike(tmp_path, tiny_checkpoint):
    """`pathlib` for every setting that is a place, and no traceback of pydantic's for what no place is."""
    from small_pictures import build_pictures

    data, classifier, output = build_pictures(tmp_path / "data"), tmp_path / "none", tmp_path / "gan"
    with pytest.raises(RequestError, match=f"no checkpoint at {classifier}"):
        spacex.train_gan(data, classifier, output)
    with pytest.raises(RequestError, match="got bands B02,B03,B04; expected red,green,blue"):
        spacex.train_gan(data, Path(tiny_checkpoint.uri), output, further=[Path(tiny_checkpoint.uri)])
    with pytest.raises(RequestError, match=r"limit: got 'many'"):
        spacex.train_classifier(data, output, limit="many", target="plain")
    assert not output.exists()


def test_generated_chips_and_their_scores_come_out():
    import numpy as np

    x = np.random.default_rng(0).uniform(0.02, 0.2, (3, 3, 256, 256)).astype("float32")
    result = spacex.attribute(x, "demo", maps=("attribution",))
    difference = np.abs(result.x_plus - result.x_minus).mean(axis=1)
    assert np.allclose(result.maps["attribution"], difference, atol=1e-6)
    assert np.allclose(spacex.score(result.x_minus, "demo"), result.score_minus, atol=1e-4)
    assert result.score_plus.shape == (3,)


def test_a_classifier_alone_scores_in_the_units_of_its_card(tmp_path):
    import numpy as np

    from spacex.checkpoint import save_checkpoint

    x, shipped = np.full((2, 3, 256, 256), 0.05, "float32"), spacex.load_checkpoint("demo")
    fields = {"kind": "classifier", "generator": None, "preset": "", "applicability": None}
    for card in (shipped.card, shipped.card.model_copy(update={"scaling": shipped.card.scaling.identity(3)})):
        alone = save_checkpoint(tmp_path, card.model_copy(update=fields), {"classifier": shipped.classifier})
        given = x if card is shipped.card else shipped.card.scaling.standardise(torch.from_numpy(x)).numpy()
        assert np.allclose(spacex.score(given, alone), spacex.score(x, "demo"), atol=1e-5)


def test_chips_that_do_not_fit_are_refused():
    import numpy as np

    with pytest.raises(RequestError, match="64"):
        spacex.attribute(np.zeros((1, 3, 128, 128)))
    with pytest.raises(RequestError, match="finite"):
        spacex.attribute(np.full((3, 64, 64), np.nan))
