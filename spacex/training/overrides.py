"""Settings of which some are replaced by name, as `--set` does it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import reduce
from typing import Any, TypeVar

from spacex.errors import RequestError
from spacex.settings import Settings, checked

S = TypeVar("S", bound=Settings)

FORMER_NAMES = {"lowered": "margin_minus", "size": "change_norm"}
"""Names of a preset's settings in earlier versions; still read from runs and still accepted when typed. What was called
``raised`` was another quantity: one logit that was asked of every x₊."""


def with_overrides(settings: S, changes: Iterable[str]) -> S:
    """A copy of any settings with some values replaced and checked.

    Changes are ``name=value`` each, inner names with dots (``generator.base=16``), values JSON or text.

    Raises:
        RequestError: if a name is unknown, a value does not fit, or a new value would have no effect.
    """
    plain, given = _plain(settings), dict[str, str]()
    for change in changes:
        name, _, text = change.partition("=")
        *path, last = name.strip().split(".")
        inner = plain
        for step in path:
            inner = value if isinstance(value := inner.get(step), dict) else {}
        # only where the name is unknown: "size" may be a setting of its own elsewhere
        if last not in inner:
            last = FORMER_NAMES.get(last, last)
        if last not in inner:
            names = ", ".join(sorted(inner)) or "no setting there"
            raise RequestError(f"no setting {name!r}", got=change, expected=names)
        try:
            inner[last] = json.loads(text)
        except json.JSONDecodeError:
            inner[last] = text
        given[".".join([*path, last])] = change
    made = checked(lambda: type(settings).model_validate(plain))
    for name, needed in made.unused().items():
        # as they are read: JSON has lists where settings have tuples
        if name in given and _value(made, name) != _value(settings, name):
            raise RequestError(f"{name} would have no effect", got=given[name], expected=needed, do="Leave it out.")
    return made


def _value(settings: Any, name: str) -> Any:
    """A setting by its name with dots; None where there is none."""
    return reduce(lambda part, step: getattr(part, step, None), name.split("."), settings)


def _plain(settings: Settings) -> dict[str, Any]:
    """All settings by name, those too that are omitted from the JSON while they are 0."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: _plain(value) if isinstance(value, Settings) else value for name, value in values.items()}
