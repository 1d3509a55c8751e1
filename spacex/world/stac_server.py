"""Runs rustac's STAC API until standard input closes, so that it cannot outlive the process that started it.

Started as a file (``python stac_server.py serve --addr …``): rustac reads the command line of the process
itself.
"""

from __future__ import annotations

import os
import sys
import threading


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()  # returns when the parent closes the pipe, also by dying
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import rustac

    sys.exit(rustac.main())
