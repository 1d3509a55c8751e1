"""The memory of a run: everything it needs to go on as if it had never stopped, at any fsspec URI.

::

    <run>/state/run.json              settings of the run; another request in the same place is refused
    <run>/state/00007-1f3a/rank-0.pt  weights, running means, optimisers, pools, random state of each worker
    <run>/state/latest.json           {epoch, folder, sha256 per file}: written last, so what it names is
    complete

Files are read with ``weights_only=True`` and checked against their hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import secrets
from typing import Any

import fsspec
import numpy as np
import torch
from pydantic import ValidationError

from spacex.errors import CheckpointError, RequestError
from spacex.settings import Settings
from spacex.storage import write_bytes, write_text
from spacex.training.distributed import SINGLE, Distributed

KEEP = 2
"""Epochs kept: the latest, and the one before in case a reader still has it open."""


class RunStore:
    """Reads and writes the state of one run.

    Args:
        uri: folder of the run, local or any fsspec URI.
        distributed: who trains; every worker writes its own file, the leader the pointer.
    """

    def __init__(self, uri: str, distributed: Distributed = SINGLE) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(uri)
        self.folder, self._uri = f"{self.root.rstrip('/')}/state", f"{uri.rstrip('/')}/state"
        self.distributed = distributed

    def bind(self, settings: Settings, free: frozenset[str] = frozenset()) -> None:
        """Make this place the run's, or confirm that it is.

        Args:
            settings: of the run, written to ``run.json``.
            free: names that may differ when a run is taken up again (how long, how many workers).

        Raises:
            RequestError: if a run with other settings lives here.
        """
        if self.distributed.is_main and not self.fs.exists(f"{self.folder}/run.json"):
            write_text(f"{self._uri}/run.json", json.dumps(settings.model_dump(mode="json"), indent=2))
        self.distributed.barrier()
        self.check_settings(settings, free)

    def check_settings(self, settings: Settings, free: frozenset[str] = frozenset()) -> None:
        """Refuse a place where another run lives, as `bind` does; writes nothing."""
        path = f"{self.folder}/run.json"
        if not self.fs.exists(path):
            return
        asked, found = settings.model_dump(mode="json"), json.loads(self.fs.cat_file(path))
        with contextlib.suppress(ValidationError):  # a setting may have had another name; a run of another kind differs
            found = type(settings).model_validate(found).model_dump(mode="json")
        wrong = sorted(k for k in asked.keys() | found.keys() if k not in free and asked.get(k) != found.get(k))
        if wrong:
            raise RequestError(
                f"{self.root} holds a run with other settings",
                got=", ".join(f"{k}={asked.get(k)!r}" for k in wrong),
                expected=", ".join(f"{k}={found.get(k)!r}" for k in wrong),
                do="Choose another --output, or the same settings to resume.",
            )

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` (counted from 1); all workers call it, and return when it is down."""
        name = self.distributed.broadcast(f"{epoch:05d}-{secrets.token_hex(3)}")
        buffer = io.BytesIO()
        torch.save({"state": state, "random": random_state()}, buffer)
        content = buffer.getvalue()
        write_bytes(f"{self._uri}/{name}/rank-{self.distributed.rank}.pt", content)
        hashes = self._gathered(hashlib.sha256(content).hexdigest())
        if self.distributed.is_main:
            pointer = {"epoch": epoch, "folder": name, "sha256": hashes}
            write_text(f"{self._uri}/latest.json", json.dumps(pointer))
            self._forget()
        self.distributed.barrier()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Epochs done and this worker's state, and the random state put back; None if nothing was saved.

        A worker that had no file (more workers than before) takes the leader's: only pools and random
        draws differ.

        Raises:
            CheckpointError: if a file does not match its hash.
        """
        pointer = self.distributed.broadcast(self._pointer() if self.distributed.is_main else None)
        if pointer is None:
            return None
        rank = self.distributed.rank if self.distributed.rank < len(pointer["sha256"]) else 0
        path = f"{self.folder}/{pointer['folder']}/rank-{rank}.pt"
        content = self.fs.cat_file(path)
        if hashlib.sha256(content).hexdigest() != pointer["sha256"][rank]:
            raise CheckpointError(f"{path} is damaged", do=f"Delete {self.folder} to start afresh.")
        saved = torch.load(io.BytesIO(content), map_location=self.distributed.device, weights_only=True)
        set_random_state(saved["random"])
        return int(pointer["epoch"]), saved["state"]

    def _pointer(self) -> dict[str, Any] | None:
        path = f"{self.folder}/latest.json"
        return json.loads(self.fs.cat_file(path)) if self.fs.exists(path) else None

    def _gathered(self, text: str) -> list[str]:
        if self.distributed.size == 1:
            return [text]
        all_texts: list[Any] = [None] * self.distributed.size
        torch.distributed.all_gather_object(all_texts, text)
        return all_texts

    def _forget(self) -> None:
        folders = sorted(p for p in self.fs.ls(self.folder, detail=False) if "-" in p.rsplit("/", 1)[-1])
        latest = self._pointer()
        current = latest["folder"] if latest else ""
        for old in [p for p in folders if not p.endswith(current)][: -(KEEP - 1)]:
            self.fs.rm(old, recursive=True)


def random_state() -> dict[str, Any]:
    """The state of every global random stream, as tensors, lists and numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys)), int(position), int(has_gauss), float(gauss)],
        "python": _plain(random.getstate()),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put the global random streams where `random_state` found them."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy(), position, has_gauss, gauss))
    version, inner, gauss_next = state["python"]
    random.setstate((version, tuple(inner), gauss_next))


def _plain(state: tuple[Any, ...]) -> list[Any]:
    return [state[0], list(state[1]), state[2]]
