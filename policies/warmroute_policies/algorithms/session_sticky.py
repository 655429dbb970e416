"""`session_sticky`: a session stays with its worker while that worker is not too busy.

    known session:   its last worker i, while eligible and  B_i ≤ c·(T + 1)·w_i/W + s
    otherwise:       what the rule inside says; by default the fewest requests in flight

Source: `sticky_least_loaded` of vllm-router and `--sticky-sessions` of smg, which wraps any policy too;
the bound is `ring`'s. Neither of them lets a session go from an overloaded worker. The last worker is read
from the balancer's own table of sessions, so a session that moved (overload, a failed worker) stays where
it went and does not bounce back.
"""

from __future__ import annotations

from warmroute_policies.algorithms.least_requests import LeastRequests
from warmroute_policies.algorithms.ring import within_bound
from warmroute_policies.config import SessionStickyConfig
from warmroute_policies.policy import Choice, Policy, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_STICKY = "sticky"


class SessionSticky:
    """State: the rule inside. `SessionSticky(inner)` wraps any policy."""

    name = "session_sticky"

    def __init__(
        self, inner: Policy | None = None, config: SessionStickyConfig | None = None, seed: int = 0
    ) -> None:
        self.config = config or SessionStickyConfig()
        self.inner: Policy = LeastRequests(seed) if inner is None else inner
        self.spreads: bool = getattr(self.inner, "spreads", True)
        self.learns: bool = getattr(self.inner, "learns", True)

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. The reason is `sticky`, or that of the rule inside."""
        stays = self._stays(view)
        return self.inner.decide(request, view, now) if stays is None else Choice(stays, _STICKY)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. What the rule inside learns."""
        self.inner.observe(event, now)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The rows of the rule inside; `session` is 1 for the worker that the session stays with,
        whatever the totals say."""
        stays = self._stays(view)
        fleet = view.fleet
        stays_with = None if stays is None else fleet.worker_id(stays)
        return [
            CostShares(
                row.worker,
                row.eligible,
                row.total_s,
                {**row.shares_s, "session": float(row.worker == stays_with)},
                row.predicted_hit_tokens,
            )
            for row in self.inner.explain(request, view, now)
        ]

    def _stays(self, view: View) -> int | None:
        """The slot of the session's last worker, if it may and should take this turn as well."""
        if view.session is None:
            return None
        slot = view.fleet.slot_of.get(view.session.worker)
        if slot is None or view.gate_s[slot] != 0.0:
            return None
        room = within_bound(view, self.config.load_factor, self.config.slack_requests)
        return slot if room[slot] >= 0 else None
