"""`least_prefill_work`: the worker where the fewest uncached prompt tokens come before the first token.

    argmin over eligible i of  W_i;     ties: fewest requests in flight, then each in turn

    W_i   uncached tokens that wait on i, and those of the prompt: `prefill_work`

Source: LPWL, "least prefill work left", G. Wang, agentic-kvc (May 2026). It has no parameters. It prices a
miss at what it costs and not higher: the `cache_aware` of this router without its θ, φ and d.

There hits come from the KV events of the engines; here from this router's own index. A request leaves the
queue at its first token, as there.
"""

from __future__ import annotations

from warmroute_policies.algorithms.counts import rows
from warmroute_policies.peers.prefill_work import missing_tokens, prefill_tokens
from warmroute_policies.policy import Choice, Dispatched, FleetChanged, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest

_WARM = "warm"
_COLD = "cold"
_NEVER = -1


class LeastPrefillWork:
    """State: by slot, the number of its last dispatch, for the last of the ties."""

    name = "least_prefill_work"

    def __init__(self) -> None:
        self._dispatches = 0
        self._turn: dict[int, int] = {}

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads."""
        turn, inflight = self._turn, view.fleet.inflight
        slot = min(
            view.eligible,
            key=lambda slot: (prefill_tokens(view, slot), inflight[slot], turn.get(slot, _NEVER)),
        )
        return Choice(slot, _WARM if slot in view.hits else _COLD)

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. A dispatch was the slot's turn; a slot that is emptied is forgotten."""
        if isinstance(event, Dispatched):
            self._turn[event.slot] = self._dispatches
            self._dispatches += 1
        elif isinstance(event, FleetChanged) and not event.present:
            self._turn.pop(event.slot, None)

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The total is tokens before the first one: those that wait, and the prompt's own misses."""
        queued = view.fleet.queued_tokens
        return rows(
            view,
            lambda slot: float(prefill_tokens(view, slot)),
            lambda slot: {
                "queued_tokens": float(queued[slot]),
                "missing_tokens": float(missing_tokens(view, slot)),
            },
        )
