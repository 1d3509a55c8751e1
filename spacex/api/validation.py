"""Checks of single settings, made before anything heavy is loaded and before anything is written.

A check is called with the setting's name and its value, and raises `RequestError`. A parser makes a value of text.
Numbers have their limits where they are declared; what needs a catalogue, a checkpoint or a data set to be checked is
checked where that is opened.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spacex.datasets.kinds import split_kind
from spacex.errors import RequestError
from spacex.storage import exists, local_path, split_protocol
from spacex.weights import SHIPPED

WRITABLE = ("file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "sftp", "smb")
"""Stores a cube, a run or a file may be written to, by fsspec's names."""

LONGEST_NAME = 200
"""Bytes of a file's name; disks take 255, and some names get an ending on the way."""


# ---- what is written ------------------------------------------------------------


def check_folder(name: str, uri: str) -> None:
    """Refuse a folder that cannot be made or filled; leaves nothing behind.

    Raises:
        RequestError: if the store is unknown, out of reach or closed to us, the path leads through a file, or names
            another folder on each node of a cluster.
    """
    if (folder := _local_place(name, uri)) is not None:
        # the folder itself need not exist: what counts is the first of its parents that does
        ancestor = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        if not ancestor.is_dir():
            raise RequestError(f"{name} leads through a file", got=uri, expected=f"{ancestor} to be a folder")
        _check_writable(name, uri, ancestor)


def check_file(name: str, uri: str) -> None:
    """Refuse a file that cannot be written, in a folder that must be there already; leaves nothing behind.

    Raises:
        RequestError: as `check_folder`.
    """
    if (file := _local_place(name, uri)) is not None:
        if not file.parent.is_dir():
            raise RequestError(f"{name}: no folder {file.parent}", got=uri, do="Make it first.")
        if file.is_dir() or uri.endswith("/"):
            raise RequestError(f"{name} is a folder", got=uri, expected="the name of a file")
        _check_writable(name, uri, file.parent)


def check_table(name: str, uri: str) -> None:
    """Refuse a table of sites whose name has no ending of a known format, or that cannot be written."""
    if not uri.lower().endswith((".parquet", ".gpkg", ".csv")):
        raise RequestError(f"{name} has no ending that says its format", got=uri, expected=".parquet, .gpkg or .csv")
    check_file(name, uri)


def _local_place(name: str, uri: str) -> Path | None:
    """The path to be written; None for that of a store, which has been asked for it then."""
    check_shared(name, uri)
    path = local_path(uri)
    if path is None:
        _check_store(name, uri)
    elif any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise RequestError(f"{name} has a name no disk takes", expected=f"at most {LONGEST_NAME} bytes each")
    return path


def _check_writable(name: str, uri: str, folder: Path) -> None:
    try:
        # a nameless file: permissions alone do not tell, neither for root nor in /proc
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(f"{name} cannot be written", got=f"{uri} ({error.strerror})") from error


def _check_store(name: str, uri: str) -> None:
    """Ask a remote store whether it knows the place: that takes its package, credentials and network."""
    protocol, path = split_protocol(uri)
    if protocol not in WRITABLE:
        stores = ", ".join(f"{store}://" for store in WRITABLE[2:])
        raise RequestError(f"{name} is no place to write to", got=uri, expected=f"a path, or one of {stores}")
    if not path.strip("/"):
        raise RequestError(f"{name} names a store but no place in it", got=uri, expected="e.g. s3://bucket/name")
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
        fs.exists(path)
    except Exception as error:  # every store has its own errors for a missing package, key, bucket or network
        got = f"{uri} ({type(error).__name__}: {error})"
        raise RequestError(f"{name} cannot be reached", got=got, do="Check its name and your credentials.") from error


def check_dataset_folder(name: str, uri: str) -> None:
    """Refuse a folder that a new data set cannot be written to."""
    if local_path(uri) is None:
        raise RequestError(f"{name} must be a folder on a disk, for training reads it from there", got=uri)
    if uri.rstrip("/").endswith(".zarr"):
        raise RequestError(f"{name} is the name of a cube", got=uri, expected="a folder for the chips")
    check_folder(name, uri)


