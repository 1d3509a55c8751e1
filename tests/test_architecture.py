"""Imports point one way, and only the runners know Ray."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "spacex"
FILES = sorted(ROOT.rglob("*.py"))

LEVELS = [
    {"errors", "grid", "metres", "rasters", "settings", "vectors"},
    {"card", "sentinel2", "models", "datasets", "world",
     "mapping.chips", "mapping.cube", "mapping.encoding", "mapping.overviews", "mapping.layout",
     "mapping.geometadata", "mapping.areas", "mapping.days", "mapping.region"},
    {"checkpoint", "checkpoint_import", "attribution", "training"},
    {"mapping", "chipset", "evaluation", "viewer", "sharing"},
    {"runners"},
    {"api"},
    {"commands"},
]  # fmt: skip
"""Each level may import itself and those above it in this list; the longest matching name decides."""


def level(module: str) -> int:
    found = [(len(name), index) for index, names in enumerate(LEVELS) for name in names
             if module == name or module.startswith(name + ".")]  # fmt: skip
    return max(found)[1] if found else -1


def imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            package = (ROOT.parent / node.module.replace(".", "/")).is_dir()
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if package else {node.module}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_arrow_runs_back(file):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if module in ("__init__",):
        return
    own = level(module)
    assert own >= 0, f"{module} stands on no level: add it to LEVELS"
    for name in imports(file):
        if name.startswith("spacex.") and (target := level(name.removeprefix("spacex."))) >= 0:
            assert target <= own, f"{module} imports {name}, which stands above it"


def test_only_the_runners_and_the_metrics_they_feed_know_ray():
    knowing = {str(file.relative_to(ROOT)) for file in FILES if any(n.split(".")[0] == "ray" for n in imports(file))}
    assert knowing <= {"execution/ray_actors.py", "training/ray_train.py", "execution/ray_metrics.py"}


def test_importing_the_package_is_light():
    import subprocess
    import sys

    heavy = "import sys, spacex; print(sorted({'torch', 'ray', 'rasterio', 'zarr'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
