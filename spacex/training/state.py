"""The saved state of a run: everything it needs to go on as if it had never stopped, at any fsspec URI.

::

    <run>/state/run.json              settings of the run; another request in the same place is refused
    <run>/state/00007-1f3a/rank-0.pt  weights, running means, optimisers, pools, random state of each process
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


class RunStore:
    """Reads and writes the state of the run at a URI; each process writes a file of its own, rank 0 the pointer."""

    def __init__(self, uri: str, distributed: Distributed = SINGLE) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(uri)
        self.folder, self.uri = f"{self.root.rstrip('/')}/state", f"{uri.rstrip('/')}/state"
        self.distributed = distributed

    def bind(self, settings: Settings) -> None:
        """Write the run's settings to ``run.json``, or confirm that they are those written there.

        Raises:
            RequestError: if a run with other settings lives here.
        """
        if self.distributed.is_main and not self.fs.exists(f"{self.folder}/run.json"):
            write_text(f"{self.uri}/run.json", json.dumps(settings.model_dump(mode="json"), indent=2))
        self.distributed.barrier()
        self.check_settings(settings)

    def check_settings(self, settings: Settings) -> None:
        """Refuse a folder where another run lives, as `bind` does; writes nothing."""
        path = f"{self.folder}/run.json"
        if not self.fs.exists(path):
            return
        asked, stored = settings.model_dump(mode="json"), json.loads(self.fs.cat_file(path))
        # settings may have had other names when the run began; a run of another kind does not validate, and differs
        with contextlib.suppress(ValidationError):
            stored = type(settings).model_validate(stored).model_dump(mode="json")
        wrong = sorted(k for k in (asked.keys() | stored.keys()) - MAY_DIFFER if asked.get(k) != stored.get(k))
        if wrong:
            raise RequestError(
                f"{self.root} holds a run with other settings",
                got=", ".join(f"{k}={asked.get(k)!r}" for k in wrong),
                expected=", ".join(f"{k}={stored.get(k)!r}" for k in wrong),
                do="Choose another --output, or the same settings to resume.",
            )

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` (counted from 1); all processes call it, and return when it is written."""
        name = self.distributed.broadcast(f"{epoch:05d}-{secrets.token_hex(3)}")
        buffer = io.BytesIO()
        torch.save({"state": state, "random": random_state()}, buffer)
        content = buffer.getvalue()
        write_bytes(f"{self.uri}/{name}/rank-{self.distributed.rank}.pt", content)
        # gathering the hashes also waits until every process has written its file
        hashes = self.distributed.gather_objects(hashlib.sha256(content).hexdigest())
        if self.distributed.is_main:
            before = self._pointer()
            write_text(f"{self.uri}/latest.json", json.dumps({"epoch": epoch, "folder": name, "sha256": hashes}))
            # the epoch before is kept too, in case a reader still has it open
            kept = {name, before["folder"] if before else name}
            for folder in self.fs.ls(self.folder, detail=False):
                other = folder.rsplit("/", 1)[-1]
                if "-" in other and other not in kept:
                    self.fs.rm(folder, recursive=True)
        self.distributed.barrier()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Epochs done and this process's state, with the random state restored; None if nothing was saved.

        A process that had no file (more processes than before) takes rank 0's: only pools and random draws differ.

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
