"""Imports point down, never in a circle, and only the Ray files know Ray."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "spacex"
FILES = sorted(ROOT.rglob("*.py"))

LEVELS = [
    {"errors"},
    {
        "grid",
        "rasters",
        "settings",
        "storage",
        "vectors",
        "vector_formats",
        "bootstrap",
        "certificate",
        "areas",
        "intervals",
        "region",
        "pixel_code",
        "display",
        "weights",
    },
    {"datasets", "sentinel2", "models", "model_card"},
    {"synthetic", "checkpoint", "checkpoint_networks"},
    {"attribution"},
    {"training", "checkpoint_import"},
    {"execution"},
    {"cube"},
    {"changes", "dataset_building", "mapping"},
    {"evaluation"},
    {"viewer"},
    {"api"},
    {"commands"},
]
"""From the bottom up: a module may import its own level and those before it; the longest matching name decides."""

RAY_FILES = {"execution/ray_actors.py", "execution/ray_cluster.py", "execution/ray_metrics.py", "training/ray_train.py"}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def level(module: str) -> int:
    matches = [
        (len(name), index)
        for index, names in enumerate(LEVELS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return max(matches)[1] if matches else -1


@cache
def imports(file: Path) -> frozenset[str]:
    """Names of all modules a file imports, inside functions too, but not those for type checking alone."""
    names: set[str] = set()
    skipped: set[ast.AST] = set()
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= {child for part in node.body for child in ast.walk(part)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            package = (ROOT.parent / node.module.replace(".", "/")).is_dir()
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if package else {node.module}
    return frozenset(names)


MODULES = {module_name(file) for file in FILES}


def imported_modules(file: Path) -> set[str]:
    """Our own modules that a file imports; a name imported from a package counts as the package."""
    ours = {name.removeprefix("spacex.") for name in imports(file) if name.startswith("spacex.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours} - {module_name(file), ""}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_arrow_runs_back(file):
    module = module_name(file)
    if module == "__init__":
        return
    own = level(module)
    assert own >= 0, f"{module} stands on no level: add it to LEVELS"
    for name in imported_modules(file):
        assert level(name) <= own, f"{module} imports {name}, which stands above it"


def test_no_module_imports_itself_by_way_of_others():
    graph = {module_name(file): imported_modules(file) for file in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_package_imports_itself_by_way_of_others():
    """Also within a level."""
    graph: dict[str, set[str]] = {}
    for file in FILES:
        package = module_name(file).partition(".")[0]
        graph.setdefault(package, set()).update({n.partition(".")[0] for n in imported_modules(file)} - {package})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of packages: {' -> '.join(error.args[1])}")


def test_sets_of_chips_are_built_without_maps_and_cubes():
    names = {
        name for file in FILES if module_name(file).startswith("dataset_building") for name in imported_modules(file)
    }
    assert not {name for name in names if name.partition(".")[0] in ("mapping", "cube")}


def test_only_the_ray_files_know_ray():
    knowing = {str(file.relative_to(ROOT)) for file in FILES if any(n.split(".")[0] == "ray" for n in imports(file))}
    assert knowing <= RAY_FILES


def test_importing_the_package_is_light():
    heavy = "import sys, spacex; print(sorted({'torch', 'ray', 'rasterio', 'zarr'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
