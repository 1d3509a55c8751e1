"""Folders that are built once per version of the world's code and then shared by everything on this machine."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_root() -> Path:
    """Where built folders are kept: ``SPACEX_CACHE``, or ``~/.cache/spacex``."""
    return Path(os.environ.get("SPACEX_CACHE") or Path.home() / ".cache" / "spacex")


def code_digest(modules: Iterable[str]) -> str:
    """Twelve hexadecimal digits of what the named modules of this package do; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
        digest.update(ast.dump(_Bare().visit(tree)).encode())
    return digest.hexdigest()[:12]


def cached_folder(name: str, build: Callable[[Path], object]) -> Path:
    """The folder `name` in the cache, built first if it is not there.

    Building happens in a temporary folder which is renamed when complete, under a lock: a second process
    waits for the first, a killed one leaves no half-built folder under the name.

    Args:
        name: must name the content, so with a digest of code and settings.
        build: writes the content into the empty folder it is given.
    """
    root = cache_root()
    final = root / name
    if final.is_dir():
        return final
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system, even if this process is killed
        if not final.is_dir():
            _build_aside(final, build)
    return final


def _build_aside(final: Path, build: Callable[[Path], object]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        build(aside)
        aside.chmod(0o755)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class _Bare(ast.NodeTransformer):
    """Drops docstrings and other bare constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node
