"""Keys without Enter, and a terminal that is afterwards as it was before."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

_SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\x1b[Z": "back-tab",
    b"\t": "tab", b"\x03": "ctrl-c", b"\x1b": "esc", b"\r": "enter", b"\n": "enter",
}  # fmt: skip

# All that may come between two looks; a paste is longer, and means nothing here.
_READ_BYTES: Final = 256

_LOCAL_FLAGS, _CONTROL_CHARACTERS = 3, 6


def keys_of(data: bytes) -> list[str]:
    """Names of the keys that were pressed; a sequence that is not known is no key."""
    keys = []
    while data:
        if data.startswith((b"\x1b[", b"\x1bO")):
            end = next(
                (at for at in range(2, len(data)) if data[at : at + 1].isalpha() or data[at] == 0x7E), 0
            )
            size = end + 1 if end else len(data)
        else:
            size = 1
        sequence, data = data[:size], data[size:]
        name = _SEQUENCES.get(sequence)
        if name is not None:
            keys.append(name)
        elif size == 1 and 0x20 <= sequence[0] < 0x7F:
            keys.append(sequence.decode())
    return keys


class Terminal:
    """State: the terminal's own settings and the former handlers of signals, to be put back.

    While it is entered, keys are not echoed and come at once, and Ctrl-Z does nothing: a stopped process
    would leave its picture behind. `on_stop` is called for the signals that ask for an end, `on_resize` when
    the window has another size.
    """

    def __init__(self, on_stop: Callable[[], None], on_resize: Callable[[], None]) -> None:
        self._handlers = {
            signal.SIGINT: on_stop, signal.SIGTERM: on_stop, signal.SIGHUP: on_stop,
            signal.SIGWINCH: on_resize,
        }  # fmt: skip
        self._former: dict[int, Any] = {}
        self._attributes: list[Any] | None = None
        self.keys: int | None = sys.stdin.fileno() if sys.stdin.isatty() else None
        """To wait on; None: keys cannot be read."""

    def __enter__(self) -> Terminal:
        if self.keys is not None:
            self._attributes = termios.tcgetattr(self.keys)
            changed = termios.tcgetattr(self.keys)
            changed[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
            changed[_CONTROL_CHARACTERS][termios.VSUSP] = b"\x00"
            termios.tcsetattr(self.keys, termios.TCSADRAIN, changed)
        for number, handler in self._handlers.items():

            def called(_: int, __: FrameType | None, handler: Callable[[], None] = handler) -> None:
                handler()

            self._former[number] = signal.signal(number, called)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.keys is not None and self._attributes is not None:
            termios.tcsetattr(self.keys, termios.TCSADRAIN, self._attributes)
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def read(self) -> list[str]:
        """Reads. The keys that wait; a terminal that is gone is a stop."""
        assert self.keys is not None
        try:
            data = os.read(self.keys, _READ_BYTES)
        except OSError:
            data = b""
        return keys_of(data) if data else ["ctrl-c"]
