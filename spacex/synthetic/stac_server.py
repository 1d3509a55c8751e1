"""Runs rustac's STAC API until standard input closes, so that it ends with the process that started it.

Started as a file (``python stac_server.py serve --addr …``): rustac reads the command line of the process itself, and
keeps the interpreter to itself while it serves. So it serves in a forked child, and this process waits.
"""

from __future__ import annotations

import os
import signal
import sys


def _serve() -> None:
    import rustac

    os._exit(rustac.main() or 0)


def _wait_for_parent(child: int) -> None:
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))  # the server failed, perhaps for a port already taken
    sys.stdin.buffer.read()  # returns when the parent closes the pipe, also by dying
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    process = os.fork()
    if process:
        _wait_for_parent(process)
    else:
        _serve()
