"""How long every job takes to say `--help`, and how much memory, against the commit before imports were put off.

    python tests/benchmarks/start.py

Wall and processor seconds are the best of five, memory is the peak of the process; both commits take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from before import COMMIT, ROOT, earlier

JOBS = ("map_region", "train_classifier", "train_gan", "evaluate", "import_checkpoint")
TURNS = 5

Cost = tuple[float, float, float]
"""Wall seconds, processor seconds, MiB."""


def cost(root: Path, words: list[str]) -> Cost:
    """What a Python process with `root`'s code costs."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=root, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, words
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def best(costs: list[Cost]) -> Cost:
    """The least of each."""
    wall, processor, memory = (min(values) for values in zip(*costs, strict=True))
    return wall, processor, memory


def main() -> None:
    """Print a line per job."""
    with earlier() as before:
        for name in JOBS:
            words = [f"jobs/{name}.py", "--help"]
            turns = [(cost(before, words), cost(ROOT, words)) for _ in range(TURNS)]
            show(name, best([old for old, _ in turns]), best([new for _, new in turns]))
    spacex = ["-c", "from spacex.commands.main import main; main()", "--help"]
    show("spacex", None, best([cost(ROOT, spacex) for _ in range(TURNS)]))


def show(name: str, old: Cost | None, new: Cost) -> None:
    """One line: today's cost, and the ratio to the earlier commit's."""
    line = f"{name:18} --help {new[0]:.2f} s, {new[1]:.2f} s of processor, {new[2]:.0f} MiB"
    if old is not None:
        ratios = ", ".join(f"{now / then:.2f}" for now, then in zip(new, old, strict=True))
        line += f"; {COMMIT}: {old[0]:.2f} s, {old[1]:.2f} s, {old[2]:.0f} MiB; ratios {ratios}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
