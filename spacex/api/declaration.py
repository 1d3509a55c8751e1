"""How a setting is declared: once, as an annotated key of a `TypedDict`, with its default, bounds, check and help.

Two views are made of a declaration: `spacex.commands.parameters` makes the options of a command, and `documented` the
signature and the docstring of a Python function. Both pass what they were given through `complete`. Nothing here
imports a heavy library, so that `--help` and a refusal answer at once.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from spacex.api.outputs import check_outputs
from spacex.errors import RequestError

FIRST = "Most people need"
WHERE = "Where"
WHEN = "When, and which scenes"
WHAT = "What comes out"
HOW = "How it is made"
RUNS = "Where it runs"
GROUPS = ("", FIRST, WHERE, WHEN, WHAT, HOW, RUNS)
"""In the order in which `--help` shows them; settings without a group stand beside `--help` itself."""

MANY = 1_000_000_000
"""Limit of counts that have no other: larger numbers are slips of the hand, and overflow somewhere below."""

REQUIRED = object()
"""Default of a setting that must be given."""

Model = TypeVar("Model")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setting:
    """What a setting is besides its name and type; its help is the docstring below it.

    ::

        class ViewOptions(TypedDict, total=False):
            port: Annotated[int, Setting(RUNS, 8765, least=0, most=65535)]
            '''Port of the server; 0 takes a free one.'''
    """

    group: str = FIRST
    default: Any = None
    """Taken where nothing, or None, is given."""
    unset: str | None = None
    """What a default of None stands for, in words."""
    least: float = -math.inf
    most: float = math.inf
    ending: str = ""
    """Of the name of a file or a cube, e.g. ``.zarr``."""
    metavar: str | None = None
    option: str | None = None
    """Name on the command line where it is not ``--`` and the setting's own; "" for settings of Python alone."""
    argument: bool = False
    """Whether it stands on the command line without a name."""
    typed: Any = None
    """Type on the command line, where the setting's own is none that can be typed."""
    parse: Callable[[str, Any], Any] | None = None
    """Makes the value of what was typed; called with the setting's name and the text or the list of texts."""
    check: Callable[[str, Any], object] | None = None
    """Raises `RequestError` for a value that cannot be used; called with the setting's name and the value."""

    def accept(self, name: str, given: Any) -> Any:
        """The value to use for what was given, or the default.

        Raises:
            RequestError: naming the setting, if the value cannot be used.
        """
        # The order matters: text is checked before it is parsed, and a check sees what the parser made of it. A value
        # that was parsed before is neither text nor a list, so that settings may be completed more than once.
        value = self.default if given is None else _text_of(given)
        if value is REQUIRED:
            raise RequestError(f"{name} is missing", do="Give it.")
        if value is None:
            return None
        for one in value if isinstance(value, tuple | list) else [value]:
            self._check_plain(name, one)
        if self.parse is not None and isinstance(value, str if self.typed is str else list):
            value = self.parse(name, value)
        if self.check is not None:
            self.check(name, value)
        return value

    def _check_plain(self, name: str, value: object) -> None:
        """Refuse unreadable text, other endings, numbers that are none, and numbers out of bounds."""
        if isinstance(value, str) and not (value.strip() and value.isprintable()):
            got = repr(value) if value.strip() else "nothing"
            raise RequestError(f"{name} must be readable text", got=got, do="Leave it out for its default.")
        if isinstance(value, str) and not value.rstrip("/").lower().endswith(self.ending):
            raise RequestError(
                f"{name} has another ending", got=value, expected=f"a path or URI ending in {self.ending}"
            )
        if isinstance(value, int | float) and not math.isfinite(value):
            raise RequestError(name, got=value, expected="a finite number")
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            raise RequestError(name, got=value, expected=f"{self.least:g} to {self.most:g}")


def _text_of(given: Any) -> Any:
    """A path, or paths, as the text that a setting takes."""
    if isinstance(given, tuple | list):
        return type(given)(map(_text_of, given))
    return os.fspath(given) if isinstance(given, os.PathLike) else given


@dataclass(frozen=True)
class Declared:
    """A setting with its name, type and help."""

    name: str
    type: Any
    setting: Setting
    help: str

    @property
    def option(self) -> str:
        """Its name on the command line; empty for settings of Python alone."""
        option = self.setting.option
        return f"--{self.name.replace('_', '-')}" if option is None else option

    @property
    def shown(self) -> str:
        """What a command's errors call it: its option, or the name of an argument."""
        return self.name if self.setting.argument else self.option.partition("/")[0]

    @property
    def typed(self) -> Any:
        """Its type on the command line."""
        if self.setting.typed is None and get_origin(self.type) is UnionType:
            return next(part for part in get_args(self.type) if part is not NoneType)
        return self.setting.typed or self.type


