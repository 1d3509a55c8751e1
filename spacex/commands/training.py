"""What the commands that run networks share: whether there is a GPU."""

from __future__ import annotations

import os


def check_gpu(gpu: bool) -> None:
    """Refuse `--gpu` at once where this machine has none; in a cluster the GPUs are elsewhere, and may yet come.

    Raises:
        RequestError: if there is no GPU.
    """
    if gpu and not (os.environ.keys() & {"RAY_ADDRESS", "RAY_JOB_ID"}):
        from spacex.training.distributed import choose_device

        choose_device(gpu)
