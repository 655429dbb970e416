"""A request between its dispatch and its end: what the books, a retry and the lesson of its answer need then.

Rules kept. Facts of the dispatch stay as they were, since its answer is judged by what was known then. Three
things change: whether the request is on a worker's books, when its first token came, and whether what was
predicted and inserted for it still says anything about the worker's cache. A fourth is where it may not go
any more, once another flight carries the same request beside it (a hedge).
"""

from __future__ import annotations

from typing import final

from warmroute_policies.index import Insertion
from warmroute_policies.known import Expected
from warmroute_policies.types import Decision, RoutingRequest, WorkerId


@final
class Flight:
    """One request between `route` and `finish`."""

    __slots__ = (
        "beside", "booked", "decision", "dispatched_at", "expected", "failed", "first_token_at", "hedge",
        "insertion", "request", "settled", "will_hold",
    )  # fmt: skip

    def __init__(
        self,
        request: RoutingRequest,
        decision: Decision,
        dispatched_at: float,
        insertion: Insertion | None,
        settled: bool,
        beside: int,
        expected: int,
        failed: tuple[WorkerId, ...],
    ) -> None:
        self.request = request
        self.decision = decision
        self.dispatched_at = dispatched_at
        self.insertion = insertion
        """What the index found at the insert; None: the prompt has no blocks, or that cache is gone."""
        self.settled = settled
        """No prefill was waiting on the slot: what was predicted was cached already. False, too, once that
        cache is gone."""
        self.beside = beside
        """Requests in flight on the slot at dispatch, without this one."""
        self.expected = expected
        """The depth at which what the slot lost in the index ends, if the slot was chosen on a credit for it
        (`survivors`); else 0."""
        self.failed = failed
        """Workers that are not tried again: it failed there, or its hedge is there. Ids and not slots: a slot
        may meanwhile be another worker's."""
        self.will_hold: Expected | None = None
        """What the dispatch will make the worker hold, where workers tell what they hold (`known`)."""
        self.hedge = False
        """It is the second of two flights of one request."""
        self.first_token_at: float | None = None
        self.booked = True
