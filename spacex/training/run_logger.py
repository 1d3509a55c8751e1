"""Logs a run while it runs: numbers per step, images, and warnings.

::

    <run>/log/steps.jsonl       one line per step
    <run>/log/events.out.…      the same for TensorBoard, with the images
    <run>/log/step-000200.png   x, x₊, x₋ and the attribution of the same few chips

Numbers stay on the device until a whole block of steps is fetched at once, because a GPU waits for every number that is
read. A remote run logs to a temporary folder that is copied after every epoch.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacex.storage import local_path

BLOCK = 20
"""Steps whose numbers are fetched from the device together."""


class RunLogger:
    """Writes numbers and images of one run; without a URI it writes nothing.

    Args:
        uri: folder of the run, local or any fsspec URI; None on all processes but one, and in tests.
        start: step from which on a resumed run writes; later lines of an earlier attempt are dropped.
    """

    def __init__(self, uri: str | None, start: int = 0) -> None:
        self.pending: list[tuple[int, list[str], Tensor]] = []
        self.last: dict[str, float] = {}
        self.folder: Path | None = None
        if uri is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.fs, root = fsspec.core.url_to_fs(uri)
        self.remote = None if local_path(uri) else f"{root.rstrip('/')}/log"
        self.folder = Path(tempfile.mkdtemp()) if self.remote else Path(root) / "log"
        self.folder.mkdir(parents=True, exist_ok=True)
        steps = self.folder / "steps.jsonl"
        if self.remote and self.fs.exists(f"{self.remote}/steps.jsonl"):
            self.fs.get_file(f"{self.remote}/steps.jsonl", str(steps))
        if steps.exists():
            kept = [line for line in steps.read_text().splitlines() if json.loads(line)["step"] <= start]
            steps.write_text("".join(f"{line}\n" for line in kept))
        self.board = SummaryWriter(str(self.folder), purge_step=start or None)  # type: ignore[no-untyped-call]

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.flush()
        if self.folder is not None:
            self.board.close()  # type: ignore[no-untyped-call]

    def step(self, number: int, values: Mapping[str, Tensor]) -> None:
        """Take the numbers of one step: scalar tensors on any device, fetched later."""
        # a learner's rate, for one, is a number of the CPU: all go to the GPU if any is there
        device = max((value.device for value in values.values()), key=lambda device: device.type == "cuda")
        stacked = torch.stack([value.detach().to(device, torch.float32).reshape(()) for value in values.values()])
        self.pending.append((number, list(values), stacked))
        if len(self.pending) >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Fetch and write what is pending; `last` then holds the newest step's numbers."""
        if not self.pending:
            return
        # one transfer for all steps, unless they have different names (pre-training ends within a block)
        alike = len({tuple(names) for _, names, _ in self.pending}) == 1
        rows = torch.stack([row for _, _, row in self.pending]).tolist() if alike else None
        lines = []
        for index, (number, names, row) in enumerate(self.pending):
            self.last = dict(zip(names, rows[index] if rows else row.tolist(), strict=True))
            lines.append(json.dumps({"step": number, **self.last}))
            self._scalars(number, self.last)
        self.pending.clear()
        if self.folder is not None:
            with (self.folder / "steps.jsonl").open("a") as file:
                file.write("\n".join(lines) + "\n")

    def epoch(self, number: int, values: Mapping[str, Any]) -> None:
        """Write an epoch's numbers, and copy a remote run's log to its place."""
        self.flush()
        self._scalars(number, {f"epoch/{k}": v for k, v in values.items() if isinstance(v, (int, float))})
        if self.folder is None:
            return
        self.board.flush()  # type: ignore[no-untyped-call]
        if self.remote:
            self.fs.makedirs(self.remote, exist_ok=True)
            for path in self.folder.iterdir():
                self.fs.put_file(str(path), f"{self.remote}/{path.name}")

    def image(self, step: int, image: NDArray[np.uint8]) -> None:
        """Write an image (rows, columns, 3) uint8 as PNG and for TensorBoard."""
        if self.folder is not None:
            from PIL import Image

            Image.fromarray(image).save(self.folder / f"step-{step:06d}.png")
            self.board.add_image("chips", image, step, dataformats="HWC")  # type: ignore[no-untyped-call]

    def warn(self, message: str) -> None:
        """Log that something is wrong with the run."""
        if self.folder is not None:
            self.board.add_text("warning", message)  # type: ignore[no-untyped-call]

    def _scalars(self, number: int, values: Mapping[str, float]) -> None:
        if self.folder is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, number)  # type: ignore[no-untyped-call]
