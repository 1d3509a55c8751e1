"""Writes that nobody sees half of, and what counts as local."""

from pathlib import Path

import fsspec
import pytest

from spacex.storage import atomic_path, local_path, write_bytes, write_text


def test_what_counts_as_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path("a/b") == tmp_path / "a" / "b"
    assert local_path(f"file://{tmp_path}/x/") == tmp_path / "x"
    assert local_path(Path("a")) == tmp_path / "a"
    assert local_path("memory://a") is None
    assert local_path("s3://bucket/a") is None


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path, durable):
    file = tmp_path / "folder" / "x.json"
    write_text(file, "old")
    write_bytes(f"file://{file}", "né".encode(), durable=durable)
    assert file.read_text(encoding="utf-8") == "né"
    assert list(file.parent.iterdir()) == [file]


def test_an_object_store_is_written_with_one_put():
    write_text("memory://storage-test/a/x.json", "text")
    assert fsspec.filesystem("memory").cat_file("/storage-test/a/x.json") == b"text"


def test_a_block_that_fails_leaves_the_old_content(tmp_path):
    file = tmp_path / "x"
    file.write_text("old")

    def fail_in_a_file():
        with atomic_path(file) as part:
            part.write_text("half of the n")
            raise RuntimeError

    def fail_in_a_folder():
        with atomic_path(tmp_path / "folder") as part:
            part.mkdir()
            (part / "y").touch()
            raise RuntimeError

    for fail in (fail_in_a_file, fail_in_a_folder):
        with pytest.raises(RuntimeError):
            fail()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert file.read_text() == "old"
