"""Builds a folder once per version of the code that fills it, and shares it with every process of this machine."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from joblib import Parallel, delayed

from spacex.storage import atomic_path

EXPECTED_MB = {"archive": 200, "dataset-default": 830, "country-default": 670}
"""Size of the folders that take long to build, by their names without the digest."""
PROGRESS_S = 10.0
"""Seconds between two lines about a folder that is being built."""

Map = Callable[[Callable[..., object], Iterable[object]], Iterator[object]]
"""A function with the signature of the built-in ``map``; results come in the order of the items."""


def cache_root() -> Path:
    """Where built folders are kept: ``SPACEX_CACHE``, or ``~/.cache/spacex``."""
    return Path(os.environ.get("SPACEX_CACHE") or Path.home() / ".cache" / "spacex")


def code_digest(module: str) -> str:
    """Digest of the code of a module of this package and of all modules of this package that it imports.

    Comments and docstrings do not count, nor does this module, which decides nothing about a folder's content.
    """
    folder, waiting, trees = Path(__file__).parent, [module], dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name in trees or name == Path(__file__).stem:
            continue
        tree = ast.parse((folder / f"{name}.py").read_text())
        trees[name] = ast.dump(_WithoutDocstrings().visit(tree))
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        waiting += [path.rpartition(".")[2] for path in imported if path.startswith(f"{__package__}.")]
    return hashlib.sha256("".join(trees[name] for name in sorted(trees)).encode()).hexdigest()[:12]


def cached_folder(name: str, build: Callable[[Path], object]) -> Path:
    """The folder `name` in the cache, built first if it is not there.

    `build` writes into a temporary folder that is renamed when complete, under a lock. A second process therefore
    waits for the first, and a killed process leaves no incomplete folder under the name. The name identifies the
    content, so it includes a digest of code and settings.
    """
    root = cache_root()
    final = root / name
    if final.is_dir():
        return final
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system, even if this process is killed
        if not final.is_dir():
            with atomic_path(final) as part, _progress(final, part):
                part.mkdir()
                build(part)
    return final


@contextmanager
def _progress(final: Path, part: Path) -> Iterator[None]:
    """Say on stderr what is built, how large it gets, how to clear it, and every `PROGRESS_S` how far it is."""
    kind, stopped, begun = final.name.rpartition("-")[0], threading.Event(), time.monotonic()
    if (expected := EXPECTED_MB.get(kind)) is None:
        yield
        return

    def report() -> None:
        while not stopped.wait(PROGRESS_S):
            size = sum(file.stat().st_size for file in part.rglob("*.tif")) / 1e6
            print(
                f"{kind}: {size:.0f} of about {expected} MB after {time.monotonic() - begun:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    print(
        f"building the embedded {kind.partition('-')[0]} once, about {expected} MB in {final.parent}, some minutes; "
        "remove that folder to clear it, or set SPACEX_CACHE to another",
        file=sys.stderr,
        flush=True,
    )
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        stopped.set()
        reporter.join()


@contextmanager
def process_map(workers: int, chunk: int = 1) -> Iterator[Map]:
    """A ``map`` over `workers` processes, which hands out `chunk` items at a time; 0 workers: the built-in one."""
    if workers == 0:
        yield map
        return
    # Not forked, which can hang where threads run (torch, GDAL). Nor spawned, which runs the user's script again in
    # each process, where it waits for the lock that its parent holds: joblib's processes import what they are given.
    pool = Parallel(n_jobs=workers, batch_size=chunk, return_as="generator", idle_worker_timeout=60)
    yield lambda function, items: pool(delayed(function)(item) for item in items)


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node
