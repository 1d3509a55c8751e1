"""SpacEX maps what makes land look natural.

>>> import spacex
>>> spacex.plan(catalogue="demo").describe()["cube"]
'1 x 2100 x 2100 pixels of 10 m in EPSG:3035'

`scenes` lists what there is; `plan` and `map_region` make a cube, `open_cube` reads it, `sites` says what it holds of
every polygon of a file, `change` compares two of its time steps, `reproduce` checks it, `export` and `describe_cube`
share it; `make_dataset` makes labelled chips, `attribute` and `score` look at chips; `train_classifier`, `train_gan`,
`load_checkpoint`, `evaluate` and `certify` are about the networks. Importing this package is cheap: whatever a function
needs is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacex.api.attribution import attribute as attribute
    from spacex.api.attribution import score as score
    from spacex.api.change import change as change
    from spacex.api.dataset import make_dataset as make_dataset
    from spacex.api.evaluation import certify as certify
    from spacex.api.evaluation import evaluate as evaluate
    from spacex.api.listing import scenes as scenes
    from spacex.api.mapping import map_region as map_region
    from spacex.api.mapping import plan as plan
    from spacex.api.reproduction import reproduce as reproduce
    from spacex.api.sites import sites as sites
    from spacex.api.training import train_classifier as train_classifier
    from spacex.api.training import train_gan as train_gan
    from spacex.checkpoint import load_checkpoint as load_checkpoint
    from spacex.cube.export import export as export
    from spacex.cube.reader import open_cube as open_cube
    from spacex.cube.stac import describe_cube as describe_cube

    __version__: str

_MODULES = {
    "attribute": "spacex.api.attribution",
    "certify": "spacex.api.evaluation",
    "change": "spacex.api.change",
    "describe_cube": "spacex.cube.stac",
    "evaluate": "spacex.api.evaluation",
    "export": "spacex.cube.export",
    "load_checkpoint": "spacex.checkpoint",
    "make_dataset": "spacex.api.dataset",
    "map_region": "spacex.api.mapping",
    "open_cube": "spacex.cube.reader",
    "plan": "spacex.api.mapping",
    "reproduce": "spacex.api.reproduction",
    "scenes": "spacex.api.listing",
    "score": "spacex.api.attribution",
    "sites": "spacex.api.sites",
    "train_classifier": "spacex.api.training",
    "train_gan": "spacex.api.training",
}
"""The module of each function."""


__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = _version()
    elif name in _MODULES:
        from importlib import import_module

        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("spacex-naturalness")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
