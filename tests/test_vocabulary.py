"""Names are the field's: no private metaphor stands in a module, class, function, parameter, attribute or local."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "spacex"
FILES = sorted(ROOT.rglob("*.py"))

WORDS = """
bench conduct crew deadly dismiss hungry ledger mishaps parked poisoned pulse rehearsal renewed settle shelf stalled
telling weather withdraw papers notes conversation forbidden patience pieces promise supplies supply arithmetic borrowed
course courier gauges judge judged leads logbook lowering ours portions tap worry chipset estate expose knoll knolls
tame tamed cascade ceilings company promises door found told
"""
PRIVATE_WORDS = frozenset(WORDS.split())
"""Words that SpacEX once used for things that have a usual name; `tests/test_vocabulary.py` alone may speak them."""


def defined_names(tree: ast.Module) -> dict[str, int]:
    names: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.setdefault(node.name, node.lineno)
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, node.lineno)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, node.lineno)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.attr, node.lineno)
    return names


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_private_word_in_a_name(file):
    names = {file.stem: 1, **defined_names(ast.parse(file.read_text()))}
    private = [f"{name} (line {line})" for name, line in names.items() if words(name) & PRIVATE_WORDS]
    assert not private, f"use the field's word: {', '.join(private)}"


def test_words_of_a_name():
    assert words("_WorkQueue2") == {"work", "queue"}
    assert words("MAX_TRIES") == {"max", "tries"}
