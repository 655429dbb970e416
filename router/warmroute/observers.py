"""Who may watch requests on their way: shadow policies, the live page, traces.

Rules kept. An observer is told, synchronously, and decides nothing; it does not await. One that raises is
told of nothing any more, and the request goes on. With nobody watching, a request pays one look per moment.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol, final

from mypy_extensions import mypyc_attr

from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

if TYPE_CHECKING:
    from warmroute.exchange import Exchange

log: Final = logging.getLogger("warmroute")

REFUSED: Final = "refused"
"""What observers call the outcome of a request for which no worker was asked."""


@mypyc_attr(native_class=False)
class Observer(Protocol):
    """The moments of one request. `exchange.number` tells requests apart.

    `arrived` and then one of `refused` and `finished`; `routed` between, once more for every other worker
    that is tried; `first_byte` at most once. What waits for room has not arrived before it has some; if it
    never gets any, it is only `refused`.
    """

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Parsed and identified, not yet routed: the balancer's books are without it."""
        ...

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """A worker was chosen, the request is booked there and on its way."""
        ...

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """The answer began, and is no error."""
        ...

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """A request that was routed has ended, for whatever reason."""
        ...

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """No worker was chosen; the client gets this error."""
        ...


@final
class Observers:
    """All of them as one. State: who watches."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()
        self.watching = False
        """Whether there is anybody to be told."""

    def add(self, observer: Observer, *, first: bool = False) -> None:
        """Writes. They are told in the order in which they came, unless one has to be first."""
        self._observers = (observer, *self._observers) if first else (*self._observers, observer)
        self.watching = True

    def remove(self, observer: Observer) -> None:
        """Writes. Twice is once."""
        self._observers = tuple([other for other in self._observers if other is not observer])
        self.watching = bool(self._observers)

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        """Tells."""
        for observer in self._observers:
            try:
                observer.arrived(exchange, request, now)
            except Exception:  # noqa: BLE001 -- some of them run what is anybody's
                self._broke(observer)

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Tells."""
        for observer in self._observers:
            try:
                observer.routed(exchange, decision, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke(observer)

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Tells."""
        for observer in self._observers:
            try:
                observer.first_byte(exchange, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke(observer)

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Tells."""
        for observer in self._observers:
            try:
                observer.finished(exchange, outcome, usage, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke(observer)

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        """Tells."""
        for observer in self._observers:
            try:
                observer.refused(exchange, code, now)
            except Exception:  # noqa: BLE001 -- as above
                self._broke(observer)

    def _broke(self, observer: Observer) -> None:
        log.exception("an observer failed and is told no more", extra={"observer": type(observer).__name__})
        self.remove(observer)
