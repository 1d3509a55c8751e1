"""Refuses files to be written over what the same request reads, over each other, or into a cube."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from spacex.api.validation import check_dataset_folder, check_file, check_folder, check_table
from spacex.errors import RequestError
from spacex.storage import local_path, real_uri

FILES, FOLDERS = (check_file, check_table), (check_folder, check_dataset_folder)
"""Checks that tell which settings name what is written."""


def check_outputs(given: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse a request of which one file would be lost.

    Args:
        given: of every setting, by the name that errors call it, its value and its declaration.

    Raises:
        RequestError: if a file that is written is also read, or written twice, or if anything but a cube would be
            written into a cube.
    """
    for name, (output, setting) in given.items():
        if setting.check not in FILES + FOLDERS or not isinstance(output, str):
            continue
        path = local_path(output)
        folders = [] if path is None else [path.resolve(), *path.resolve().parents]
        # a cube itself is no place in a cube
        around = folders[1:] if setting.ending == ".zarr" else folders
        if inside := [one for one in around if one.name.lower().endswith(".zarr") and one.is_dir()]:
            raise RequestError(f"{name} lies in a cube", got=output, expected=f"a place outside of {inside[0]}")
        for other, (value, _) in given.items() if setting.check in FILES else ():
            texts = value if isinstance(value, list | tuple) else [value]
            if other != name and any(isinstance(text, str) and _same(text, output) for text in texts):
                raise RequestError(f"{name} and {other} are one file", got=output, do="Give it another name.")


def _same(one: str, other: str) -> bool:
    first, second = local_path(one), local_path(other)
    with suppress(OSError, ValueError):  # one of them is not there, or no name
        if real_uri(one) == real_uri(other):
            return True
        return first is not None and second is not None and os.path.samefile(first, second)
    return False
