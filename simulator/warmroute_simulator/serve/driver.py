"""Real time for an engine: one timer, and events handed to whoever waits for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from warmroute_simulator.engine import Engine, EngineRequest, Finished, FirstToken, Tokens
from warmroute_simulator.serve.clock import EngineClock


class TokenSink(Protocol):
    """What a request's events become."""

    def on_first_token(self, cached_tokens: int, ttft_s: float) -> None: ...

    def on_tokens(self, count: int) -> None: ...

    def on_finished(self, event: Finished) -> None: ...


class EngineDriver:
    """Drives one engine on a running event loop. State: the engine's timer, the sink of each live request."""

    def __init__(self, engine: Engine, clock: EngineClock, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.clock = clock
        self._loop = loop
        self._sinks: dict[int, tuple[TokenSink, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self.on_changes: Callable[[], None] | None = None
        """Called when the engine has gone on, before anybody hears of it."""

    def submit(self, request: EngineRequest, sink: TokenSink) -> None:
        """Raises ValueError when the engine cannot take the request, ever."""
        now = self._pump()
        self.engine.submit(request, now)
        self._sinks[request.request_id] = (sink, now)
        self._arm()

    def abort(self, request_id: int) -> None:
        """Drop a request at once; nothing happens when it has ended already."""
        if request_id in self._sinks:
            self._pump()  # what has passed has passed with this request in the batch
            if self._sinks.pop(request_id, None) is not None:
                self.engine.abort(request_id)
            self._arm()

    def set_rate(self, rate: float) -> None:
        self._pump()
        self.clock.set_rate(rate)
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()
        self._arm()

    def _pump(self) -> float:
        now = self.clock.now()
        if self._dispatching:
            return now
        self._dispatching = True
        try:
            events = self.engine.advance(now)
            if self.on_changes is not None:
                self.on_changes()
            for event in events:
                entry = self._sinks.get(event.request_id)
                if entry is None:
                    continue
                sink, submitted_at = entry
                if isinstance(event, FirstToken):
                    sink.on_first_token(event.cached_tokens, event.at - submitted_at)
                elif isinstance(event, Finished):
                    del self._sinks[event.request_id]
                    sink.on_finished(event)
                elif isinstance(event, Tokens):
                    sink.on_tokens(event.count)
        finally:
            self._dispatching = False
        return now

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.engine.next_event_at()
        if at is not None:
            # Event loops round a delay to milliseconds. Rounding up means waking once, a little late,
            # instead of spinning through the last part of a millisecond; the engine catches up.
            delay_ms = math.ceil(self.clock.real_seconds_until(at) * 1000)
            self._timer = self._loop.call_later(max(delay_ms, 0) / 1000, self._on_timer)
