"""Runs a `kvroute` command that dies with the process that started it.

`python -m kvroute.demo.tethered PARENT_PID COMMAND [ARGUMENTS...]`. On Linux the kernel sends
SIGKILL when the parent's starting thread ends (prctl(2), PR_SET_PDEATHSIG); elsewhere the process
is an ordinary child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tether(parent: int) -> bool:
    """Ties this process to `parent`; False where it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def run() -> None:
    """Ties this process to the parent that its first argument names, then runs the command."""
    parent = int(sys.argv[1])
    if not tether(parent):
        raise SystemExit(f"the parent {parent} has ended")
    sys.argv = ["kvroute", *sys.argv[2:]]

    from kvroute.cli import main

    main()


if __name__ == "__main__":
    run()
