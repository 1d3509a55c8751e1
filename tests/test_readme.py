"""Every Python block of the documents runs, every command is run or read by its own parser, every path exists."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import command_lines
import numpy as np
import pytest
import xarray as xr

ROOT = Path(__file__).parents[1]
WEIGHTS_LOG = ROOT / "spacex/synthetic/weights/README.md"
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/benchmarks/README.md")),
        *(ROOT / "cluster").glob("*.md"),
        *(file for file in (ROOT / "spacex").rglob("README.md") if "node_modules" not in file.parts),
    ]
)
SMALL = (24.0, 67.95, 24.02, 67.96)
"""In place of the documents' boxes, which take longer."""

NOT_RUN = {
    "text": "a listing of files",
    "promql": "asks a Prometheus server",
}
"""Languages of blocks that are neither Python nor commands, and why they are not run."""
NOT_OURS = {
    ".": "activates a virtual environment",
    "cd": "changes the folder of the next command",
    "chmod": "changes a file at home",
    "export": "sets variables of the shell",
    "kubectl": "needs a Kubernetes cluster",
    "npm": "downloads packages",
    "podman": "builds an image from the network",
    "ray": "starts, stops or asks a cluster; what it submits is read",
    "sbatch": "needs Slurm; what it submits is read",
    "scp": "needs a second machine",
}
"""Programs that are not started, and why."""
ONLY_READ = {
    "certify": "minutes; tests/evaluation/test_certify.py runs it",
    "change": "takes a cube of two summers; tests/changes runs it",
    "evaluate": "minutes; tests/evaluation runs it",
    "import-checkpoint": "needs the authors' file; tests/test_checkpoint_import.py runs it",
    "make-dataset": "minutes; tests/jobs/test_make_dataset.py runs it",
    "reproduce": "takes a cube of its own place; tests/jobs/test_scenes.py runs it",
    "scenes": "asks a catalogue; tests/jobs/test_scenes.py runs it",
    "sites": "takes polygons of its own place; tests/cube/test_sites.py runs it",
    "train-classifier": "minutes; tests/training runs it",
    "train-gan": "minutes; tests/training runs it",
    "view": "serves until it is stopped; tests/viewer runs it",
}
"""Commands of SpacEX that are read by their own parser and not run, and why."""


class Block(NamedTuple):
    """A fenced block of a document."""

    file: Path
    language: str
    text: str
    number: int

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.number}"


