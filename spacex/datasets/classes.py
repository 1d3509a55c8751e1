"""The order of a data set's classes, which numbers a classifier's outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spacex.errors import DataError

NATURAL = "natural"
"""The class that is scored and explained where none is named."""


def class_order(names: Iterable[str], target: str, root: Path) -> tuple[str, ...]:
    """The different classes in alphabetical order, the target last: of two classes it is then label 1, as natural is.

    Without a target it is the class ``natural``, if there is one.

    Raises:
        DataError: if there are fewer than two classes, or the target is none of them.
    """
    classes = sorted(set(names))
    if len(classes) < 2:
        raise DataError(f"{root} holds too few classes", got=", ".join(classes) or "none", expected="two or more")
    target = target or NATURAL
    if target not in classes:
        do = "Name the class to be scored and explained with --target."
        raise DataError(f"no class of {root} is {target!r}", expected=f"one of {', '.join(classes)}", do=do)
    return (*(name for name in classes if name != target), target)
