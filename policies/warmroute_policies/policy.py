"""What a policy is: a rule that picks one of the eligible workers for a request.

Rules kept here. `decide` only reads, so that a shadow policy can watch live traffic and a dry run
changes nothing; whatever a policy remembers it learns in `observe`. A policy sees the fleet through a
`View`, never through the balancer. It has no clock (time is an argument) and no global chance (a
seeded `random.Random` is handed to it when it is made).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

from mypy_extensions import mypyc_attr

from warmroute_policies.fleet import Fleet
from warmroute_policies.hits import Hits
from warmroute_policies.sessions import Session
from warmroute_policies.types import CostShares, RoutingRequest, Usage, WorkerId
from warmroute_policies.values import Frozen


@final
class View:
    """What `decide` may look at for one request. Everything in it is to be read, not written."""

    __slots__ = ("eligible", "fleet", "gate_s", "hits", "kinds", "prompt_tokens", "session")

    def __init__(
        self,
        fleet: Fleet,
        eligible: Sequence[int],
        kinds: Sequence[int],
        gate_s: list[float],
        hits: Hits,
        prompt_tokens: int,
        session: Session | None,
    ) -> None:
        self.fleet = fleet
        self.eligible = eligible
        """Slots that may take the request, ascending, never empty."""
        self.kinds = kinds
        """Of these, one of each kind: the others have the price and the round trip of one of them."""
        self.gate_s = gate_s
        """By slot: 0.0 for an eligible slot, `inf` for any other. Added to a column of costs it excludes."""
        self.hits = hits
        """Slot to predicted hit tokens; slots that hold nothing of the prompt are missing."""
        self.prompt_tokens = prompt_tokens
        self.session = session
        """What is remembered of the session that the request names, if any."""


class Choice(Frozen, frozen=True, gc=False):
    """The slot that a policy picked and one word that says why."""

    slot: int
    reason: str


class Dispatched(Frozen, frozen=True, gc=False):
    """A request was booked on a slot."""

    request: RoutingRequest
    slot: int
    hit_tokens: int


class FirstToken(Frozen, frozen=True, gc=False):
    """The first byte of an answer came: its prefill is over. Never told of a request that shows none."""

    request: RoutingRequest
    slot: int
    ttft_s: float
    """Since the dispatch to this slot."""


class Completed(Frozen, frozen=True, gc=False):
    """A request ended; times are seconds, None where the moment never came."""

    request: RoutingRequest
    slot: int
    ok: bool
    ttft_s: float | None
    predicted_hit_tokens: int
    usage: Usage | None


class FleetChanged(Frozen, frozen=True, gc=False):
    """A worker came, went, lost its cache, or changed its health, weight or drain state."""

    worker: WorkerId
    slot: int
    present: bool


PolicyEvent = Dispatched | FirstToken | Completed | FleetChanged


@mypyc_attr(native_class=False)  # so that a rule may derive from it, if only for the reader
class Policy(Protocol):
    """A routing rule. One instance serves one balancer.

    A rule that remembers nothing may say `learns = False` and is then not told of requests, which saves
    a twentieth of a decision.
    """

    name: str

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        """Reads. The slot (one of `view.eligible`) that should take the request."""
        ...

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes. Learns from what happened; called once per event, in order."""
        ...

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        """Reads. The price of every slot in `view.fleet`, in parts, for people to look at."""
        ...
