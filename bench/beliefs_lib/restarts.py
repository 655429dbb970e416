"""When does a router notice that a worker's cache is lost, and how many requests did that mislead?

Of the requests that were sent to the worker after that, in the order in which they were sent, those count
that were promised a hit:

    wrong     more than a tenth of what was promised was not cached, beyond what the router takes for rounding
    noticed   the router dropped what it believed of the worker, or from here on ten promises in a row are
              not wrong, whichever comes first
    sent      promised a hit before that was noticed
    blind     of these, sent before the first wrong one had ended. Engines tell what was cached when an
              answer ends, so no router that goes by what engines tell sends fewer

Requests that were under way when the cache was lost are not counted: nobody could have known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec

from warmroute_policies.capacity import TOLERANCE_SHARE

RIGHT_AGAIN: Final = 10
"""As many as the bar lets be wrong."""


class Sent(NamedTuple):
    """A request that was promised a hit."""

    at_s: float
    ended_s: float
    """`nan`: it never did."""
    promised_tokens: int
    hit_tokens: int

    @property
    def wrong(self) -> bool:
        """Reads. Whether too little of the promise was kept."""
        return self.hit_tokens < (1 - TOLERANCE_SHARE) * self.promised_tokens


class Restart(msgspec.Struct, frozen=True):
    """One lost cache."""

    sent: int
    wrong: int
    blind: int
    dropped: bool
    """The router dropped its belief by what answers told. Else a check had told of the new process before, or
    promises came true again by themselves, or never did."""


def restart_of(sent: Sequence[Sent], dropped_s: float | None) -> Restart:
    """Reads. `sent`: to that worker after its cache was lost, in order. `dropped_s`: when the router
    dropped what it believed of it; None: it never did."""
    first_told_s = min((one.ended_s for one in sent if one.wrong and one.ended_s == one.ended_s), default=inf)
    right_s = _right_again_s(sent)
    noticed_s = min(right_s, inf if dropped_s is None else dropped_s)
    before = [one for one in sent if one.at_s < noticed_s]
    return Restart(
        len(before),
        sum(one.wrong for one in before),
        sum(one.at_s < first_told_s for one in before),
        dropped_s is not None and dropped_s <= right_s,
    )


def _right_again_s(sent: Sequence[Sent]) -> float:
    """When the first of enough promises in a row was made; the last ones of a run may be fewer."""
    start = 0
    for number, one in enumerate(sent):
        if one.wrong:
            start = number + 1
        elif number + 1 - start == RIGHT_AGAIN:
            break
    return sent[start].at_s if start < len(sent) else inf
