"""Every command line in the manifests and in their documentation is one the real jobs accept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from command_lines import parse

from spacex.api.validation import check_shared

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
PAGES = sorted(
    [*CLUSTER.rglob("*.yaml"), *CLUSTER.rglob("*.md"), CLUSTER / "slurm" / "spacex.sbatch", ROOT / "README.md"]
)
JOB = re.compile(r"(?:python\s+)?(?<![\w/])(jobs/\w+\.py)\b(.*)")


def entrypoints():
    for path in sorted((CLUSTER / "kuberay").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if "entrypoint" in (document or {}).get("spec", {}):
                yield path, document["spec"]["entrypoint"]


def commands_in(path):
    """Commands in comments and code blocks; a backslash at the end of a line continues them."""
    lines = [re.sub(r"^\s*#\s?", "", line) for line in path.read_text().splitlines()]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    for match in JOB.finditer(text):
        if match[2].strip().startswith("--"):
            yield f"{match[1]} {match[2].split('#')[0].rstrip('` ')}"


FOUND = [*entrypoints(), *((path, text) for path in PAGES for text in commands_in(path))]


def test_commands_are_found_in_manifests_scripts_and_pages():
    named = {path.name for path, _ in FOUND}
    assert {"map-region.yaml", "train.yaml", "interactive.yaml", "aws.yaml", "spacex.sbatch", "local.md"} <= named


@pytest.mark.parametrize(("path", "line"), FOUND, ids=[f"{path.name}: {line[:60]}" for path, line in FOUND])
def test_the_job_accepts_the_command(path, line):
    assert parse(line)["output"]


HELP = sorted((ROOT / "spacex" / "commands").glob("*.py"))
SUBMITTED = [
    *entrypoints(),
    *(
        (path, " ".join(match[1].split()))
        for path in [*PAGES, *HELP]
        for text in [re.sub(r"(?m)^#\s?", "", path.read_text()).replace("\\\n", "")]
        for match in re.finditer(r"ray job submit.*? -- (python jobs/\w+\.py (?:[^`\n]|\n {6,})+)", text)
    ),
]


@pytest.mark.parametrize(
    ("path", "line"), SUBMITTED, ids=[f"{path.name}: {re.sub('.*jobs', '', line)[:40]}" for path, line in SUBMITTED]
)
def test_a_submitted_command_names_places_that_all_nodes_share(path, line, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    given = parse(line.split("#")[0])
    assert given["output"]  # the defaults are relative
    for name in {"output", "data", "classifier", "checkpoint", "land_cover"} & given.keys():
        if given[name]:
            check_shared(name, given[name])


def test_submitted_commands_are_found_in_pages_and_in_help():
    named = {path.name for path, _ in SUBMITTED}
    assert {"README.md", "local.md", "aws.yaml", "interactive.yaml", "train.yaml", "train_gan.py"} <= named


def test_a_misspelt_option_is_caught():
    with pytest.raises(Exception, match="No such option: --outputs"):
        parse("python jobs/map_region.py --outputs x.zarr")
