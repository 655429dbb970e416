"""What became of every request, and which of the injected faults explains what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos_lib.answers import events, plain
from chaos_lib.client import Asked
from chaos_lib.injector import Fault

# A fault's end may be noticed late: the kernel tells of a broken connection once something is sent on it.
_AFTER_S = 2.0

# What each failure may come of.
_CUT_BY = ("kill", "hang")
_LATE_BY = ("hang",)


@dataclass
class Verdict:
    """Figures of a run; those of `faulty` should be 0."""

    requests: int = 0
    right: int = 0
    left: int = 0
    """Given up by their clients."""
    wrong_bytes: int = 0
    lost: int = 0
    """Failed before their first byte though an able engine was there: a retry would have saved them."""
    unanswered: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    """Broke behind the first byte, by the fault on their engine."""
    timed_out: Counter[str] = field(default_factory=Counter)
    """504: the engine had the request and said nothing; by the fault."""
    leaked: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    """Of what should not be."""

    @property
    def unexplained(self) -> int:
        """Reads. Failures that no injected fault explains."""
        return self.cut["nothing"] + self.timed_out["nothing"]

    @property
    def faulty(self) -> dict[str, int]:
        """Reads. What must be 0."""
        return {
            "wrong bytes": self.wrong_bytes,
            "leaked in flight": self.leaked,
            "lost though others were able": self.lost,
            "without any answer": self.unanswered,
            "failures that no fault explains": self.unexplained,
        }

    @property
    def error_rate(self) -> float:
        """Reads. Failed requests over those that were not given up."""
        failed = self.lost + self.unanswered + self.cut.total() + self.timed_out.total() + self.wrong_bytes
        return failed / max(1, self.requests - self.left)

    def latency_s(self, share: float) -> float:
        """Reads. A quantile over whole answers."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def as_json(self) -> dict[str, Any]:
        """Reads. Plain values."""
        values = {
            name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()
        }
        del values["latencies_s"]
        return values | {
            "error_rate": self.error_rate,
            "unexplained": self.unexplained,
            "p50_s": self.latency_s(0.5),
            "p99_s": self.latency_s(0.99),
        }


def judge(asked: Sequence[Asked], faults: Sequence[Fault], leaked: int) -> Verdict:
    """Looks at every request."""
    verdict = Verdict(requests=len(asked), leaked=leaked, faults=Counter(fault.kind for fault in faults))
    for one in asked:
        _judge_one(verdict, one, faults)
    return verdict


def _judge_one(verdict: Verdict, one: Asked, faults: Sequence[Fault]) -> None:
    expected = b"".join(events(one.nonce)) if one.stream else plain(one.nonce)
    as_it_should_be = expected.startswith(one.body) and (not one.whole or one.body == expected)
    if one.status == 200 and not as_it_should_be:
        verdict.wrong_bytes += 1
        _example(verdict, "wrong bytes", one)
    elif one.status == 200 and one.whole:
        verdict.right += 1
        verdict.latencies_s.append(one.ended_at - one.sent_at)
    elif one.leaves:
        verdict.left += 1
    elif one.status == 200 and one.body:
        cause = _cause(one, faults, _CUT_BY, one.worker)
        verdict.cut[cause] += 1
        if cause == "nothing":
            _example(verdict, "cut", one)
    elif one.status == 504:
        cause = _cause(one, faults, _LATE_BY, one.worker)
        verdict.timed_out[cause] += 1
        if cause == "nothing":
            _example(verdict, "timed out", one)
    elif one.status:
        verdict.lost += 1
        _example(verdict, "lost", one)
    else:
        verdict.unanswered += 1
        _example(verdict, "without any answer", one)


def _cause(one: Asked, faults: Iterable[Fault], kinds: tuple[str, ...], worker: str) -> str:
    """The fault that lay on the request's engine, or on any where it is not known, while it was under way."""
    for fault in faults:
        if (
            fault.kind in kinds
            and (not worker or fault.engine == worker)
            and fault.began_at <= one.ended_at
            and (not fault.ended_at or one.sent_at <= fault.ended_at + _AFTER_S)
        ):
            return fault.kind
    return "nothing"


_EXAMPLES_MAX = 10


def _example(verdict: Verdict, what: str, one: Asked) -> None:
    if len(verdict.examples) < _EXAMPLES_MAX:
        took_s = one.ended_at - one.sent_at
        verdict.examples.append(
            f"{what}: {one.status} {one.worker} after {took_s:.2f} s: {one.body[-200:]!r}"
        )
