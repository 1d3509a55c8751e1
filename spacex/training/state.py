"""The saved state of a run: everything it needs to go on as if it had never stopped, at any fsspec URI.

::

    <run>/state/run.json              settings of the run; another request in the same place is refused
    <run>/state/00007-1f3a/shared.pt  weights, running means, optimisers: equal on all processes, so rank 0 writes them
    <run>/state/00007-1f3a/rank-0.pt  image pools and random state of each process
    <run>/state/latest.json           {epoch, folder, sha256 per file}: written last, so what it names is complete

Files are read with ``weights_only=True`` and checked against their hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import secrets
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np
import torch
from pydantic import ValidationError

from spacex.errors import CheckpointError, RequestError
from spacex.settings import Settings
from spacex.storage import write_bytes, write_text
from spacex.training.distributed import SINGLE, Distributed

MAY_DIFFER = frozenset({"readers", "trust"})
"""Settings that may differ when a run is resumed: they do not change what is learnt."""
PLACES = frozenset({"output", "weights", "root", "classifier", "extra_classifiers", "start"})
"""Settings that say where something lies. A copied run and moved data are the same: what lies there is compared."""


class RunStore:
    """Reads and writes the state of the run at a URI.

    Args:
        uri: of the run's folder.
        distributed: the processes that train together.
        digests: by name, of what the run reads: the split of its data, its classifiers.
    """

    def __init__(self, uri: str, distributed: Distributed = SINGLE, digests: Mapping[str, str] | None = None) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(uri)
        self.folder, self.uri = f"{self.root.rstrip('/')}/state", f"{uri.rstrip('/')}/state"
        self.distributed, self.digests = distributed, dict(digests or {})

    def bind(self, settings: Settings) -> None:
        """Write the run's settings to ``run.json``, or confirm that they are those written there.

        Raises:
            RequestError: if a run with other settings lives here.
        """
        if self.distributed.is_main and not self.fs.exists(f"{self.folder}/run.json"):
            described = settings.model_dump(mode="json") | {"digests": self.digests}
            write_text(f"{self.uri}/run.json", json.dumps(described, indent=2))
        self.distributed.barrier()
        self.check_settings(settings)

    def check_settings(self, settings: Settings) -> None:
        """Refuse a folder where another run lives, as `bind` does; writes nothing."""
        path = f"{self.folder}/run.json"
        if not self.fs.exists(path):
            return
        asked, stored = settings.model_dump(mode="json"), self._read_json("run.json")
        digests = stored.pop("digests", None)
        # settings may have had other names when the run began; a run of another kind does not validate, and differs
        with contextlib.suppress(ValidationError):
            stored = type(settings).model_validate(stored).model_dump(mode="json")
        # earlier versions stored no digests: there the places are all that tells what was read
        if digests is not None:
            asked, stored = _without_places(asked) | self.digests, _without_places(stored) | digests
        wrong = sorted(k for k in (asked.keys() | stored.keys()) - MAY_DIFFER if asked.get(k) != stored.get(k))
        if wrong:
            raise RequestError(
                f"{self.root} holds a run with other settings",
                got=", ".join(f"{k}={asked.get(k)!r}" for k in wrong),
                expected=", ".join(f"{k}={stored.get(k)!r}" for k in wrong),
                do="Choose another --output, or the same settings to resume.",
            )

    def save(self, epoch: int, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Write the state after `epoch` (counted from 1); all processes call it, and return when it is written.

        Args:
            epoch: that was finished.
            shared: what is equal on all processes; written once.
            own: what each process has for itself.
        """
        name = self.distributed.broadcast(f"{epoch:05d}-{secrets.token_hex(3)}")
        pointer = {"epoch": epoch, "folder": name}
        if self.distributed.is_main:
            pointer["shared"] = self._write(f"{name}/shared.pt", shared)
        # gathering the hashes also waits until every process has written its file
        content = {"own": own, "random": random_state()}
        hashes = self.distributed.gather_objects(self._write(f"{name}/rank-{self.distributed.rank}.pt", content))
        if self.distributed.is_main:
            before = self._pointer()
            write_text(f"{self.uri}/latest.json", json.dumps({**pointer, "sha256": hashes}))
            # the epoch before is kept too, in case a reader still has it open
            kept = {name, before["folder"] if before else name}
            for folder in self.fs.ls(self.folder, detail=False):
                other = folder.rsplit("/", 1)[-1]
                if "-" in other and other not in kept:
                    self.fs.rm(folder, recursive=True)
        self.distributed.barrier()

    def load(self) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Epochs done, shared and own state, with the random state restored; None if nothing was saved.

        A process that had no file (more processes than before) takes rank 0's: only pools and random draws differ.

        Raises:
            CheckpointError: if a file does not match its hash.
        """
        pointer = self.distributed.broadcast(self._pointer() if self.distributed.is_main else None)
        if pointer is None:
            return None
        rank = self.distributed.rank if self.distributed.rank < len(pointer["sha256"]) else 0
        saved = self._read(f"{pointer['folder']}/rank-{rank}.pt", pointer["sha256"][rank])
        set_random_state(saved["random"])
        if "shared" not in pointer:  # of an earlier version, in which every process wrote all
            return int(pointer["epoch"]), saved["state"], {}
        return int(pointer["epoch"]), self._read(f"{pointer['folder']}/shared.pt", pointer["shared"]), saved["own"]

    def _write(self, name: str, content: dict[str, Any]) -> str:
        """Write a file of tensors; gives its hash."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(f"{self.uri}/{name}", buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    def _read(self, name: str, digest: str) -> dict[str, Any]:
        """The content of a file of tensors, on this process's device; CheckpointError if it has another hash."""
        file = f"{self.folder}/{name}"
        content = self.fs.cat_file(file) if self.fs.exists(file) else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise self._damaged(name)
        saved: dict[str, Any] = torch.load(io.BytesIO(content), map_location=self.distributed.device, weights_only=True)
        return saved

    def epochs_done(self) -> int:
        """Epochs whose state is saved."""
        pointer = self._pointer()
        return int(pointer["epoch"]) if pointer else 0

    def _pointer(self) -> dict[str, Any] | None:
        if not self.fs.exists(f"{self.folder}/latest.json"):
            return None
        pointer = self._read_json("latest.json")
        if not pointer.keys() >= {"epoch", "folder", "sha256"}:
            raise self._damaged("latest.json")
        return pointer

    def _read_json(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(content := json.loads(self.fs.cat_file(f"{self.folder}/{name}")), dict):
                return content
        raise self._damaged(name)

    def _damaged(self, name: str) -> CheckpointError:
        return CheckpointError(f"{self.folder}/{name} is damaged", do=f"Delete {self.folder} to start afresh.")


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON without `PLACES`, also of the settings within them."""
    inner = {name: _without_places(value) if isinstance(value, Mapping) else value for name, value in settings.items()}
    return {name: value for name, value in inner.items() if name not in PLACES}


def random_state() -> dict[str, Any]:
    """The state of every global random stream, as tensors, lists and numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, inner, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(inner), gauss_next],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the global random streams to what `random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy(), position, has_gauss, gauss))
    version, inner, gauss_next = state["python"]
    random.setstate((version, tuple(inner), gauss_next))
