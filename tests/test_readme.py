"""Every Python line of the README runs, and gives something."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SMALL = (24.0, 67.95, 24.02, 67.96)
"""In place of the README's box, which takes longer."""


@pytest.fixture
def lapland(tmp_path, monkeypatch):
    """`lapland.zarr` in the working directory: the README's box, with numbers for maps."""
    import spacex
    from spacex.cube.layout import variables
    from spacex.cube.overviews import make_overviews
    from spacex.cube.store import Cube, TileMaps, create_cube
    from spacex.execution.tasks import Status, TileTask
    from spacex.mapping.run import describe

    monkeypatch.chdir(tmp_path)
    work = spacex.plan(bbox=README_BOX, catalogue="demo", output="lapland.zarr")
    request, card = work.plan.request, work.checkpoint.card
    spec = request.spec(card)
    cube = create_cube("lapland.zarr", spec, work.fingerprint, describe(request, card))
    names = [v.name for v in variables(spec) if v.name not in ("observations", "composite")]
    for task in work.plan.todo:
        shape = cube.window(task).shape
        rows = np.linspace(0.1, 0.9, shape[0] * shape[1], dtype="f4").reshape(shape)
        maps = TileMaps(dict.fromkeys(names, rows), np.ones(shape, "u2"), np.stack([rows] * 3))
        cube.write(TileTask(0, task.row, task.col), maps)
        cube.finish(task, Status.DONE, {"scenes": [], "seconds": {}})
    make_overviews(Cube("lapland.zarr"))


BOX = re.search(r"--bbox (\S+) (\S+) (\S+) (\S+)", README)
assert BOX is not None
README_BOX = tuple(map(float, BOX.groups()))


def something(value):
    """Whether an expression gave more than nothing."""
    if isinstance(value, tuple):
        return all(map(something, value))
    if isinstance(value, xr.DataArray | xr.Dataset):
        arrays = [value] if isinstance(value, xr.DataArray) else list(value.data_vars.values())
        return all(array.size and array.notnull().any() for array in arrays)
    return value is not None


@pytest.fixture
def others(lapland, tiny_checkpoint, tmp_path, monkeypatch):
    """Beside it what the README takes for granted of other people: a package, a picture, a checkpoint of pictures."""
    from small_pictures import draw_picture, write_picture

    from spacex.checkpoint import Card, save_checkpoint
    from spacex.models.classifier import Classifier, ClassifierSettings
    from spacex.settings import PICTURE_BANDS

    text = "from third_party_networks import Stages\ndef build(width): return Stages(width=width)\n"
    (tmp_path / "my_package.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    write_picture(tmp_path / "horse2zebra/test/zebra/n02391049_80.jpg", draw_picture("striped", 0))
    shape = ClassifierSettings(base=2, levels=2, chip_size=64)
    about = {"classifier": shape, "chip_size": 64, "frame": 8, "stride": 48, "bands": PICTURE_BANDS}
    card = Card.model_validate(tiny_checkpoint.card.model_dump(exclude={"applicability"}) | about)
    generators = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    save_checkpoint("runs/zebra-gan", card, {"classifier": Classifier(shape), **generators})


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_and_gives_something(number, lapland, others, tmp_path, monkeypatch):
    import spacex

    real = spacex.map_region

    def small(*args, **kwargs):
        inspect.signature(real).bind(*args, **kwargs)
        return real(**{**kwargs, "bbox": SMALL, "catalogue": "demo", "output": "other.zarr", "maps": ()})

    monkeypatch.setattr(spacex, "map_region", small)
    known: dict[str, object] = {}
    for statement in ast.parse(SNIPPETS[number]).body:
        if isinstance(statement, ast.Expr):
            line = ast.unparse(statement)
            assert something(eval(compile(ast.Expression(statement.value), "README", "eval"), known)), line
        else:
            exec(compile(ast.Module([statement], []), "README", "exec"), known)
    assert len(known) > 2


def test_there_are_snippets():
    assert len(SNIPPETS) >= 2
