"""What came back of the played traffic, and the figures made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from warmroute.demo.client import Answer


@dataclass(frozen=True, slots=True)
class Figures:
    """The outcome of one policy."""

    hit_rate: float
    """Cached prompt tokens over all prompt tokens, as the engines report them."""
    ttft_p50_s: float
    ttft_p99_s: float
    requests: int
    """Requests sent, those that failed among them."""
    errors: int


@dataclass(slots=True)
class Tally:
    """State: counts and every TTFT of one policy's traffic."""

    planned: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that failed, by reason."""
    skipped: int = 0
    """Requests that were never sent, because the one before them in their session failed."""

    def answered(self, answer: Answer) -> None:
        """Writes."""
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.ttft_s.append(answer.ttft_s)

    def failed(self, why: str, skipped: int) -> None:
        """Writes. A request failed, and so many that would have followed it are not sent."""
        self.failures[why] += 1
        self.skipped += skipped

    @property
    def errors(self) -> int:
        return self.failures.total()

    @property
    def ended(self) -> int:
        """Requests of which nothing more is to come."""
        return len(self.ttft_s) + self.errors + self.skipped

    def figures(self) -> Figures:
        """Reads. Zeros where nothing was answered."""
        ordered = sorted(self.ttft_s)
        return Figures(
            hit_rate=self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0,
            ttft_p50_s=quantile(ordered, 0.50),
            ttft_p99_s=quantile(ordered, 0.99),
            requests=len(ordered) + self.errors,
            errors=self.errors,
        )


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)  # the ceiling
    return ordered[max(1, rank) - 1]
