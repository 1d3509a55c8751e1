"""Third-party classifiers: built by a function of an installed package that a checkpoint's card names.

Cards are untrusted input. Importing a module runs it, and a function called with a stranger's arguments may do anything
it was written for. A third-party network is therefore built only if the user trusts its module (`--trust module`), or
if it is one of `BUILDERS`, which do nothing but build a network as long as their arguments are plain. Nothing else is
imported, and nothing is ever unpickled: weights are safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import Field, JsonValue
from torch import nn

from spacex.errors import CheckpointError
from spacex.models.classifier import Classifier, ClassifierSettings
from spacex.settings import Settings

BUILDERS = (
    "spacex.models.residual:ResidualNetwork",
    "spacex.models.exported:Program",
    "timm:create_model",
    "torchvision.models:get_model",
    "torchgeo.models:get_model",
)
"""Functions that need no trust. Not whole packages: they also hold functions that download, write or unpickle."""

WEIGHT_ARGUMENTS = ("pretrained", "checkpoint_path", "weights", "cache_dir")
"""How arguments of those begin by which they would fetch or open other weights than the checkpoint's."""

_NAME = re.compile(r"[\w.\-]*\Z")


class ThirdPartySettings(Settings):
    """How to build a third-party network; stands in a card in place of our own network's sizes."""

    network: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """A function or class of an installed package, `module:callable`; called, it gives a `torch.nn.Module`."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of that call."""

    @property
    def module(self) -> str:
        """The module."""
        return self.network.partition(":")[0]

    @property
    def package(self) -> str:
        """The package that the module lies in."""
        return self.module.partition(".")[0]


def network_builder(
    settings: ClassifierSettings | ThirdPartySettings, trust: Collection[str] = ()
) -> Callable[[], nn.Module]:
    """A function that builds a classifier's network, untrained: ours, or a third party's from a trusted module.

    Modules in `trust` may be imported, with all that lies in them.

    Raises:
        CheckpointError: if the module is not trusted, not installed, or has no such function.
    """
    if isinstance(settings, ClassifierSettings):
        return lambda: Classifier(settings)
    check_trusted(settings, trust)
    function = _import(settings)
    return lambda: _build(function, settings)


def check_trusted(settings: ThirdPartySettings, trust: Collection[str]) -> None:
    """Refuse a network whose module the user does not trust; imports nothing.

    Raises:
        CheckpointError: if it is neither trusted nor one of `BUILDERS` with plain arguments.
    """
    if any(settings.module == name or settings.module.startswith(f"{name}.") for name in trust):
        return
    if settings.network not in BUILDERS:
        raise CheckpointError(
            f"the module {settings.module} is not trusted",
            got=f"a classifier built by {settings.network}",
            expected=f"one of {', '.join(BUILDERS)}, or a module you trust",
            do=f"If you trust all code of {settings.package}, add --trust {settings.package}.",
        )
    if refused := sorted(name for name, value in settings.arguments.items() if not _is_plain(name, value)):
        raise CheckpointError(
            f"{settings.network} is not trusted with these arguments",
            got=", ".join(refused),
            expected="numbers, names and lists of them, and no weights from elsewhere",
            do=f"Leave them out, or add --trust {settings.package}.",
        )


def check_installed(settings: ThirdPartySettings) -> None:
    """Raise CheckpointError if the module's package is not installed; nothing is imported."""
    try:
        installed = find_spec(settings.package) is not None
    except (ValueError, ImportError):
        installed = False
    if not installed:
        do = f"Install the package {settings.package} where the networks run."
        raise CheckpointError(f"the module {settings.module} is not installed", got=settings.network, do=do)


def _is_plain(name: str, value: JsonValue) -> bool:
    if name.startswith(WEIGHT_ARGUMENTS) and value:
        return False
    if isinstance(value, list):
        return all(_is_plain("", one) for one in value)
    # neither paths nor addresses: timm takes "hf-hub:..." and "local-dir:..." for names of models
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and bool(_NAME.match(value)))


def _import(settings: ThirdPartySettings) -> Callable[..., Any]:
    check_installed(settings)
    module, _, name = settings.network.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except Exception as error:  # whatever the module does when it is imported
        got = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the module {module} cannot be imported", got=got) from error
    # what a module merely uses (os.system, torch.load) is not what was trusted
    if not callable(function) or str(getattr(function, "__module__", "")).partition(".")[0] != settings.package:
        raise CheckpointError(f"the module {module} has no function or class {name} of its own", got=settings.network)
    return function  # type: ignore[no-any-return]


def _build(function: Callable[..., Any], settings: ThirdPartySettings) -> nn.Module:
    try:
        network = function(**settings.arguments)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{settings.network} cannot build the network", got=got) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"{settings.network} builds no network", got=type(network).__name__)
    return disable_inplace(network)


def disable_inplace(network: nn.Module) -> nn.Module:
    """Make layers keep their input (timm's ReLUs write over it), which attribution compares with their output."""
    for layer in network.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]
    return network
