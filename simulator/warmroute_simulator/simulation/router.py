"""The live router's core on virtual time: one replica, its balancer and its upkeep.

The balancer is the one that the live router runs, with the same policy objects; here is only what stands
between it and a fleet. Rules kept here: every `route` meets exactly one `finish`; a replica knows what it
carried itself and nothing of its neighbours.
"""

from __future__ import annotations

from warmroute_policies.balancer import Balancer
from warmroute_policies.errors import RoutingError
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerSpec
from warmroute_simulator.simulation.kernel import Kernel

# As the live router: upkeep once a second, and again soon when work is left.
_TICK_S = 1.0
_TICK_AGAIN_S = 0.01


class Router:
    """State: the balancer."""

    def __init__(self, balancer: Balancer, kernel: Kernel) -> None:
        self.balancer = balancer
        self._kernel = kernel

    def route(self, request: RoutingRequest) -> Decision | None:
        """Writes. None: no worker can take it, and nothing was booked."""
        try:
            return self.balancer.route(request, self._kernel.now)
        except RoutingError:
            return None

    def reroute(self, row: int) -> Decision | None:
        """Writes. Its worker failed before the first token. None: no other worker can take it; `finish` must
        still follow."""
        try:
            return self.balancer.reroute(row, self._kernel.now)
        except RoutingError:
            return None

    def first_token(self, row: int) -> None:
        """Writes."""
        self.balancer.first_token(row, self._kernel.now)

    def finish(self, row: int, outcome: Outcome, usage: Usage | None) -> None:
        """Writes."""
        self.balancer.finish(row, outcome, usage, self._kernel.now)

    def tick(self) -> float:
        """Writes. Upkeep; how long until the next one."""
        return _TICK_AGAIN_S if self.balancer.tick(self._kernel.now) else _TICK_S

    def add_worker(self, spec: WorkerSpec) -> bool:
        """Writes. False, and nothing happens, when it is present."""
        if spec.worker_id in self.balancer.fleet.slot_of:
            return False
        self.balancer.add_worker(spec, self._kernel.now)
        return True

    def set_health(self, worker_id: str, healthy: bool) -> None:
        """Writes. Nothing happens while the worker is absent."""
        if worker_id in self.balancer.fleet.slot_of:
            self.balancer.set_health(worker_id, healthy, self._kernel.now)

    def restarted(self, worker_id: str) -> None:
        """Writes. A health check found a new process: it works, and its cache is empty."""
        self.balancer.forget_cache(worker_id, self._kernel.now)
        self.balancer.set_health(worker_id, True, self._kernel.now)

    def drain(self, worker_id: str, draining: bool) -> None:
        """Writes. Nothing happens while the worker is absent."""
        if worker_id in self.balancer.fleet.slot_of:
            self.balancer.drain_worker(worker_id, draining, self._kernel.now)
