"""All metric families of a router."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from warmroute.metrics.admission import admission_families
from warmroute.metrics.family import Breathe, Family
from warmroute.metrics.finding import discovery_families
from warmroute.metrics.kv_events import kv_event_families
from warmroute.metrics.loads import load_families
from warmroute.metrics.own import memory_families, own_families
from warmroute.metrics.requests import request_families
from warmroute.metrics.snapshot import Snapshot, take_snapshot
from warmroute.metrics.tokens import token_families
from warmroute.metrics.watching import shadow_families
from warmroute.metrics.workers import worker_families

if TYPE_CHECKING:
    from warmroute.gateway import Gateway


class RouterCollector:
    """State: none but the gateway. `snapshot` on the event loop, `families` in any thread."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Family]:
        """Reads. Both at once."""
        return self.families(self.snapshot(), lambda: None)

    def snapshot(self) -> Snapshot:
        """Reads. To be called on the event loop."""
        return take_snapshot(self._gateway)

    def families(self, snapshot: Snapshot, breathe: Breathe) -> Iterator[Family]:
        """Reads. Every family, those without samples too."""
        metrics = self._gateway.metrics
        yield from request_families(snapshot, breathe)
        yield from own_families(snapshot, metrics)
        yield from worker_families(snapshot, breathe)
        yield from load_families(snapshot)
        yield from memory_families(snapshot, metrics)
        yield from kv_event_families(snapshot)
        yield from admission_families(snapshot)
        yield from token_families(snapshot)
        yield from shadow_families(snapshot)
        yield from discovery_families(snapshot)
