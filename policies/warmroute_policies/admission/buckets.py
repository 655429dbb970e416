"""Token buckets: requests per second and prompt tokens per second, for each tenant.

A bucket fills at its rate up to a burst. A request passes when its tenant's two buckets hold what it needs,
and takes it from both, or from neither. What needs more than a whole burst passes when the bucket is full,
and leaves a debt: no prompt is too long for ever. Prompt tokens are an estimate at first; `settle` corrects
it by the engine's count.

Rules kept. Over any time t a tenant gets at most burst + rate·t requests, and tokens too, but for one prompt
beyond the burst and for what estimates were short by. A full bucket is not remembered; beyond
`remembered_max` the ones that were used longest ago are forgotten, and are full for their tenants.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final, final

from warmroute_policies.values import Frozen

REQUESTS: Final = "requests"
PROMPT_TOKENS: Final = "prompt_tokens"

# Whoever waits as long as told must pass: sums of floats may fall short by this.
_SLACK: Final = 1e-6

# Buckets that are looked at on each call, oldest first, whether they are full again.
_SWEPT: Final = 2


class Rate(Frozen, frozen=True, gc=False):
    """A tenant's limits; `inf` is none."""

    requests_per_s: float = inf
    prompt_tokens_per_s: float = inf

    @property
    def limited(self) -> bool:
        """Reads. Whether there is any limit."""
        return self.requests_per_s < inf or self.prompt_tokens_per_s < inf


class Exceeded(Frozen, frozen=True, gc=False):
    """A request that does not pass."""

    what: str
    """`REQUESTS` or `PROMPT_TOKENS`."""
    per_s: float
    left: float
    """What the bucket holds; below 0 it is a debt."""
    wait_s: float
    """From then on the same request passes, if no other one came before it."""


@final
class _Bucket:
    """State: what is left of both, and when that was."""

    __slots__ = ("at", "requests", "tokens")

    def __init__(self, requests: float, tokens: float, at: float) -> None:
        self.requests = requests
        self.tokens = tokens
        self.at = at


class Buckets:
    """State: a bucket for each tenant that has used some of it lately, the one used last at the end."""

    def __init__(
        self, rate: Rate, named: Mapping[str, Rate], burst_s: float, remembered_max: int = 65536
    ) -> None:
        """`rate` is that of tenants who are not named. A burst is what `burst_s` bring, at least one request
        and one token."""
        self._rate = rate
        self._named = dict(named)
        self._burst_s = burst_s
        self._remembered_max = remembered_max
        self._buckets: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def rate(self, tenant: str) -> Rate:
        """Reads. The tenant's limits."""
        return self._named.get(tenant, self._rate)

    def take(self, tenant: str, tokens: int, now: float) -> Exceeded | None:
        """Writes. Takes one request and its prompt tokens; or nothing, and says what was short. Where both
        are, the one that takes longer."""
        rate = self._named.get(tenant, self._rate)
        if not rate.limited:
            return None
        self._sweep(now)
        bucket = self._filled(tenant, rate, now)
        worst: Exceeded | None = None
        for what, per_s, left, needed in (
            (REQUESTS, rate.requests_per_s, bucket.requests, 1.0),
            (PROMPT_TOKENS, rate.prompt_tokens_per_s, bucket.tokens, float(tokens)),
        ):
            if per_s < inf:
                needed = min(needed, self._burst(per_s))
                short = needed - left
                if short > _SLACK and (worst is None or short / per_s > worst.wait_s):
                    worst = Exceeded(what, per_s, left, short / per_s)
        if worst is None:
            bucket.requests -= 1.0
            bucket.tokens -= tokens
            self._remember(tenant, bucket)
        return worst

    def settle(self, tenant: str, more_tokens: int, now: float) -> None:
        """Writes. The prompt was longer than was taken for it, or shorter where below 0."""
        self._put(tenant, 0.0, -float(more_tokens), now)

    def give_back(self, tenant: str, tokens: int, now: float) -> None:
        """Writes. The request that took these was never sent to a worker."""
        self._put(tenant, 1.0, float(tokens), now)

    def left(self, tenant: str, now: float) -> tuple[float, float]:
        """Reads. Requests and prompt tokens that the tenant may use at once; below 0 is a debt."""
        bucket = self._filled(tenant, self.rate(tenant), now)
        return bucket.requests, bucket.tokens

    def _put(self, tenant: str, requests: float, tokens: float, now: float) -> None:
        rate = self._named.get(tenant, self._rate)
        if rate.limited:
            bucket = self._filled(tenant, rate, now)
            bucket.requests = min(self._burst(rate.requests_per_s), bucket.requests + requests)
            bucket.tokens = min(self._burst(rate.prompt_tokens_per_s), bucket.tokens + tokens)
            self._remember(tenant, bucket)

    def _burst(self, per_s: float) -> float:
        return max(1.0, per_s * self._burst_s)

    def _filled(self, tenant: str, rate: Rate, now: float) -> _Bucket:
        """Reads. The tenant's bucket as of now: a new value."""
        requests_max = self._burst(rate.requests_per_s)
        tokens_max = self._burst(rate.prompt_tokens_per_s)
        bucket = self._buckets.get(tenant)
        if bucket is None:
            return _Bucket(requests_max, tokens_max, now)
        passed = max(0.0, now - bucket.at)
        return _Bucket(
            requests_max
            if requests_max == inf
            else min(requests_max, bucket.requests + passed * rate.requests_per_s),
            tokens_max
            if tokens_max == inf
            else min(tokens_max, bucket.tokens + passed * rate.prompt_tokens_per_s),
            max(bucket.at, now),  # a request may ask late, as of when it came: no time counts twice
        )

    def _remember(self, tenant: str, bucket: _Bucket) -> None:
        self._buckets.pop(tenant, None)
        self._buckets[tenant] = bucket
        if len(self._buckets) > self._remembered_max:
            del self._buckets[next(iter(self._buckets))]

    def _sweep(self, now: float) -> None:
        """Forgets what is full again, beginning with what was used longest ago."""
        for _ in range(_SWEPT):
            if not self._buckets:
                return
            tenant = next(iter(self._buckets))
            rate = self._named.get(tenant, self._rate)
            bucket = self._filled(tenant, rate, now)
            if bucket.requests < self._burst(rate.requests_per_s) or bucket.tokens < self._burst(
                rate.prompt_tokens_per_s
            ):
                return
            del self._buckets[tenant]
