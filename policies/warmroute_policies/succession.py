"""What a policy is told that takes over from another one while requests are in flight.

Rules kept. It hears what it would have heard had it been in charge since the oldest request that is still on
the books: the fleet, then dispatches and first tokens, in the order and at the times at which they happened.
So a rule with books of its own finds them complete, and of every end that it is told later it knows the
beginning. What has ended before is not told; a rule that learns from the past begins without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from warmroute_policies.fleet import Fleet
from warmroute_policies.flights import Flight
from warmroute_policies.policy import Dispatched, FirstToken, FleetChanged, Policy, PolicyEvent


def take_over(policy: Policy, fleet: Fleet, flights: Iterable[Flight], now: float) -> None:
    """Writes: the policy learns of the fleet and of those flights that are on its books."""
    happened: list[tuple[float, PolicyEvent]] = []
    for flight in flights:
        if not flight.booked:
            continue
        request, decision = flight.request, flight.decision
        sent_at, first_token_at = flight.dispatched_at, flight.first_token_at
        dispatched = Dispatched(request, decision.slot, decision.predicted_hit_tokens)
        happened.append((sent_at, dispatched))
        if first_token_at is not None:
            happened.append((first_token_at, FirstToken(request, decision.slot, first_token_at - sent_at)))
    happened.sort(key=_when)  # stable: a first token in the moment of its dispatch comes behind it
    began_at = min(now, happened[0][0]) if happened else now
    for slot, spec in fleet.slots():
        policy.observe(FleetChanged(spec.worker_id, slot, True), began_at)
    for at, event in happened:
        policy.observe(event, at)


def _when(one: tuple[float, PolicyEvent]) -> float:
    return one[0]
