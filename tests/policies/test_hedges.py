"""A request on two workers at once: two flights, two ends, and what each of them teaches."""

from __future__ import annotations

import pytest

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.errors import NoWorkers
from warmroute_policies.registry import make_policy
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec

PROMPT = b"a long prompt " * 400


def fleet(count: int, policy: str = "cache_aware") -> Balancer:
    balancer = Balancer(make_policy(policy))
    for number in range(count):
        balancer.add_worker(WorkerSpec(f"w{number}"), 0.0)
    return balancer


def request(number: int, session: str | None = None) -> RoutingRequest:
    return RoutingRequest(number, "m", PromptBlocks(PROMPT, salt_of("m")), session=session)


def books(balancer: Balancer) -> tuple[list[int], list[int], list[float], list[int]]:
    fleet = balancer.fleet
    return fleet.inflight, fleet.queued_tokens, fleet.queued_prefill_s, fleet.active_tokens


def test_a_hedge_is_booked_on_another_worker_and_each_leg_is_finished_once() -> None:
    balancer = fleet(2)
    first = balancer.route(request(1), 0.0)
    second = balancer.hedge(1, -1, 1.0)
    assert {first.worker, second.worker} == {"w0", "w1"}
    assert (second.request_id, second.attempt) == (-1, 1)
    assert balancer.fleet.inflight == [1, 1]
    balancer.finish(1, Outcome.CANCELLED, None, 2.0)
    balancer.first_token(-1, 2.0)
    balancer.finish(-1, Outcome.OK, Usage(1000, 10, 0), 3.0)
    assert books(balancer) == ([0, 0], [0, 0], [0.0, 0.0], [0, 0])
    assert balancer.in_flight() == 0


def test_the_leg_that_lost_leaves_no_belief_and_the_other_does() -> None:
    balancer = fleet(2)
    first = balancer.route(request(1), 0.0)
    second = balancer.hedge(1, -1, 1.0)
    balancer.finish(1, Outcome.CANCELLED, None, 2.0)
    balancer.first_token(-1, 2.0)
    balancer.finish(-1, Outcome.OK, None, 3.0)
    held = {worker: balancer.index.resident(balancer.fleet.slot_of[worker]) for worker in ("w0", "w1")}
    assert held[first.worker] == 0
    assert held[second.worker] > 0


def test_with_nobody_else_there_is_no_hedge_and_nothing_is_booked() -> None:
    balancer = fleet(1)
    balancer.route(request(1), 0.0)
    with pytest.raises(NoWorkers):
        balancer.hedge(1, -1, 1.0)
    assert balancer.in_flight() == 1
    assert balancer.fleet.inflight == [1]
    balancer.finish(1, Outcome.OK, None, 2.0)


def test_a_hedge_of_a_hedge_that_is_in_flight_is_refused_and_one_of_nothing_too() -> None:
    balancer = fleet(3)
    balancer.route(request(1), 0.0)
    balancer.hedge(1, -1, 1.0)
    with pytest.raises(ValueError, match="already in flight"):
        balancer.hedge(1, -1, 1.0)
    with pytest.raises(KeyError):
        balancer.hedge(2, -2, 1.0)


def test_neither_leg_is_sent_to_where_the_other_was_once_it_failed() -> None:
    balancer = fleet(3)
    first = balancer.route(request(1), 0.0)
    second = balancer.hedge(1, -1, 1.0)
    balancer.finish(-1, Outcome.WORKER_ERROR, None, 2.0)
    third = balancer.reroute(1, 3.0)
    assert {first.worker, second.worker, third.worker} == {"w0", "w1", "w2"}
    assert third.attempt == 2
    balancer.finish(1, Outcome.OK, None, 4.0)

    balancer.route(request(2), 5.0)
    second = balancer.hedge(2, -2, 6.0)
    balancer.finish(2, Outcome.WORKER_ERROR, None, 7.0)
    third = balancer.reroute(-2, 8.0)
    assert third.request_id == -2
    assert third.worker != second.worker
    with pytest.raises(NoWorkers):
        balancer.reroute(-2, 9.0)
    balancer.finish(-2, Outcome.WORKER_ERROR, None, 10.0)
    assert books(balancer) == ([0] * 3, [0] * 3, [0.0] * 3, [0] * 3)


@pytest.mark.parametrize("hedge_wins", [True, False])
def test_a_session_moves_only_if_the_hedges_answer_is_taken(hedge_wins: bool) -> None:
    balancer = fleet(2)
    first = balancer.route(request(1, "ada"), 0.0)
    second = balancer.hedge(1, -1, 1.0)
    ends = (
        [(1, Outcome.CANCELLED), (-1, Outcome.OK)]
        if hedge_wins
        else [(-1, Outcome.CANCELLED), (1, Outcome.OK)]
    )
    for number, outcome in ends:
        balancer.finish(number, outcome, None, 2.0)
    session = balancer.session("ada")
    assert session is not None
    assert session.worker == (second if hedge_wins else first).worker
    assert session.turns == 1, "two legs are one turn"


def test_a_worker_that_leaves_under_a_hedge_takes_it_off_the_books() -> None:
    balancer = fleet(2)
    balancer.route(request(1), 0.0)
    second = balancer.hedge(1, -1, 1.0)
    balancer.remove_worker(second.worker, 2.0)
    balancer.finish(-1, Outcome.WORKER_ERROR, None, 3.0)
    balancer.finish(1, Outcome.OK, None, 4.0)
    assert balancer.in_flight() == 0
    assert sum(balancer.fleet.inflight[slot] for slot, _ in balancer.fleet.slots()) == 0
