"""How far a long run is, and how long it will still take: a bar on stderr, for a person who waits.

It appears after a second, and only where stderr is a terminal. `advance` is called for every request of a
simulation, so it costs an addition and a comparison; the clock is looked at some ten times a second, at a
count that is guessed from the speed so far.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO, final

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_SHOWN_AFTER_S: Final = 1.0
"""What is shorter is over before anybody has read a bar."""
_LOOK_EVERY_S: Final = 0.1
"""Smooth to the eye, and free."""
_NEVER: Final = sys.maxsize


@final
class Progress:
    """State: the count, when to look at the clock next, and the bar once it is shown.

    with Progress(len(trace), "requests") as progress:
        …
        progress.advance(1)
    """

    __slots__ = ("_bar", "_clock", "_look_at", "_start_s", "_stream", "_task", "done", "total", "what")

    def __init__(
        self,
        total: int | None,
        what: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`total` None: nobody knows how much there is; then there is no ETA."""
        self.total = total
        self.what = what
        self.done = 0
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start_s = clock()
        self._look_at = 1 if self._stream.isatty() else _NEVER
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    @property
    def shown(self) -> bool:
        """Reads."""
        return self._bar is not None

    def advance(self, n: int = 1) -> None:
        """Writes. So much more is done."""
        self.done += n
        if self.done >= self._look_at:
            self._look()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes. Takes the bar away: what it told is in the report."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._look_at = _NEVER

    def _look(self) -> None:
        """Writes. Shows how far it is, and guesses at which count to look again."""
        past_s = max(self._clock() - self._start_s, 1e-6)
        step = int(self.done / past_s * _LOOK_EVERY_S)
        # Twice the count at most: what was fast at first may become slow.
        self._look_at = self.done + max(min(step, self.done), 1)
        if past_s < _SHOWN_AFTER_S:
            return
        if self._bar is None:
            self._show()
        if self._bar is not None and self._task is not None:
            left = "" if self.total is None else self._left(past_s)
            self._bar.update(self._task, completed=self.done, total=self.total, left=left, refresh=True)

    def _left(self, past_s: float) -> str:
        """Reads. At the mean speed so far: a study's parts come one a minute, too few for a recent one."""
        seconds = round(past_s * max((self.total or 0) - self.done, 0) / self.done)
        minutes, seconds = divmod(seconds, 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(file=self._stream),
            auto_refresh=False,  # no thread beside the simulation
            transient=True,
        )
        self._task = self._bar.add_task(self.what, total=self.total, left="")
        self._bar.start()
