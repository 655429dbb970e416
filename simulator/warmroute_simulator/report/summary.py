"""Records → Report. Each number is defined where its field is, in `model`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from warmroute_simulator.bounds.hits import HitBounds
from warmroute_simulator.report.latencies import e2e_s, spread, tpot_s, ttft_s
from warmroute_simulator.report.model import (
    BoundValues,
    Goodput,
    PredictionError,
    PromptTokens,
    Report,
    Settings,
    Slo,
    WarmUp,
    WorkerReport,
)
from warmroute_simulator.simulation.records import Outcome, Records


def summarize(
    records: Records,
    *,
    policy: str,
    seed: int,
    slo: Slo,
    bounds: HitBounds | None,
    wall_s: float,
    cpu_s: float,
    skip_s: float = 0.0,
    skip_share: float = 0.0,
    settings: Settings | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Reads. The run in numbers.

    The warm-up is the first `skip_s` seconds, or the time in which the first `skip_share` of the requests
    arrived, whichever is longer. Raises ValueError unless 0 ≤ `skip_share` < 1 and `skip_s` ≥ 0.
    """
    span = _span(records)
    warm_up = _warm_up(records, span, skip_s, skip_share)
    measured = _measured(records, span, warm_up)
    outcomes = Counter(records.outcome)
    tokens, predicted, error = _prompt_tokens(records)
    hit_rate = _share(tokens.reused, tokens.total)
    values = _bound_values(bounds)
    return Report(
        trace=records.trace.name,
        policy=policy,
        workers=len(records.workers),
        seed=seed,
        requests=len(records.outcome) - outcomes[Outcome.NOT_RUN],
        hit_rate=hit_rate,
        predicted_hit_rate=_share(predicted, tokens.total),
        ttft_s=spread(measured.ttft_s),
        tpot_s=spread(measured.tpot_s),
        e2e_s=spread(measured.e2e_s),
        session_s=spread(measured.session_s),
        output_tokens_per_s=(_share(_answered_tokens(records), span.seconds) or 0.0),
        imbalance=_imbalance(records),
        evicted_tokens=sum(totals.evicted_tokens for totals in records.totals),
        bounds=values,
        wall_s=wall_s,
        cpu_s=cpu_s,
        span_s=span.seconds,
        partial=records.partial,
        outcomes={outcome.name.lower(): outcomes[outcome] for outcome in Outcome},
        retried=sum(attempts > 1 for attempts in records.attempts),
        reasons=_reasons(records),
        below_bounds_points=_below(values, hit_rate),
        prompt_tokens=tokens,
        prediction_error=error,
        goodput=_goodput(measured, slo),
        warm_up=warm_up,
        preemptions=sum(totals.preemptions for totals in records.totals),
        per_worker=_per_worker(records, span.seconds),
        settings=dict(settings or {}),
        skipped=records.trace.skipped,
        notes=[*records.trace.notes, *notes, *_remarks(outcomes, partial=records.partial)],
    )


def _remarks(outcomes: Counter[int], *, partial: bool) -> list[str]:
    """What a reader of the numbers must know of requests that did not end well."""
    remarks = []
    refused, failed = outcomes[Outcome.REFUSED], outcomes[Outcome.FAILED]
    if refused:
        remarks.append(f"refused, longer than a KV cache (--kv-tokens) or a context holds: {refused:,}")
    if failed:
        remarks.append(
            f"failed, their worker died after the first token or no other could be tried: {failed:,}"
        )
    if outcomes[Outcome.TIMED_OUT]:
        remarks.append(
            f"given up by the router, no first token or no end in time: {outcomes[Outcome.TIMED_OUT]:,}"
        )
    if outcomes[Outcome.NOT_RUN] and not partial:
        never = f"{outcomes[Outcome.NOT_RUN]:,}"
        remarks.append(f"never came, a request before them in their session did not end well: {never}")
    return remarks


