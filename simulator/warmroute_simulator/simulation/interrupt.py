"""Ctrl-C ends a run between two callbacks, when every book is in order, and not in the middle of one.

A callback that does not come back (a policy of the user's own may hang) is interrupted where it is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from warmroute_simulator.simulation.kernel import Kernel

_PATIENCE_S: Final = 1.0
"""A thousand times what any callback of ours takes."""


@contextmanager
def stopping(kernel: Kernel) -> Iterator[None]:
    """Writes. While inside, SIGINT stops the kernel; KeyboardInterrupt is raised inside only when that takes
    too long. Outside of the main thread, which alone may say what a signal does, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        kernel.stopped = True
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)

    before = signal.signal(signal.SIGINT, stop), signal.signal(signal.SIGALRM, _interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGALRM, before[1])


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
