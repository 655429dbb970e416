"""What clients are told when no worker takes their request.

429 and not 503: the fleet works, it only has as much as it may. Libraries of OpenAI and Anthropic try again
after a 429, as late as `Retry-After` says, and what stands before the router does not take it for broken. 503
is left to fleets that cannot serve at all. 408 would blame the client, and some repeat it at once.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from warmroute.wire.replies import RouterError
from warmroute_policies.admission.buckets import REQUESTS, Exceeded
from warmroute_policies.errors import RoutingError, Saturated, UnknownModel

QUEUE_FULL: Final = "queue_full"
QUEUE_DISPLACED: Final = "queue_displaced"
QUEUE_TIMEOUT: Final = "queue_timeout"
RATE_LIMITED: Final = "rate_limit_exceeded"

BUSY: Final = (QUEUE_FULL, QUEUE_DISPLACED, QUEUE_TIMEOUT, RATE_LIMITED)
"""The codes of all of them."""

# About the time after which an ejected worker is tried again.
_NO_WORKER_S: Final = 5

# Some request will have ended by then.
_SATURATED_S: Final = 1

# OpenAI counts its limits by the minute.
_MINUTE_S: Final = 60


def queue_full(waiting: int, retry_s: int) -> RouterError:
    """There is no room, and no place to wait for it."""
    before = f"and {waiting} requests wait already" if waiting else "and nothing may wait"
    return _busy(QUEUE_FULL, f"all workers have as many requests as they may, {before}", retry_s)


def displaced(retry_s: int) -> RouterError:
    """A request of a higher class, or of a tenant with fewer requests, needed the place."""
    text = "more urgent requests took this one's place among those that wait"
    return _busy(QUEUE_DISPLACED, text, retry_s)


def too_late(waited_s: float, retry_s: int) -> RouterError:
    """It has waited as long as it may."""
    return _busy(QUEUE_TIMEOUT, f"no worker had room for this request within {waited_s:.3g} s", retry_s)


def too_fast(exceeded: Exceeded) -> RouterError:
    """The tenant's rate limit."""
    what = "requests" if exceeded.what == REQUESTS else "prompt tokens"
    short = "requests" if exceeded.what == REQUESTS else "tokens"
    return RouterError(
        429,
        RATE_LIMITED,
        f"the limit of {exceeded.per_s:g} {what} per second is used up; try again in {exceeded.wait_s:.3g} s",
        retry_after_s=max(1, ceil(exceeded.wait_s)),
        fields=(
            ("retry-after-ms", str(max(1, ceil(exceeded.wait_s * 1000)))),
            (f"x-ratelimit-limit-{short}", str(int(exceeded.per_s * _MINUTE_S))),
            (f"x-ratelimit-remaining-{short}", str(max(0, int(exceeded.left)))),
        ),
    )


def routing_error(error: RoutingError) -> RouterError:
    """What a client is told when no worker was found."""
    if isinstance(error, UnknownModel):
        return RouterError(404, "model_not_found", str(error), param="model")
    if isinstance(error, Saturated):
        return RouterError(429, QUEUE_FULL, str(error), retry_after_s=_SATURATED_S)
    return RouterError(503, "no_worker", str(error), retry_after_s=_NO_WORKER_S)


def _busy(code: str, text: str, retry_s: int) -> RouterError:
    return RouterError(429, code, f"{text}; try again in {retry_s} s", retry_after_s=retry_s)