def declared(model: type) -> dict[str, Declared]:
    """The settings of a model by name, in the order of their groups, those that must be given first."""
    hints, helps = get_type_hints(model, include_extras=True), _helps(model)
    parts = {name: get_args(hint) for name, hint in hints.items()}
    settings = [Declared(name, kind, setting, helps[name]) for name, (kind, setting) in parts.items()]
    settings.sort(key=lambda one: (GROUPS.index(one.setting.group), one.setting.default is not REQUIRED))
    return {one.name: one for one in settings}


def _helps(model: type) -> dict[str, str]:
    """The docstrings below the settings of a model and of its bases, which only the source knows."""
    module, helps = sys.modules[model.__module__], dict[str, str]()
    source = ast.parse(inspect.getsource(module)).body
    (node,) = (one for one in source if isinstance(one, ast.ClassDef) and one.name == model.__name__)
    # Python keeps no docstring of an attribute, and before 3.12 a TypedDict does not remember its bases either.
    for base in map(ast.unparse, node.bases):
        if base != "TypedDict":
            helps |= _helps(attrgetter(base)(module))
    # a setting's help is the string that follows it in the class's body
    for one, below in pairwise(node.body):
        match one, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                helps[name] = " ".join(text.split())
    return helps


def complete(model: type[Model], given: Mapping[str, Any], /, *, options: bool = False, **positional: Any) -> Model:
    """All settings of a model: those given, checked, and the defaults of the others.

    Args:
        model: a `TypedDict` of declared settings.
        given: settings by name; None is as good as nothing.
        options: whether errors name a setting by its option rather than by its keyword.
        positional: settings that were given by position.

    Raises:
        RequestError: if a value cannot be used, or a required one is missing.
        TypeError: if a name is unknown or given twice.
    """
    # a function passes its positional arguments as None where they were not given, so that keywords may be used instead
    known, first = declared(model), {name: value for name, value in positional.items() if value is not None}
    if wrong := (given.keys() - known.keys()) | (given.keys() & first.keys()):
        raise TypeError(f"unknown or given twice: {', '.join(sorted(wrong))}; there are {', '.join(sorted(known))}")
    given = {**given, **first}
    names = {name: one.shown if options else name for name, one in known.items()}
    values = {name: one.setting.accept(names[name], given.get(name)) for name, one in known.items()}
    check_outputs({names[name] or name: (value, known[name].setting) for name, value in values.items()})
    return values  # type: ignore[return-value]  # a TypedDict is a dict when it runs


def pick(asked: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of the settings that are among the names."""
    return {name: asked[name] for name in names if name in asked}


def documented(model: type) -> Callable[[Function], Function]:
    """Give a function that takes a model's settings as keywords their signature, and their help in its docstring.

    The settings that it takes by position come first; their help takes the place of the line ``{settings}``. A value
    that does not fit is a `RequestError` of the function, as it is one line of a command.
    """

    def decorate(plain: Function) -> Function:
        @wraps(plain)
        def function(*given: Any, **settings: Any) -> Any:
            from spacex.settings import checked  # with pydantic, which --help need not wait for

            return checked(lambda: plain(*given, **settings))

        # The function itself takes the settings as one ``**settings``, typed by the model. What `help` and a notebook
        # show is made here: first what it takes by position, then the model's keywords, then those of its own.
        own, known = inspect.signature(plain), declared(model)
        positional = [known[name] for name in own.parameters if name in known]
        parameters = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD if one in positional else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.setting.default is REQUIRED else one.setting.default,
                annotation=one.type,
            )
            for one in [*positional, *(one for one in known.values() if one not in positional)]
        ]
        kept = [one for one in own.parameters.values() if one.kind == inspect.Parameter.KEYWORD_ONLY]
        function.__signature__ = own.replace(parameters=[*parameters, *kept])  # type: ignore[attr-defined]
        # a default of None says nothing by itself: what it stands for follows the help
        unset = {name: f" None: {one.setting.unset}." if one.setting.unset else "" for name, one in known.items()}
        lines = [f"{one.name}: {known[one.name].help}{unset[one.name]}" for one in parameters]
        text = "\n".join(textwrap.fill(line, 112, subsequent_indent="    ") for line in lines)
        function.__doc__ = (function.__doc__ or "").replace("        {settings}", textwrap.indent(text, " " * 8))
        return function  # type: ignore[return-value]

    return decorate
