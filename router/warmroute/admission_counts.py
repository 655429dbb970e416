"""What is counted of requests that are let in, wait or are refused.

By class, and by tenant where the operator names one: labels are bounded by the settings. All other tenants
are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from warmroute.callers import Caller
from warmroute.series import Histogram
from warmroute_policies.admission.buckets import PROMPT_TOKENS, REQUESTS

_WAIT_BOUNDS_S: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

OTHER_TENANTS: Final = "other"

SERVED: Final = "served"
TIMEOUT: Final = "timeout"
DISPLACED: Final = "displaced"
LEFT: Final = "left"
"""The client has."""
REFUSED: Final = "refused"
"""Nobody was left who could serve it."""


class AdmissionCounts:
    """State: the counters; lists go by class."""

    def __init__(self, classes: Sequence[str], tenants: Sequence[str]) -> None:
        self.classes = list(classes)
        self.admitted = [0] * len(self.classes)
        exits = (SERVED, TIMEOUT, DISPLACED, LEFT, REFUSED)
        self.exits: list[dict[str, int]] = [dict.fromkeys(exits, 0) for _ in self.classes]
        """Requests that wait no longer, by how that came."""
        self.waited_s = [Histogram(_WAIT_BOUNDS_S) for _ in self.classes]
        """Of those that were served."""
        labels = [*tenants, OTHER_TENANTS]
        self.tenant_tokens = dict.fromkeys(labels, 0)
        """Estimated prompt tokens that were let in."""
        self.rate_limited = {(name, what): 0 for name in labels for what in (REQUESTS, PROMPT_TOKENS)}

    def let_in(self, caller: Caller, rank: int, tokens: int) -> None:
        """Writes."""
        self.admitted[rank] += 1
        self.tenant_tokens[_label(caller)] += tokens

    def too_fast(self, caller: Caller, what: str) -> None:
        """Writes. A request met its tenant's rate limit."""
        self.rate_limited[_label(caller), what] += 1


def _label(caller: Caller) -> str:
    return caller.tenant if caller.named else OTHER_TENANTS
