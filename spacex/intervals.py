"""Which days to map: intervals as people write them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from datetime import date
from itertools import pairwise

from spacex.errors import RequestError

EXAMPLES = "FIRST/LAST, e.g. 2020-07-01/2020-08-30, or a day, a month (2020-07) or a year (2020)"


def parse_intervals(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The steps of a cube's time axis, each as `parse_interval` reads it, in the order of their first days.

    Raises:
        RequestError: if there is none, one is not an interval, or two begin on the same day.
    """
    steps = tuple(parse_interval(text) for text in texts)
    if not steps:
        raise RequestError("which days", got="no --datetime", expected="e.g. --datetime 2020-07-01/2020-08-30")
    if twice := [step for step in steps if steps.count(step) > 1]:
        raise RequestError("--datetime names the same days twice", got="/".join(twice[0]))
    return order_steps(steps)


def order_steps(steps: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Time steps in the order of their first days, by which the time axis names them.

    Raises:
        RequestError: if two begin on the same day.
    """
    ordered = tuple(sorted(steps))
    for one, other in pairwise(ordered):
        if one[0] == other[0]:
            raise RequestError(
                "two time steps begin on the same day",
                got=f"{'/'.join(one)} and {'/'.join(other)}",
                expected="a first day of its own for each step, which is its name on the time axis",
                do="Begin one of them a day earlier or later, or map it into another --output.",
            )
    return ordered


def parse_interval(text: str) -> tuple[str, str]:
    """First and last day, both included, from ``2020-07-01/2020-08-30``; a day, a month or a year stands for itself.

    Either side may be ``2020-07-01``, ``2020-07`` or ``2020``; the last one is counted to its end. Days are ISO 8601.

    Raises:
        RequestError: if it is not one or two dates in order.
    """
    first, slash, last = (part.strip() for part in text.partition("/"))
    try:
        begin, end = _days(first)[0], _days(last if slash else first)[1]
    except ValueError as error:
        raise RequestError("--datetime", got=text, expected=EXAMPLES) from error
    if begin > end:
        raise RequestError("--datetime ends before it begins", got=text)
    return begin.isoformat(), end.isoformat()


def _days(text: str) -> tuple[date, date]:
    """The first and the last day of a year, a month or a day."""
    if not re.fullmatch(r"\d{4}(-\d\d){0,2}", text, re.ASCII):
        raise ValueError(text)
    year, month, day = (int(part) for part in f"{text}-0-0".split("-")[:3])
    if day or text.count("-") == 2:
        return date(year, month, day), date(year, month, day)
    if month or text.count("-") == 1:
        return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    return date(year, 1, 1), date(year, 12, 31)