# ---- what all nodes of a cluster use --------------------------------------------

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets for a job that was submitted to it, and for nothing else."""
UNPACKED = "working_dir_files"
"""Folder below which every node unpacks what ``ray job submit --working-dir`` sends, and clears it away later."""


def check_shared(name: str, uri: str) -> None:
    """Refuse, in a job that was submitted to Ray, a path that means another place on each node.

    A job begins in Ray's own copy of the code: what is written below it is lost with the copy, and what is read there
    is not what its author sees. Whether an absolute path lies on a shared disk is seen by the workers
    (`spacex.storage.check_visible`); on one machine it needs none.

    Raises:
        RequestError: if the path is relative, or leads into Ray's copy of the code.
    """
    path = local_path(uri)
    if path is None or RAY_JOB not in os.environ:
        return
    # the path as it was given: `local_path` has made a relative one absolute already
    if UNPACKED in path.parts or not Path(split_protocol(uri)[1]).expanduser().is_absolute():
        raise RequestError(
            f"{name} is another place on every node of the cluster, and is cleared away with the job",
            got=uri,
            expected="an absolute path on a disk that all nodes share, or an object store, e.g. s3://bucket/name",
        )


# ---- what is read ------------------------------------------------------------


def check_exists(name: str, uri: str) -> None:
    """Refuse a local file or folder that is not there; those of remote stores are looked for when opened."""
    path = local_path(uri)
    if path is not None and not exists(path):
        raise RequestError(f"{name}: there is no {uri}")


def check_local_file(name: str, uri: str) -> None:
    """Refuse a file that is not there, or not on this machine."""
    if local_path(uri) is None:
        raise RequestError(f"{name} must be a file of this machine", got=uri, do="Copy it here first.")
    check_exists(name, uri)


def check_local_files(name: str, files: str | Sequence[str]) -> None:
    """Refuse files as `check_local_file`; several are a list."""
    for file in [files] if isinstance(files, str) else files:
        check_local_file(name, file)


def check_zones(name: str, zones: object) -> None:
    """Refuse a file of polygons that is not there, or not on this machine; a table in memory is checked when used."""
    if isinstance(zones, str):
        check_local_file(name, zones)


def check_shared_file(name: str, uri: str) -> None:
    """Refuse a file that is not there, or that the workers of a cluster do not see."""
    check_shared(name, uri)
    check_local_file(name, uri)


def check_shared_input(name: str, uri: str) -> None:
    """Refuse a file or a URI that is not there, or that the workers of a cluster do not see."""
    check_shared(name, uri)
    check_exists(name, uri)


def check_data(name: str, root: str) -> None:
    """Refuse a data set that is neither a folder nor ``demo``."""
    if root == "demo":
        return
    folder = split_kind(root)[1]
    check_shared(name, folder)
    if not os.path.isdir(folder):
        raise RequestError(f"{name}: no folder {folder}", do="Give the data set's folder, or 'demo'.")


def check_checkpoints(name: str, uris: object) -> None:
    """Refuse local folders that hold no checkpoint; those of remote stores are looked for when opened."""
    for uri in uris if isinstance(uris, list | tuple) else [uris]:
        if not isinstance(uri, str) or uri in SHIPPED:  # loaded already, or part of this package
            continue
        check_shared(name, uri)
        path = local_path(uri)
        if path is not None and not os.path.isfile(path / "card.json"):
            do = "Give the folder that `spacex train-gan` or `spacex import-checkpoint` printed."
            raise RequestError(f"{name}: no checkpoint at {uri}", got="no card.json", do=do)


# ---- values ------------------------------------------------------------


def check_crs(name: str, crs: str) -> None:
    """Refuse a CRS that no cube can have."""
    from spacex.grid import check_crs

    check_crs(crs)


def check_resolution(name: str, resolution: float) -> None:
    """Refuse a pixel size that does not divide whole kilometres."""
    from spacex.grid import snap_metres

    snap_metres(resolution)


def check_gpu(name: str, gpu: bool) -> None:
    """Refuse a GPU where this machine has none; in a cluster the GPUs are elsewhere, and may yet come."""
    if gpu and not (os.environ.keys() & {"RAY_ADDRESS", "RAY_JOB_ID"}):
        from spacex.training.distributed import choose_device

        choose_device(gpu)


def check_overrides(name: str, overrides: Sequence[str]) -> None:
    """Refuse to override what has a setting of its own, with checks of its own."""
    for override in overrides:
        if override.partition("=")[0].strip() == "output":
            raise RequestError(f"{name} cannot move the run", got=override, do="Give --output.")


def split_names(name: str, text: str) -> tuple[str, ...]:
    """The words of a text separated by commas, each once."""
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < len(names):
        raise RequestError(f"{name} names one twice", got=text)
    return names


def names_of(*known: str, kind: Callable[[str], Any] = str) -> Callable[[str, str], tuple[Any, ...]]:
    """A parser of known names separated by commas."""

    def parse(name: str, text: str) -> tuple[Any, ...]:
        names = split_names(name, text)
        if wrong := [one for one in names if one not in known]:
            raise RequestError(f"{name}: unknown name", got=", ".join(map(repr, wrong)), expected=", ".join(known))
        return tuple(map(kind, names))

    return parse


def parse_place(name: str, text: str) -> tuple[float, ...]:
    """Longitude and latitude from ``24.1,67.9``."""
    try:
        place = tuple(map(float, text.split(",")))
    except ValueError:
        place = ()
    if len(place) != 2:
        raise RequestError(name, got=text, expected="LON,LAT in degrees, e.g. 24.1,67.9")
    return place


def parse_bands(name: str, text: str) -> tuple[str, ...]:
    """Bands from ``B02,B03,B04`` or ``all``, which are Sentinel-2's ten land bands.

    Raises:
        RequestError: if one is unknown or given twice.
    """
    from spacex.settings import PICTURE_BANDS, SENTINEL2_BANDS

    bands = SENTINEL2_BANDS if text == "all" else split_names(name, text)
    if unknown := [band for band in bands if band not in SENTINEL2_BANDS + PICTURE_BANDS]:
        raise RequestError("unknown bands", got=",".join(unknown), expected=f"some of {','.join(SENTINEL2_BANDS)}")
    return bands


def parse_json_object(name: str, text: str) -> dict[str, Any]:
    """Names and values from JSON."""
    example = 'e.g. {"num_classes": 1}'
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{name} is not JSON", got=error, expected=example) from error
    if not isinstance(values, dict):
        raise RequestError(name, got=text, expected=f"names and values, {example}")
    return values
