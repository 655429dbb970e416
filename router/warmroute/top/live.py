"""The loop of keys and pictures. Where no picture can stand (a pipe, a dumb terminal) it is a line each time.

The loop waits for three things at once: a key, news of the feed's thread, and the time of the next picture.
It never waits for the router.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from rich.console import Console
from rich.live import Live

from warmroute.top import frame
from warmroute.top.feed import Feed, NotAllowed, NotReachable, Router, Told, decode
from warmroute.top.options import Options
from warmroute.top.schema import Decisions, Snapshot
from warmroute.top.state import Question, State
from warmroute.top.terminal import Terminal

OK: Final = 0
FAILED: Final = 1

_PAGE_WIDTH: Final = 110
"""Of `--once` where nobody looks at a terminal."""

_STANDARD_OUTPUT: Final = Path("-")

WAITING_MAX: Final = 100
"""News that wait while the terminal takes no picture (Ctrl-S, a connection that hangs): twenty seconds of
decisions, of which no terminal shows more at once."""


def run(options: Options) -> int:
    """Until the operator quits: 0. 1: the key is wrong, or the router was not there at the first contact."""
    router = Router(options.url, options.api_key)
    console = Console(highlight=False)
    try:
        if options.once or options.json is not None:
            return _once(router, options, console)
        if console.is_terminal and not console.is_dumb_terminal:
            return _Screen(router, options, console).run()
        _lines(router, options)
    except (NotAllowed, NotReachable) as error:
        where = "" if isinstance(error, NotAllowed) else f"{router.url}: "
        print(f"router top: error: {where}{error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return OK
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _once(router: Router, options: Options, console: Console) -> int:
    data = router.snapshot()
    state = State(router.url)
    state.take(decode(data))
    if options.json is not None:
        text = msgspec.json.format(data).decode() + "\n"
        if options.json == _STANDARD_OUTPUT:
            print(text, end="")
        else:
            try:
                options.json.write_text(text, encoding="utf-8")
            except OSError as error:
                print(f"router top: error: --json {options.json}: {error.strerror}", file=sys.stderr)
                return FAILED
    if options.once:
        if not console.is_terminal:
            console = Console(highlight=False, width=_PAGE_WIDTH)
        console.print(frame.page(state, console.width))
    return OK


def _lines(router: Router, options: Options) -> NoReturn:
    """Raises NotReachable at the first contact, and NotAllowed."""
    reached = False
    while True:
        clock = time.strftime("%H:%M:%S")
        try:
            print(f"{clock}  {frame.line(decode(router.snapshot()))}", flush=True)
            reached = True
        except NotReachable as error:
            if not reached:
                raise
            print(f"{clock}  not reachable, trying again ({router.url}: {error})", flush=True)
        time.sleep(options.interval_s)


News = Told | str
"""A text is what came of an order."""


class Waiting:
    """State: what other threads have told and the loop has not taken, the newest last, and how many decisions
    found no room. A snapshot takes the place of the one before it."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._missed = 0
        self._lock = threading.Lock()

    def put(self, told: News) -> None:
        """Writes. In any thread."""
        with self._lock:
            if isinstance(told, Snapshot):
                self._news = deque(one for one in self._news if not isinstance(one, Snapshot))
            self._news.append(told)
            if len(self._news) > WAITING_MAX:
                oldest = self._news.popleft()
                if isinstance(oldest, Decisions):
                    self._missed += oldest.skipped + len(oldest.decisions)

    def take(self) -> list[News]:
        """Writes. All that waits."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
            if self._missed:
                news.append(Decisions([], self._missed))
                self._missed = 0
            return news


class _Screen:
    """State: what is shown, what the feed has told since, and the pipe by which it wakes the loop."""

    def __init__(self, router: Router, options: Options, console: Console) -> None:
        self._router, self._interval_s, self._console = router, options.interval_s, console
        self._state = State(router.url)
        self._waiting = Waiting()
        self._reached = False
        """Whether the router has ever answered: one that never did is rather a wrong URL."""
        self._awake, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._awake, False)

    def run(self) -> int:
        """Raises NotAllowed, and NotReachable at the first contact, once the terminal is as it was."""
        feed = Feed(self._router, self._tell)
        live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with Terminal(self._stop, self._nudge) as terminal:
            try:
                feed.start()
                with live:
                    self._loop(terminal, live)
            except OSError:  # the window was closed: there is nobody to tell
                pass
            finally:
                feed.stop()
        return OK

    def _loop(self, terminal: Terminal, live: Live) -> None:
        state, due = self._state, 0.0
        waited_for = [self._awake] if terminal.keys is None else [self._awake, terminal.keys]
        changed = at_once = True
        while not state.ended:
            now = time.monotonic()
            if changed and (at_once or now >= due):
                self._draw(live)
                changed, due = False, now + self._interval_s
            ready, _, _ = select.select(waited_for, [], [], max(0.0, due - now) if changed else None)
            at_once = False
            if self._awake in ready:
                at_once = self._take()
                changed = True
            if terminal.keys in ready:
                for key in terminal.read():
                    order = state.press(key)
                    if order is not None:
                        threading.Thread(target=self._carry_out, args=(order,), daemon=True).start()
                changed = at_once = True

    def _draw(self, live: Live) -> None:
        console = self._console
        console.size = os.get_terminal_size(console.file.fileno())
        live.update(frame.picture(self._state, console.width, console.height), refresh=True)

    def _take(self) -> bool:
        """Writes. What was told since; whether it is to be seen at once. Raises as `run` does."""
        state, at_once = self._state, False
        nudged = len(os.read(self._awake, 4096))
        before = state.snapshot is None, state.trouble
        for told in self._waiting.take():
            nudged -= 1
            if isinstance(told, NotAllowed) or (isinstance(told, NotReachable) and not self._reached):
                raise told
            if isinstance(told, str):
                state.note, at_once = told, True
            else:
                self._reached = True
                state.take(told)
        # A nudge without news is another size of the window.
        return at_once or nudged > 0 or before != (state.snapshot is None, state.trouble)

    # --- other threads and signals ----------------------------------------------------------------

    def _tell(self, told: News) -> None:
        self._waiting.put(told)
        self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has reason enough to wake up
            os.write(self._wake, b"!")

    def _stop(self) -> None:
        self._state.ended = True
        self._nudge()

    def _carry_out(self, order: Question) -> None:
        try:
            self._router.drain(order.worker, order.draining)
        except (NotReachable, NotAllowed) as error:
            self._tell(f"{order.worker}: {error}")
        else:
            done = "drains: no new requests" if order.draining else "is back in service"
            self._tell(f"{order.worker} {done}")
