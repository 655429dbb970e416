"""The journal of a live router as a measurement."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest

from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import make_policy
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec
from warmroute_simulator.fitting.journals import read_journal
from warmroute_simulator.traces.files import TraceError

WORKERS = ("http://a", "http://b")


class Router:
    """The router's core, recording. State: the lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        spec = PolicySpec("round_robin", seed=1)
        self.balancer = RecordedBalancer(
            make_policy("round_robin", seed=1), BalancerConfig(), write=self.lines.append, made_by=spec
        )
        for worker in WORKERS:
            self.balancer.add_worker(WorkerSpec(worker, kv_capacity_tokens=100_000), 0.0)

    def carry(self, number: int, at: float, usage: Usage | None, *, first_token: bool = True) -> None:
        """Writes. A request of a quarter of a second to its first token and a second in all."""
        blocks = PromptBlocks(b"x" * 4000, salt_of("m"))
        self.balancer.route(RoutingRequest(number, "m", blocks, max_tokens=50, stream=first_token), at)
        if first_token:
            self.balancer.first_token(number, at + 0.25)
        self.balancer.finish(number, Outcome.OK if usage else Outcome.WORKER_ERROR, usage, at + 1.0)


def test_a_journal_tells_workers_times_lengths_and_hits(tmp_path: Path) -> None:
    router = Router()
    router.carry(1, 100.0, Usage(1000, 31, 0))
    router.carry(2, 102.0, Usage(1000, 11, 992))
    router.carry(3, 103.0, Usage(1000, 11, None), first_token=False)
    router.carry(4, 104.0, None)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(router.lines))
    measurement = read_journal(path)
    first, second, third = measurement.requests
    assert {first.worker, second.worker} == set(WORKERS)
    assert (first.arrival_s, second.arrival_s) == (0.0, 2.0)
    assert (first.ttft_s, first.e2e_s, first.tpot_s) == pytest.approx((0.25, 1.0, 0.025))
    assert (first.cached_tokens, second.cached_tokens) == (0, 992)
    assert isnan(third.ttft_s)
    assert third.cached_tokens is not None
    assert third.cached_tokens < 1000
    assert [note.split()[0] for note in measurement.notes] == ["1", "for"]


def test_a_journal_without_answers_is_an_error(tmp_path: Path) -> None:
    router = Router()
    router.carry(1, 100.0, None)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(router.lines))
    with pytest.raises(TraceError, match="at least one request that was answered"):
        read_journal(path)
