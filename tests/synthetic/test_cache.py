import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from spacex.synthetic import cache


def test_the_digest_ignores_comments_and_docstrings_but_no_code(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\n\n# words\nx = 1\n', "x = 2\n"):
        (tmp_path / "module.py").write_text(text)
        digests.append(cache.code_digest("module"))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_the_digest_counts_what_a_module_imports_from_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    (tmp_path / "module.py").write_text("from spacex.synthetic.other import x\n")
    digests = []
    for text in ("x = 1\n", "x = 2\n"):
        (tmp_path / "other.py").write_text(text)
        digests.append(cache.code_digest("module"))
    assert digests[0] != digests[1]


def test_a_folder_is_built_once_and_complete_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACEX_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.cached_folder("thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]
    built = []
    for _ in range(2):
        folder = cache.cached_folder("thing", lambda folder: built.append(folder))
    assert len(built) == 1
    assert folder == tmp_path / "thing"


def _slow_build(log: Path, folder: Path) -> None:
    with log.open("a") as file:
        file.write("built\n")
    time.sleep(0.3)
    (folder / "content").write_text("complete")


def _use(root: Path, log: Path) -> None:
    import os

    os.environ["SPACEX_CACHE"] = str(root)
    folder = cache.cached_folder("raced", partial(_slow_build, log))
    assert (folder / "content").read_text() == "complete"


def test_processes_that_race_build_once_and_all_see_it_complete(tmp_path):
    log, context = tmp_path / "log", multiprocessing.get_context("fork")
    racers = [context.Process(target=_use, args=(tmp_path / "root", log)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_what_takes_minutes_says_how_far_it_is_and_how_to_clear_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SPACEX_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "PROGRESS_S", 0.05)

    def build(folder: Path) -> None:
        (folder / "chip.tif").write_bytes(b"0" * 3_000_000)
        time.sleep(0.5)

    cache.cached_folder("dataset-default-0123", build)
    first, *lines = capfd.readouterr().err.splitlines()
    assert "embedded dataset once" in first
    assert f"MB in {tmp_path}" in first
    assert "remove that folder to clear it" in first
    assert any(line.startswith("dataset-default: 3 of about ") for line in lines)
    cache.cached_folder("dataset-default-0123", build)
    cache.cached_folder("dataset-tiny-0123", lambda folder: None)
    assert capfd.readouterr().err == ""


def test_a_script_without_a_main_guard_is_run_once(tmp_path):
    """Spawned processes would run it again, and each would wait for the folder that its parent is building."""
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\n"
        "from spacex.synthetic.cache import cached_folder, process_map\n"
        "print('begun', flush=True)\n"
        "def build(part):\n"
        "    with process_map(2) as parallel:\n"
        "        print(list(parallel(operator.neg, range(3))))\n"
        "print(cached_folder('x', build).name)\n"
    )
    environment = {**os.environ, "SPACEX_CACHE": str(tmp_path / "cache")}
    asked = {"capture_output": True, "text": True, "env": environment, "timeout": 60}
    assert subprocess.run([sys.executable, str(script)], **asked).stdout.split("\n") == [
        "begun",
        "[0, -1, -2]",
        "x",
        "",
    ]
