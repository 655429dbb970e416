"""Processes that Ctrl-C does not reach: it goes to the whole group, and their parent decides what follows.

A process is born with the signal mask of the thread that spawns it, so SIGINT is blocked around the spawning.
Two things would undo that, and are kept from it: the first spawn starts the resource tracker of
`multiprocessing`, which unblocks SIGINT when it is up; and a thread of some library that does not block it
may take the signal, upon which Python raises KeyboardInterrupt here, between a child and what it is to be
told.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def interrupts_held() -> Iterator[None]:
    """What is spawned inside never sees SIGINT; one that comes meanwhile is raised at the end."""
    resource_tracker.ensure_running()
    held: list[FrameType | None] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    deferred = main and callable(handler)
    if deferred:
        signal.signal(signal.SIGINT, lambda _signal, frame: held.append(frame))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if deferred:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held and callable(handler):
            handler(signal.SIGINT, held[0])
