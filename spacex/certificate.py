"""What was measured of a finished checkpoint on chips that its training has not seen; its card and maps carry it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import Field

import spacex
from spacex.settings import Settings


class Check(Settings):
    """One measured property of a checkpoint, a mean over chips with its 95 % interval by place."""

    name: str
    """What was measured, in words."""
    value: float
    low: float | None = None
    """None where all chips are of one place."""
    high: float | None = None
    control: str = ""
    """The trivial control beside it, in words; empty: none."""
    beside: float | None = None
    """The control's value."""
    gap: float | None = None
    """Value less the control's, on the same chips."""
    gap_low: float | None = None
    gap_high: float | None = None

    def __str__(self) -> str:
        beside = "" if self.beside is None else f" ({self.control} {self.beside:.3g})"
        interval = "" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.name} {self.value:.3g}{interval}{beside}"


class Certificate(Settings):
    """What was measured of a finished checkpoint on chips that its training has not seen."""

    data: str
    """Of which data set, and how its split was made."""
    chips: int
    places: int
    """Places the chips come from; below about ten the intervals are uncertain."""
    checks: tuple[Check, ...]
    missing: dict[str, str] = Field(default_factory=dict)
    """What was not measured, and why."""
    collapsed: str = Field("", exclude_if=lambda reason: not reason)
    """Why the generators are useless, by their training's own figures of the test split; empty if they are not."""
    code_version: str = Field(default_factory=lambda: spacex.__version__)
    """Version of this package that measured."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When, UTC, ISO 8601."""

    @property
    def doubt(self) -> str:
        """Why maps of the checkpoint are hardly to be believed, in words; empty: nothing that was measured says so."""
        return "; ".join(self._doubts())

    def _doubts(self) -> Iterator[str]:
        if self.collapsed:
            yield f"its generators {self.collapsed}"
        for check in self.checks:
            gap = check.gap if check.gap_low is None else check.gap_low
            if check.name == "AUROC" and (check.value if check.low is None else check.low) <= 0.5:
                yield "its scores may be no better than chance"
            elif check.name == "AUROC" and gap is not None and gap <= 0:
                yield f"its scores may be no better than {check.control}"
            elif check.name == "x- turns natural chips" and check.low is not None and check.low <= 0:
                yield "its x- may turn no natural chip, as of generators that collapsed"

    @property
    def line(self) -> str:
        """The checks that have a control beside them, in a sentence, which begins with what is doubtful."""
        shown = "; ".join(str(check) for check in self.checks if check.control)
        measured = f"{self.chips:,} chips of {self.places:,} places of {self.data}"
        doubt = f"doubtful, {self.doubt}: " if self.doubt else ""
        return f"{doubt}its certificate: {shown} ({measured}; all {len(self.checks)} checks are in its card)"
