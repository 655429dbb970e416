"""The live router's core on virtual time: one replica, its balancer, whom it trusts, and its upkeep.

The balancer is the one that the live router runs, with the same policy objects, and so are the rules of
`warmroute_policies.resilience`; here is only what stands between them and a fleet. Rules kept here: every
`route` meets exactly one `finish`; a replica knows what it carried itself and nothing of its neighbours.
"""

from __future__ import annotations

from typing import Final

from warmroute_policies.balancer import Balancer
from warmroute_policies.config import ResilienceConfig
from warmroute_policies.errors import RoutingError
from warmroute_policies.resilience import Ejector, RetryBudget, Trust
from warmroute_policies.types import Decision, LoadReport, Outcome, RoutingRequest, Usage, WorkerSpec
from warmroute_simulator.simulation.kernel import Kernel

# As the live router: upkeep once a second, and again soon when work is left.
_TICK_S: Final = 1.0
_TICK_AGAIN_S: Final = 0.01


class _Known:
    """What a replica thinks of one worker."""

    __slots__ = ("checks_pass", "ejector", "probe")

    def __init__(self, config: ResilienceConfig) -> None:
        self.ejector = Ejector(config.eject_after_failures, config.eject_for_s)
        self.checks_pass = True
        self.probe = -1
        """The request that finds out whether an ejected worker is well again."""


class Router:
    """State: the balancer, trust in each worker, retries that are left."""

    def __init__(self, balancer: Balancer, resilience: ResilienceConfig, kernel: Kernel) -> None:
        self.balancer = balancer
        self._resilience = resilience
        self._kernel = kernel
        self._known: dict[str, _Known] = {}
        self._budget = RetryBudget(resilience.retry_budget_ratio, resilience.retry_budget_min_per_s)
        self._requests = 0

    def route(self, request: RoutingRequest) -> Decision | None:
        """Writes. None: no worker can take it, and nothing was booked."""
        self._requests += 1
        try:
            decision = self.balancer.route(request, self._kernel.now)
        except RoutingError:
            return None
        self._sent(decision)
        return decision

    def reroute(self, decision: Decision) -> Decision | None:
        """Writes. The worker that was decided for failed before the first token. None: no other one can take
        the request, or it has been tried often enough; `finish` must still follow."""
        self.failed(decision.worker)
        now = self._kernel.now
        if decision.attempt >= self._resilience.retries or not self._budget.take(now, self._requests):
            return None
        try:
            again = self.balancer.reroute(decision.request_id, now)
        except RoutingError:
            return None
        self._sent(again)
        return again

    def first_token(self, row: int) -> None:
        """Writes."""
        self.balancer.first_token(row, self._kernel.now)

    def finish(self, decision: Decision, outcome: Outcome, usage: Usage | None) -> None:
        """Writes."""
        self.balancer.finish(decision.request_id, outcome, usage, self._kernel.now)
        known = self._known[decision.worker]
        if outcome is Outcome.OK or outcome is Outcome.CLIENT_ERROR:
            if not known.ejector.clean:
                known.ejector.succeeded()
                self._update(decision.worker, known)
        elif known.probe == decision.request_id and known.ejector.trust is Trust.PROBING:
            known.ejector.trust = Trust.DUE  # it ended without telling: the next one may
            self._update(decision.worker, known)

    def failed(self, worker_id: str) -> None:
        """Writes. A request failed by the worker's fault."""
        known = self._known[worker_id]
        known.ejector.failed(self._kernel.now)
        self._update(worker_id, known)

    def tick(self) -> float:
        """Writes. Upkeep; how long until the next one."""
        now = self._kernel.now
        for worker_id, known in self._known.items():
            if known.ejector.probe_due(now):
                known.ejector.trust = Trust.DUE
                self._update(worker_id, known)
        return _TICK_AGAIN_S if self.balancer.tick(now) else _TICK_S

    def add_worker(self, spec: WorkerSpec) -> bool:
        """Writes. False, and nothing happens, when it is present."""
        if spec.worker_id in self._known:
            return False
        self._known[spec.worker_id] = _Known(self._resilience)
        self.balancer.add_worker(spec, self._kernel.now)
        return True

    def checked(self, worker_id: str, passes: bool) -> None:
        """Writes. What active checks say by now. Nothing happens while the worker is absent."""
        known = self._known.get(worker_id)
        if known is not None:
            known.checks_pass = passes
            self._update(worker_id, known)

    def restarted(self, worker_id: str) -> None:
        """Writes. A check found a new process: its cache is empty."""
        self.balancer.forget_cache(worker_id, self._kernel.now)

    def heard(self, worker_id: str, report: LoadReport, since: float) -> None:
        """Writes. An engine said this, of some moment since then. Nothing happens while the worker is
        absent."""
        if worker_id in self._known:
            self.balancer.report_load(worker_id, report, since, self._kernel.now)

    def drain(self, worker_id: str, draining: bool) -> None:
        """Writes. Nothing happens while the worker is absent."""
        if worker_id in self._known:
            self.balancer.drain_worker(worker_id, draining, self._kernel.now)

    def _sent(self, decision: Decision) -> None:
        known = self._known[decision.worker]
        if known.ejector.trust is Trust.DUE:
            known.ejector.trust = Trust.PROBING
            known.probe = decision.request_id
            self._update(decision.worker, known)

    def _update(self, worker_id: str, known: _Known) -> None:
        healthy = known.checks_pass and known.ejector.accepts
        self.balancer.set_health(worker_id, healthy, self._kernel.now)
