"""What runs say to people: the plan as a table, the way a run ended, and what to do next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacex.dataset_building.folder import DatasetFolder
    from spacex.dataset_building.run import BuiltDataset
    from spacex.mapping.run import Outcome


def say(line: str) -> None:
    """One line on stderr; stdout holds only what other programs read."""
    print(line, file=sys.stderr, flush=True)


def again() -> str:
    """The command line that started this process."""
    name = sys.argv[0]
    start = ["python", name] if name.endswith(".py") else [os.path.basename(name)]
    return " ".join(map(shlex.quote, [*start, *sys.argv[1:]]))


def spacex() -> str:
    """How to call the installed command from here: its path where the shell would not find it."""
    beside = os.path.join(os.path.dirname(sys.executable), "spacex")
    return "spacex" if shutil.which("spacex") or not os.path.exists(beside) else os.path.relpath(beside)


def show_plan(described: dict[str, Any], output: str) -> None:
    """Print a plan as a table.

    Args:
        described: `Plan.describe`, with ``operations`` and perhaps ``estimate``.
        output: URI of the cube.
    """
    show_rows(_rows(described, output))


def show_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values side by side."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def show_set_plan(described: dict[str, Any], output: str) -> None:
    """Print the plan of a set of chips as a table.

    Args:
        described: `DatasetPlan.describe`.
        output: path of the set.
    """
    tiles = described["tiles"]
    chips = {part: " + ".join(f"{number:,} {name}" for name, number in found.items())
             for part, found in described["chips"].items()}  # fmt: skip
    show_rows([
        ("output", output),
        *chips.items(),
        ("to make", f"{described['chips_to_make']:,} chips"),
        ("tiles", f"{tiles['new'] + tiles['redo']:,} to do ({tiles['redo']:,} of them again), {tiles['done']:,} done"),
        ("scenes", f"{described['scenes']:,}"),
        ("to read", amount(described["bytes_to_read"])),
        ("to store", amount(described["bytes_to_store"])),
    ])  # fmt: skip


def show_set(made: BuiltDataset, folder: DatasetFolder) -> None:
    """Say what a set of chips came to, where everything is, and what to do next."""
    for task, reason in made.quarantined.items():
        say(f"given up: tile {task}: {reason}")
    if made.left_out:
        name, reason = next(iter(made.left_out.items()))
        say(f"{len(made.left_out)} chips were left out for want of data, e.g. {name}: {reason}")
    for part, found in made.counts.items():
        say(f"{part}: " + ", ".join(f"{number:,} {name}" for name, number in found.items()))
    if made.chips and (short := [part for part, found in made.counts.items() if not all(found.values())]):
        say(f"{' and '.join(short)} lack a class: training needs both; widen the area or draw more")
    say(f"{len(made.chips):,} chips in {made.seconds:.1f} s")
    say(f"contact sheets: {folder.run / 'natural.png'}, {folder.run / 'anthropogenic.png'}")
    say(f"report: {folder.run / 'report.html'}")
    if not made.complete:
        say(f"{len(made.quarantined)} tiles were given up. To try them again:\n  {again()}")
        return
    say(f"next: {spacex()} train-classifier --data {shlex.quote(str(folder.root))}")
    print(f"data: {folder.root}")


def _rows(described: dict[str, Any], output: str) -> list[tuple[str, str]]:
    tiles, scenes = described["tiles"], described["scenes"]
    return [
        ("output", output),
        ("cube", described["cube"]),
        ("tiles", f"{tiles['new'] + tiles['redo']:,} to do ({tiles['redo']:,} of them again), {tiles['done']:,} done"),
        ("scenes", f"{sum(scenes):,}" + (f" ({', '.join(map(str, scenes))})" if len(scenes) > 1 else "")),
        ("chips", f"{described['chips']:,}"),
        ("to read", amount(described["bytes_to_read"])),
        ("to store", amount(described["bytes_to_store"])),
        ("to compute", f"{described['operations']:.1e} operations"),
        ("hours", _hours(described.get("estimate"))),
    ]


def _hours(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "not measured; --calibrate 4 maps four tiles and tells"
    workers = estimate["workers"]
    return (
        f"{estimate['hours']:.2f} with {workers} worker{'s' * (workers > 1)}, set by {estimate['set_by']} "
        f"(from {estimate['measured_tiles']} tiles mapped here)"
    )


def amount(size: float) -> str:
    """Bytes with a unit: 1.3 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def show_outcome(outcome: Outcome, output: str, quicklook: str | None) -> None:
    """Say how a run ended, where everything is, and what to do next.

    Args:
        outcome: of the run.
        output: URI of the cube.
        quicklook: the picture that was drawn, if one was.
    """
    from spacex.cube.applicability import trust_line
    from spacex.storage import absolute_uri, run_folder

    for task, reason in outcome.quarantined.items():
        say(f"given up: tile {task}: {reason}")
    rate = outcome.chips / outcome.seconds if outcome.seconds else 0.0
    say(f"{outcome.chips} chips in {outcome.seconds:.1f} s ({rate:.2f} chips/s)")
    if quicklook:
        say(f"picture: {absolute_uri(quicklook)}")
    say(f"report: {absolute_uri(f'{run_folder(output)}/report.html')}")
    if line := trust_line(outcome.cube):
        say(line)
    if not outcome.complete:
        say(f"{len(outcome.quarantined)} tiles were given up. To try them again:\n  {again()}")
        return
    say(f"next: {spacex()} view {shlex.quote(output)}")
    print(f"cube: {absolute_uri(output)}")
