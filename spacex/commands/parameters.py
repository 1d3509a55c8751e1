"""A command made of declared settings: each becomes an option, or an argument, in the groups of `--help`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from spacex.api.declaration import REQUIRED, Declared, complete, declared
from spacex.errors import RequestError

Model = TypeVar("Model")


class Command(TyperCommand):
    """A command that takes `--bbox` with commas too, and refuses an option of one value that is given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line.

        Raises:
            RequestError: if an option that takes one value is given twice.
        """
        words = list(_split_box(args))
        # The parser keeps the last value only, but lists its options in the order and as often as they were given.
        # What is no option, or collects several values, has no `is_flag`, or is `multiple`.
        given = self.make_parser(ctx).parse_args(list(words))[2]
        single = [one for one in given if not getattr(one, "multiple", True) and not getattr(one, "is_flag", True)]
        if twice := [one.opts[0] for one in single if single.count(one) > 1]:
            raise RequestError(f"{twice[0]} is given twice", expected="one value")
        return super().parse_args(ctx, words)


def _split_box(words: Sequence[str]) -> Iterator[str]:
    """`--bbox 24.0,67.9,24.4,68.05` and `--bbox=…` as the four words the parser wants."""
    previous = ""
    for word in words:
        joined = word.startswith("--bbox=")
        if joined:
            yield "--bbox"
        value = word.removeprefix("--bbox=")
        # only what follows the option is split: a file's name may hold commas
        parts = value.replace(",", " ").split() if joined or previous == "--bbox" else []
        yield from parts if len(parts) > 1 else [value]
        previous = word


def make_command(model: type[Model], run: Callable[[Model], None]) -> Callable[..., None]:
    """A function that typer can make a command of.

    Args:
        model: a `TypedDict` of declared settings.
        run: called with all of them, completed and checked.
    """

    def command(**given: Any) -> None:
        run(complete(model, given, options=True))

    # typer reads the signature, where it expects what a hand-written command would have
    parameters = [_parameter(one) for one in declared(model).values() if one.option]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameter(one: Declared) -> inspect.Parameter:
    setting, kind, default = one.setting, one.typed, one.setting.default
    # typer shows limits of text and switches too, if they are given
    limits: dict[str, Any] = {}
    if kind in (int, float) and math.isfinite(setting.least):
        limits = {"min": setting.least, "max": setting.most if math.isfinite(setting.most) else None}
    shown: dict[str, Any] = {"metavar": setting.metavar, "show_default": setting.unset or True}
    option = typer.Option(one.option, help=one.help, rich_help_panel=setting.group or None, **shown, **limits)
    # Names are typed and shown with commas. An option that may be repeated has no default to show: its help says what
    # none means, and a default of typer's would be added to rather than replaced.
    if isinstance(default, tuple):
        # no names are no text: empty text would be refused as something that was typed
        default = ",".join(map(str, default)) if kind is str and default else None
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is REQUIRED else default,
        annotation=Annotated[kind | None, typer.Argument(help=one.help) if setting.argument else option],
    )


def option_words(model: type, asked: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
    """What to type for those settings of a model that are not the defaults."""
    words: list[str] = []
    for name, one in declared(model).items():
        value, (option, _, off) = asked[name], one.option.partition("/")
        if name in without or value is None or value == one.setting.default:
            continue
        if isinstance(value, bool):
            words.append(option if value else off)
        elif one.typed == list[str]:
            words += [word for each in value for word in (option, each)]
        elif one.typed is str and not isinstance(value, str):
            words += [option, ",".join(map(str, value))]
        else:
            words += [option, *(map(str, value) if isinstance(value, list | tuple) else [str(value)])]
    return words