def fenced(file: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", file.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [Block(file, language, text, number) for number, (language, text) in enumerate(found)]


def command_lines_of(block: Block) -> list[str]:
    """Its commands, without comments; a backslash at the end of a line continues it, `&&` joins two."""
    lines = re.sub(r"\\\n\s*", lambda gap: "" if gap[0] == "\\\n" else " ", block.text).splitlines()
    parts = [part.strip() for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&")]
    return [part for part in parts if part]


BLOCKS = [block for file in DOCUMENTS for block in fenced(file)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [(block, line) for block in BLOCKS if not block.language for line in command_lines_of(block)]
INLINE = [(file, word) for file in DOCUMENTS for word in re.findall(r"`([^`\n]+)`", file.read_text())]


def read(line: str) -> str:
    """Read a command with its own parser; gives the sub-command of SpacEX, or nothing where it is not ours."""
    words = shlex.split(line)
    job = next((n for n, word in enumerate(words) if re.fullmatch(r"jobs/\w+\.py", word)), None)
    if job is not None:
        command_lines.parse(shlex.join(words[job:]))
    elif words[0] == "spacex":
        command_lines.parse(line)
        return words[1]
    elif words[0] == "python":
        assert words[1].startswith("tests/benchmarks/"), line
        command_lines.parse_benchmark(line)
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        known = {*re.findall(r"^(\w+):", makefile, flags=re.MULTILINE), *re.findall(r"\$\((\w+)\)", makefile)}
        assert {word.partition("=")[0] for word in words[1:]} <= known, line
    else:
        assert words[0] in NOT_OURS, f"{line}: run it, or say in NOT_OURS why not"
    return ""


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=[f"{block} {line[:50]}" for block, line in COMMANDS])
def test_a_command_is_one_that_its_program_takes(block, line):
    name = read(line)
    assert name in ("", "map", "export") or name in ONLY_READ, f"run `spacex {name}` here, or say in ONLY_READ why not"


@pytest.mark.parametrize(
    ("file", "line"),
    [(file, word) for file, word in INLINE if re.match(r"(python|make|spacex) \S", word) and "…" not in word],
)
def test_a_command_within_the_text_is_one_that_its_program_takes(file, line):
    name = re.fullmatch(r"spacex ([\w-]+)( --help)?|python (jobs/\w+\.py)", line)
    if name:  # alone, without what it needs
        assert name[1] in command_lines.COMMANDS or (ROOT / (name[3] or "")).is_file()
    else:
        read(line)


def test_every_option_and_path_of_the_text_exists():
    ours, others = command_lines.options(), {"--help", "--price", "--working-dir"}
    assert {option for _, word in INLINE for option in re.findall(r"^--[a-z][\w-]*", word)} <= ours | others
    for file, word in INLINE:
        if re.fullmatch(r"(spacex|tests|jobs|cluster|\.ci)/[\w./-]*\w", word):
            assert (ROOT / word).exists(), f"{file}: {word}"
    sources = "\n".join(file.read_text() for file in (ROOT / "spacex").rglob("*.py"))
    named = {word for file, word in INLINE if file.name == "CONTRIBUTING.md" and re.fullmatch(r"[A-Z]\w+", word)}
    assert {name for name in named if not re.search(rf"\b{name}\b", sources)} == set()
    for file in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", file.read_text()):
            assert link.startswith("http") or (file.parent / link).exists(), f"{file}: {link}"


def test_every_link_to_a_section_meets_its_heading():
    def anchors(file: Path) -> set[str]:
        headings = re.findall(r"^#+ (.*)", file.read_text(), flags=re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for file in DOCUMENTS:
        for link, anchor in re.findall(r"\]\(([^)#]*)#([\w-]+)\)", file.read_text()):
            assert anchor in anchors(file.parent / link if link else file), f"{file}: {link}#{anchor}"


def test_every_block_is_python_or_commands_or_exempt():
    assert {block.language for block in BLOCKS} <= {"", "python", *NOT_RUN}
    assert len(PYTHON) >= 7
    assert len(COMMANDS) >= 50


def test_contributing_lists_the_levels_of_the_architecture():
    from test_architecture import LEVELS

    table = (ROOT / "CONTRIBUTING.md").read_text().split("| level |")[1].split("\n\n")[0]
    rows = [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table.splitlines()[2:]]
    assert rows == LEVELS[::-1]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_a_renamed_option_fails():
    with pytest.raises(Exception, match="No such option"):
        read("spacex map --boxes 1 --output x.zarr")
    with pytest.raises(SystemExit):
        read("python tests/benchmarks/composite.py --sizes 3")
    with pytest.raises(AssertionError, match="NOT_OURS"):
        read("curl example.org")


BOX = re.search(r"--bbox (\S+) (\S+) (\S+) (\S+)", (ROOT / "README.md").read_text())
assert BOX is not None
README_BOX = tuple(map(float, BOX.groups()))


@pytest.fixture(scope="module")
def land(tmp_path_factory):
    """A folder with `lapland.zarr`: the README's box, with numbers for maps."""
    import spacex
    from spacex.cube.layout import variables
    from spacex.cube.overviews import make_overviews
    from spacex.cube.store import Cube, TileMaps, create_cube
    from spacex.execution.tasks import Status, TileTask
    from spacex.mapping.run import describe

    folder = tmp_path_factory.mktemp("land")
    uri = str(folder / "lapland.zarr")
    work = spacex.plan(bbox=README_BOX, catalogue="demo", output=uri)
    request, card = work.plan.request, work.checkpoint.card
    spec = request.spec(card)
    cube = create_cube(uri, spec, work.fingerprint, describe(request, card))
    names = [v.name for v in variables(spec) if v.name not in ("observations", "composite")]
    for task in work.plan.todo:
        shape = cube.window(task).shape
        rows = np.linspace(0.1, 0.9, shape[0] * shape[1], dtype="f4").reshape(shape)
        maps = TileMaps(dict.fromkeys(names, rows), np.ones(shape, "u2"), np.stack([rows] * 3))
        cube.write(TileTask(0, task.row, task.col), maps)
        cube.finish(task, Status.DONE, {"scenes": [], "seconds": {}})
    make_overviews(Cube(uri))
    return folder


@pytest.fixture
def lapland(land, tmp_path, monkeypatch):
    """The working directory, with that cube under the names that the documents use, and an area within it."""
    from shapely import to_geojson
    from shapely.geometry import box

    monkeypatch.chdir(tmp_path)
    for name in ("lapland.zarr", "finland.zarr"):
        Path(name).symlink_to(land / "lapland.zarr")
    Path("reserve.geojson").write_text(to_geojson(box(*SMALL)))


def something(value):
    """Whether an expression gave more than nothing."""
    if isinstance(value, tuple):
        return all(map(something, value))
    if isinstance(value, xr.DataArray | xr.Dataset):
        arrays = [value] if isinstance(value, xr.DataArray) else list(value.data_vars.values())
        return all(array.size and array.notnull().any() for array in arrays)
    return value is not None


@pytest.fixture
def others(lapland, tiny_checkpoint, tmp_path, monkeypatch):
    """Beside it what the documents take for granted of other people: a package, a picture, a checkpoint of pictures."""
    from small_pictures import draw_picture, write_picture

    from spacex.checkpoint import Card, save_checkpoint
    from spacex.models.classifier import Classifier, ClassifierSettings
    from spacex.settings import PICTURE_BANDS

    text = "from third_party_networks import Stages\ndef build(width): return Stages(width=width)\n"
    (tmp_path / "my_package.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    write_picture(tmp_path / "horse2zebra/test/zebra/n02391049_80.jpg", draw_picture("striped", 0))
    shape = ClassifierSettings(base=2, levels=2, chip_size=64)
    about = {"classifier": shape, "chip_size": 64, "frame": 8, "stride": 48, "bands": PICTURE_BANDS}
    card = Card.model_validate(tiny_checkpoint.card.model_dump(exclude={"applicability"}) | about)
    generators = {name: getattr(tiny_checkpoint, name) for name in ("maximiser", "minimiser")}
    save_checkpoint("runs/zebra-gan", card, {"classifier": Classifier(shape), **generators})


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_snippet_runs_and_gives_something(block, others, monkeypatch):
    import spacex

    real = spacex.map_region

    def small(*args, **kwargs):
        inspect.signature(real).bind(*args, **kwargs)
        return real(**{**kwargs, "bbox": SMALL, "catalogue": "demo", "output": "other.zarr", "maps": ()})

    monkeypatch.setattr(spacex, "map_region", small)
    known: dict[str, object] = {}
    for statement in ast.parse(block.text).body:
        if isinstance(statement, ast.Expr):
            line = ast.unparse(statement)
            assert something(eval(compile(ast.Expression(statement.value), str(block), "eval"), known)), line
        else:
            exec(compile(ast.Module([statement], []), str(block), "exec"), known)
    assert len(known) > 2


def demo_instead(line: str) -> list[str]:
    """A command with the demo catalogue, the small box and no network but the score's in place of its own."""
    words = shlex.split(line)
    taking = {"--bbox": 4, "--area": 1, "--datetime": 1, "--catalogue": 1, "--items": 1, "--checkpoint": 1, "--maps": 1}
    kept: list[str] = []
    while words:
        word = words.pop(0)
        del words[: taking.get(word, 0)]
        kept += [] if word in taking else [word]
    return [*kept, "--catalogue", "demo", "--bbox", *map(str, SMALL), "--maps", "naturalness"]


RUNS = {line for _, line in COMMANDS if re.match("spacex (map --(local|plan)|export) ", line)}


@pytest.mark.parametrize("line", sorted(RUNS))
def test_a_command_of_seconds_runs(line, lapland, capsys):
    words = demo_instead(line) if line.startswith("spacex map ") else shlex.split(line)
    for cube in Path().glob("*.zarr"):
        if words[1] == "map":
            cube.unlink()
    assert command_lines.run(words) == 0, capsys.readouterr().err
    files: dict[str, Any] = {word: Path(word).exists() for word in words if re.search(r"\.(zarr|png)$|/$", word)}
    assert all(there != ("--plan" in words) for there in files.values()), files


PAPER = [block for block in BLOCKS if "--preset paper" in block.text]
TINY = {
    "train-classifier": "--base 2 --epochs 1 --set recipe.batch=4",
    "train-gan": "--epochs 2 --set batch=2 --set generator.base=4 --set generator.cap=4 --set generator.blocks=1 "
    "--set discriminator.base=4 --set pool=2",
    "evaluate": "--limit 2 --quick --methods attribution,lift --perturbed 0 --sanity-chips 0 --asos-chips 0",
}
"""What makes a command of the recipe short; options that it gives itself are replaced."""


@pytest.mark.parametrize("block", PAPER, ids=str)
def test_the_paper_s_recipe_runs_from_data_to_figures(block, tiny_data, tmp_path, monkeypatch):
    from spacex.checkpoint import load_checkpoint, save_checkpoint

    monkeypatch.chdir(tmp_path)
    lines = command_lines_of(block)
    assert [shlex.split(line)[1] for line in lines] == list(TINY)
    for line in lines:
        words = [word for word in shlex.split(line) if word not in ("--gpu", "--quick")]
        tiny = shlex.split(TINY[words[1]])
        for option in {word for word in tiny if word.startswith("--")} - {"--set"}:
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
        words[words.index("--data") + 1] = str(tiny_data)
        assert command_lines.run([*words, *tiny]) == 0, line
        if words[1] == "train-classifier":  # eight chips teach nothing: let it take every chip for natural
            uri = words[words.index("--output") + 1]
            made = load_checkpoint(uri)
            made.classifier.head[-1].weight.data *= 0.01
            made.classifier.head[-1].bias.data.fill_(3)
            card = made.card.model_copy(update={"hashes": {}})
            save_checkpoint(uri, card, {"classifier": made.classifier}, made.applicability)
    figures = {file.stem for file in Path(words[words.index("--output") + 1]).glob("figure-*.png")}
    assert figures >= {"figure-1", "figure-3", "figure-4", "figure-5"}


def test_the_weights_log_alone_holds_history():
    """Words of figures that no longer hold; what was before goes into the changelog or the weights' log."""
    for file in DOCUMENTS:
        if file != WEIGHTS_LOG:
            text = file.read_text()
            assert not re.search(r"shipped then|preset before|earlier generators|used to be|were before", text), file


def test_no_document_is_forgotten():
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    known = {str(file.relative_to(ROOT)) for file in DOCUMENTS} | {"CHANGELOG.md"}
    left_out = set(tracked.stdout.split()) - known
    assert left_out == set(), "add these documents to DOCUMENTS"
