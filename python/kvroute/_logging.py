"""Brings the core's log records to Python's `logging`, under the logger "kvroute".

Native threads never take the GIL: they fill a bounded queue, and one daemon thread of Python's
empties it. It is started with the first router and ended before the interpreter is, so that no
native call is left to return into an interpreter that is gone.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from kvroute import _core

_LOGGER = logging.getLogger("kvroute")
_WAIT_SECONDS = 5.0

_lock = threading.Lock()
_thread: threading.Thread | None = None
_stopping = False


def start() -> None:
    """Starts the forwarding thread; does nothing where it already runs."""
    global _thread
    with _lock:
        if _thread is None and not _stopping:
            _thread = threading.Thread(target=_forward, name="kvroute-log", daemon=True)
            _thread.start()


def _forward() -> None:
    while not _stopping:
        record = _core._next_log_record(_WAIT_SECONDS)
        if record is not None:
            level, message = record
            _LOGGER.log(level, "%s", message)


def _stop() -> None:
    global _stopping
    _stopping = True
    _core._close_log()
    thread = _thread
    if thread is not None:
        thread.join(timeout=_WAIT_SECONDS)


def _forget_thread() -> None:
    global _thread, _lock
    _thread = None
    _lock = threading.Lock()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget_thread)
