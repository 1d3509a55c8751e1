"""The other side of a comparison: SpacEX as it was at an earlier commit, in a worktree of its own.

    with earlier() as root:
        seconds = json.loads(run_in(root, script, "--size", 1472))

A script run so imports `spacex` of that commit and whatever it finds beside itself in today's checkout.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "7a9161b"
"""The commit before the arithmetic, the reading and the traffic of a map were made less."""
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def earlier(commit: str = COMMIT) -> Iterator[Path]:
    """A checkout of `commit` in a temporary folder, gone at the end; needs a clone with that history."""
    with tempfile.TemporaryDirectory(prefix="spacex-before-") as folder:
        place = Path(folder) / commit
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def run_in(root: Path, script: Path, *arguments: object) -> str:
    """What a script prints when it runs with `root`'s code; what it says on the way is shown."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def compare(script: Path, words: list[object], pairs: int) -> list[dict[str, float]]:
    """Run a script of today's checkout with either side's code, in turn, and print seconds and their ratios.

    Args:
        script: prints ``{"chips": …, "seconds": …}``.
        words: its arguments.
        pairs: turns of each side.

    Returns:
        What today's side printed.
    """
    sides: dict[str, list[dict[str, float]]] = {"earlier": [], "today": []}
    with earlier() as root:
        for _ in range(pairs):
            for side, code in (("earlier", root), ("today", ROOT)):
                sides[side].append(json.loads(run_in(code, script, *words)))
    for side, runs in sides.items():
        seconds = ", ".join(f"{run['seconds']:.1f}" for run in runs)
        print(f"{side}: {runs[0]['chips']} chips in {seconds} s")
    ratios = [first["seconds"] / second["seconds"] for first, second in zip(*sides.values(), strict=True)]
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{' '.join(map(str, words))}: today {statistics.median(ratios):.2f} times as fast ({listed})")
    return sides["today"]


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.DEVNULL)
