"""A program in a terminal: a real pseudo-terminal, and what a person would see on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyte

from live.polling import PATIENCE_S, eventually

_READ_S = 0.02

# The alternate screen and the cursor, as xterm calls them; pyte knows only the second.
_ALTERNATE = b"\x1b[?1049"


class Terminal:
    """State: the pseudo-terminal, the process in it, and the screen as far as its output was read."""

    def __init__(self, command: Sequence[str], columns: int, lines: int, env: dict[str, str]) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.output = b""
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.settings: list[Any] = termios.tcgetattr(self._theirs)
        """Before the program came."""
        self.process = subprocess.Popen(
            command,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        """As a person who drags a corner of the window."""
        with self._lock:
            self.screen.resize(lines, columns)
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, *words: str) -> str:
        """Until all of the words are on the screen at once."""

        def seen() -> str:
            text = self.text
            return text if all(word in text for word in words) else ""

        try:
            return eventually(seen, f"{words} on the screen")
        except AssertionError:
            raise AssertionError(f"{words} did not come to the screen:\n{self.text}") from None

    def wait_without(self, word: str) -> str:
        """Until the word is not on the screen."""
        eventually(lambda: word not in self.text, f"no {word!r} on the screen")
        return self.text

    def wait(self) -> int:
        """Until the program has ended, and all it wrote was read."""
        code = self.process.wait(PATIENCE_S)
        self._ended.set()
        self._thread.join(PATIENCE_S)
        return code

    def is_changed(self) -> bool:
        """Whether echo or lines are off, the cursor is hidden, or the alternate screen is shown."""
        in_alternate = self.output.rfind(_ALTERNATE + b"h") > self.output.rfind(_ALTERNATE + b"l")
        hidden = self.output.rfind(b"\x1b[?25l") > self.output.rfind(b"\x1b[?25h")
        return termios.tcgetattr(self._theirs) != self.settings or in_alternate or hidden

    def close(self) -> None:
        """Ends the program if it still runs."""
        self.process.kill()
        self.process.wait()
        self._ended.set()
        self._thread.join(PATIENCE_S)
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self) -> None:
        while True:
            ready = select.select([self._ours], [], [], _READ_S)[0]
            if not ready:
                if self._ended.is_set():
                    return
                continue
            data = os.read(self._ours, 1 << 16)
            with self._lock:
                self.output += data
                self._stream.feed(data)


@contextlib.contextmanager
def terminal(
    command: Sequence[str], columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """The program for the block's time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    for unwanted in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        kept.pop(unwanted, None)
    one = Terminal(command, columns, lines, kept | {"TERM": "xterm-256color"} | (env or {}))
    try:
        yield one
    finally:
        one.close()


class StartTop(Protocol):
    def __call__(
        self, url: str, *flags: str, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
    ) -> Terminal:
        """`router top` in a terminal of its own."""
        ...