@dataclass(frozen=True, slots=True)
class _Span:
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return max(self.end_s - self.start_s, 0.0)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Latencies of the requests after the warm-up that ended well."""

    came: int
    """After the warm-up, however they ended; those too that a failure before them kept from coming."""
    seconds: float
    ttft_s: list[float]
    tpot_s: list[float]
    e2e_s: list[float]
    session_s: list[float]


def _span(records: Records) -> _Span:
    """Reads. From the first arrival on; what happens after the last end (a worker added) is not the run."""
    start_s = min((at for at in records.arrived_s if at == at), default=0.0)
    end_s = max((at for at in records.finished_s if at == at), default=start_s)
    return _Span(start_s, records.ended_s if records.partial else end_s)


def _warm_up(records: Records, span: _Span, skip_s: float, skip_share: float) -> WarmUp:
    if not (0 <= skip_share < 1 and skip_s >= 0):
        raise ValueError(f"a warm-up of {skip_s} s or {skip_share} of the requests: 0 ≤ share < 1, 0 ≤ s")
    if not (skip_s or skip_share):
        return WarmUp(0.0, 0)
    arrivals = sorted(at for at in records.arrived_s if at == at)
    if arrivals and skip_share:
        skip_s = max(skip_s, arrivals[int(skip_share * len(arrivals))] - span.start_s)
    return WarmUp(skip_s, sum(at < span.start_s + skip_s for at in arrivals))


def _measured(records: Records, span: _Span, warm_up: WarmUp) -> _Measured:
    """Reads."""
    from_s = span.start_s + warm_up.skip_s
    ok = Outcome.OK.value
    arrivals = records.arrived_s
    rows = [row for row, outcome in enumerate(records.outcome) if outcome == ok and arrivals[row] >= from_s]
    sessions = zip(records.session_started_s, records.session_ended_s, strict=True)
    ttfts, tpots, e2es = ttft_s(records), tpot_s(records), e2e_s(records)
    return _Measured(
        came=sum(at >= from_s for at in arrivals) + _never_came(records),
        seconds=max(span.end_s - from_s, 0.0),
        ttft_s=[ttfts[row] for row in rows],
        tpot_s=[tpots[row] for row in rows],
        e2e_s=[e2es[row] for row in rows],
        session_s=[end - start for start, end in sessions if start >= from_s],
    )


def _goodput(measured: _Measured, slo: Slo) -> Goodput:
    good = sum(
        ttft <= slo.ttft_s and not tpot > slo.tpot_s  # `nan`, of one token, is not above it
        for ttft, tpot in zip(measured.ttft_s, measured.tpot_s, strict=True)
    )
    return Goodput(
        slo.ttft_s,
        slo.tpot_s,
        good,
        _share(good, measured.came),
        _share(good, measured.seconds) or 0.0,
    )


def _never_came(records: Records) -> int:
    """Requests that others' failures kept from coming; an interrupted run does not know them."""
    return 0 if records.partial else sum(outcome == Outcome.NOT_RUN for outcome in records.outcome)


def _prompt_tokens(records: Records) -> tuple[PromptTokens, int, PredictionError | None]:
    """Reads. Where they went, how many hits were predicted, and how wrong that was; of requests taken up."""
    ends = records.trace.tree.ends
    taken = total = reused = evicted = elsewhere = first_time = predicted = wrong = 0
    for node, hit, lost, held, new, expected in zip(
        records.trace.prompts,
        records.hit_tokens,
        records.evicted_tokens,
        records.elsewhere_tokens,
        records.first_time_tokens,
        records.predicted_tokens,
        strict=True,
    ):
        if hit >= 0:
            taken += 1
            total += ends[node]
            reused += hit
            evicted += lost
            elsewhere += held
            first_time += new
            predicted += expected
            wrong += abs(expected - hit)
    rest = total - reused - elsewhere - evicted - first_time
    tokens = PromptTokens(total, reused, elsewhere, evicted, first_time, rest)
    error = PredictionError(wrong / taken, (predicted - reused) / taken) if taken else None
    return tokens, predicted, error


def _answered_tokens(records: Records) -> int:
    ok = Outcome.OK.value
    rows = zip(records.trace.output_tokens, records.outcome, strict=True)
    return sum(tokens for tokens, outcome in rows if outcome == ok)


def _reasons(records: Records) -> dict[str, int]:
    counts = Counter(reason for reason in records.reason if reason >= 0)
    named = [(records.reasons[reason], count) for reason, count in counts.items()]
    return dict(sorted(named, key=lambda pair: (-pair[1], pair[0])))


def _computed_tokens(records: Records) -> list[int]:
    return [totals.prompt_tokens - totals.cached_tokens for totals in records.totals]


def _imbalance(records: Records) -> float | None:
    computed = _computed_tokens(records)
    return _share(max(computed, default=0) * len(computed), sum(computed))


def _per_worker(records: Records, span_s: float) -> list[WorkerReport]:
    computed = _computed_tokens(records)
    fleet = sum(computed)
    return [
        WorkerReport(
            worker,
            totals.requests,
            totals.prompt_tokens,
            totals.output_tokens,
            _share(totals.cached_tokens, totals.prompt_tokens),
            _share(own, fleet),
            _share(totals.busy_s, span_s),
            totals.evicted_tokens,
            totals.preemptions,
        )
        for worker, totals, own in zip(records.workers, records.totals, computed, strict=True)
    ]


def _bound_values(bounds: HitBounds | None) -> BoundValues:
    if bounds is None:
        return BoundValues()
    return BoundValues(bounds.single_infinite, bounds.pooled_lru, bounds.pooled_belady)


def _below(bounds: BoundValues, hit_rate: float | None) -> BoundValues:
    rates = (bounds.single_infinite, bounds.pooled_lru, bounds.pooled_belady)
    return BoundValues(
        *(None if rate is None or hit_rate is None else 100 * (rate - hit_rate) for rate in rates)
    )


def _share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
