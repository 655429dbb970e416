"""What a balancer promises whatever happens: each route meets one finish, and the books are right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random

import pytest

from traffic import PRICE, Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks, salt_of
from warmroute_policies.capacity import Lesson
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import NoWorkers, UnknownModel
from warmroute_policies.policy import (
    Choice,
    Completed,
    Dispatched,
    FirstToken,
    FleetChanged,
    PolicyEvent,
    View,
)
from warmroute_policies.registry import available, make_policy
from warmroute_policies.types import CostShares, Outcome, RoutingRequest, Usage, WorkerSpec

SALT = salt_of("m")


def balancer_of(*names: str, policy: str = "least_requests", **facts: object) -> Balancer:
    balancer = Balancer(make_policy(policy, {}, 1))
    for name in names:
        balancer.add_worker(WorkerSpec(name, **facts), 0.0)  # type: ignore[arg-type]
    return balancer


def request(request_id: int, prompt: bytes = b"", model: str = "m", **facts: object) -> RoutingRequest:
    blocks = PromptBlocks(prompt, SALT) if prompt else NO_BLOCKS
    return RoutingRequest(request_id, model, blocks, **facts)  # type: ignore[arg-type]


def books(balancer: Balancer) -> dict[str, tuple[int, int, float]]:
    """By worker: requests in flight, queued tokens, queued prefill seconds."""
    fleet = balancer.fleet
    return {
        spec.worker_id: (fleet.inflight[slot], fleet.queued_tokens[slot], fleet.queued_prefill_s[slot])
        for slot, spec in fleet.slots()
    }


# --- any order of events --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["cache_aware", "least_requests"])
def test_the_books_equal_a_naive_count_at_every_one_of_10000_operations(policy: str) -> None:
    balancer = Balancer(make_policy(policy, {}, 7))
    traffic = Traffic(balancer, seed=7, streamed=1.0)
    for step, _ in enumerate(traffic.steps(10_000)):
        expected = dict.fromkeys(traffic.workers, (0, 0, 0.0))
        for flight in traffic.flights.values():
            if flight.worker is not None:
                count, tokens, seconds = expected[flight.worker]
                if flight.prefilling:
                    tokens, seconds = tokens + flight.missing_tokens, seconds + flight.prefill_s
                expected[flight.worker] = (count + 1, tokens, seconds)
        found = books(balancer)
        assert found.keys() == expected.keys()
        for worker, (count, tokens, seconds) in expected.items():
            assert found[worker][:2] == (count, tokens), f"step {step}, {worker}"
            assert found[worker][2] == pytest.approx(seconds, abs=1e-9), f"step {step}, {worker}"
        assert balancer.in_flight() == len(traffic.flights)
        if step % 50 == 0:
            balancer.index.check_integrity()
    traffic.end()
    assert set(books(balancer).values()) <= {(0, 0, 0.0)}, "of the workers that are left"
    assert balancer.in_flight() == 0


@pytest.mark.parametrize("seed", range(3))
def test_every_dispatched_request_completes_once_for_the_policy(seed: int) -> None:
    witness = Witness()
    traffic = Traffic(Balancer(witness), seed)
    for _ in traffic.steps(1_500):
        open_requests = set(traffic.flights)
        assert witness.open == open_requests
    traffic.end()
    assert not witness.open
    assert witness.first_tokens


class Witness:
    """A policy that keeps which requests it heard begin and end."""

    name = "witness"

    def __init__(self) -> None:
        self.open = set[int]()
        self.first_tokens = 0
        self.present = dict[int, str]()

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        assert all(slot in self.present for slot in view.eligible)
        return Choice(view.eligible[request.request_id % len(view.eligible)], "turn")

    def observe(self, event: PolicyEvent, now: float) -> None:
        if isinstance(event, Dispatched):
            self.open.add(event.request.request_id)  # a reroute dispatches again
        elif isinstance(event, Completed):
            self.open.remove(event.request.request_id)
        elif isinstance(event, FirstToken):
            assert event.request.request_id in self.open
            self.first_tokens += 1
        elif event.present:
            self.present[event.slot] = event.worker
        else:
            assert self.present.pop(event.slot) == event.worker

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        return []


STAGES = ("first_token", "reroute", "remove", "health", "finish")


@pytest.mark.parametrize("order", list(itertools.permutations(STAGES[:4])), ids="-".join)
def test_whatever_happens_in_between_a_finish_leaves_nothing_behind(order: tuple[str, ...]) -> None:
    balancer = balancer_of("a", "b", "c")
    worker = balancer.route(request(1, b"x" * 5_000), 1.0).worker
    for now, stage in enumerate(order, start=2):
        if stage == "first_token":
            balancer.first_token(1, now)
        elif stage == "reroute":
            worker = balancer.reroute(1, now).worker
        elif stage == "remove" and worker in balancer.fleet.slot_of:
            balancer.remove_worker(worker, now)
        elif stage == "health" and worker in balancer.fleet.slot_of:
            balancer.set_health(worker, False, now)
    balancer.finish(1, Outcome.OK, Usage(1_250, 10, 0), 9.0)
    assert set(books(balancer).values()) <= {(0, 0, 0.0)}, "of the workers that are left"
    with pytest.raises(KeyError):
        balancer.finish(1, Outcome.OK, None, 10.0)


def test_a_second_finish_and_events_of_an_unknown_request_are_refused() -> None:
    balancer = balancer_of("a")
    calls: list[Callable[[], object]] = [
        lambda: balancer.finish(5, Outcome.OK, None, 1.0),
        lambda: balancer.first_token(5, 1.0),
        lambda: balancer.reroute(5, 1.0),
    ]
    for call in calls:
        with pytest.raises(KeyError):
            call()


def test_an_id_that_is_in_flight_cannot_be_routed_again() -> None:
    balancer = balancer_of("a")
    balancer.route(request(1), 0.0)
    with pytest.raises(ValueError, match="request 1 is already in flight"):
        balancer.route(request(1), 0.0)
    balancer.finish(1, Outcome.OK, None, 1.0)
    assert balancer.route(request(1), 2.0).worker == "a"


def test_a_second_first_token_changes_nothing() -> None:
    balancer = balancer_of("a")
    balancer.route(request(1, b"x" * 5_000), 0.0)
    balancer.route(request(2, b"y" * 5_000), 0.0)
    balancer.first_token(1, 1.0)
    before = books(balancer)
    balancer.first_token(1, 2.0)
    assert books(balancer) == before


# --- who gets a request ---------------------------------------------------------------------------


def test_a_turn_that_is_sent_again_counts_once_and_the_session_is_where_it_went() -> None:
    balancer = balancer_of("a", "b")
    first = balancer.route(request(1, session="s"), 0.0).worker
    balancer.finish(1, Outcome.OK, None, 1.0)
    failed = balancer.route(request(2, session="s"), 2.0).worker
    again = balancer.reroute(2, 3.0).worker
    session, statistics = balancer.session("s"), balancer.statistics()
    assert session is not None
    assert (session.worker, session.turns) == (again, 2)
    assert statistics.session_turns_stayed + statistics.session_turns_moved == 1
    assert statistics.session_turns_stayed == (failed == first)


def test_a_reroute_never_picks_a_worker_that_failed_and_ends_when_all_have() -> None:
    balancer = balancer_of("a", "b", "c")
    tried = [balancer.route(request(1), 0.0).worker]
    tried += [balancer.reroute(1, 1.0).worker for _ in range(2)]
    assert sorted(tried) == ["a", "b", "c"]
    with pytest.raises(NoWorkers):
        balancer.reroute(1, 2.0)
    assert set(books(balancer).values()) <= {(0, 0, 0.0)}, "of the workers that are left"
    balancer.add_worker(WorkerSpec("d"), 3.0)
    late = balancer.reroute(1, 4.0)
    assert (late.worker, late.attempt) == ("d", 3)
    balancer.finish(1, Outcome.OK, None, 5.0)
    assert books(balancer)["d"] == (0, 0, 0.0)


def test_a_new_worker_in_the_slot_of_a_failed_one_may_take_the_request() -> None:
    balancer = balancer_of("a")
    balancer.route(request(1), 0.0)
    balancer.remove_worker("a", 1.0)
    balancer.add_worker(WorkerSpec("b"), 2.0)
    assert balancer.fleet.slot_of["b"] == 0
    assert balancer.reroute(1, 3.0).worker == "b"


def test_a_failed_worker_that_was_removed_and_came_back_is_still_a_failed_one() -> None:
    balancer = balancer_of("a", "b")
    first = balancer.route(request(1), 0.0).worker
    balancer.remove_worker(first, 1.0)
    balancer.add_worker(WorkerSpec(first), 2.0)
    assert balancer.reroute(1, 3.0).worker != first


def test_a_request_whose_model_left_the_fleet_finds_no_workers_and_is_not_called_unknown() -> None:
    balancer = balancer_of("a", models=("m",))
    balancer.add_worker(WorkerSpec("b", models=("other",)), 0.0)
    balancer.route(request(1), 0.0)
    balancer.remove_worker("a", 1.0)
    with pytest.raises(NoWorkers):
        balancer.reroute(1, 2.0)


def test_an_unknown_model_is_refused_with_the_names_of_the_known_ones() -> None:
    balancer = balancer_of("a", models=("zeta", "alpha"))
    with pytest.raises(
        UnknownModel, match="`nope` does not exist; models served here: alpha, zeta"
    ) as caught:
        balancer.route(request(1, model="nope"), 0.0)
    assert caught.value.known == ("alpha", "zeta")
    assert balancer.in_flight() == 0


def test_a_worker_that_declares_no_models_takes_any() -> None:
    balancer = balancer_of("a", models=("zeta",))
    balancer.add_worker(WorkerSpec("any"), 0.0)
    assert balancer.route(request(1, model="nope"), 0.0).worker == "any"
    balancer.remove_worker("any", 1.0)
    with pytest.raises(UnknownModel):
        balancer.route(request(2, model="nope"), 2.0)


def test_without_workers_there_is_nobody_and_no_model_is_unknown() -> None:
    with pytest.raises(NoWorkers):
        balancer_of().route(request(1), 0.0)


@pytest.mark.parametrize("policy", ["cache_aware", "round_robin", "session_sticky", "consistent_hash"])
def test_workers_that_drain_or_are_ill_get_nothing_until_they_are_back(policy: str) -> None:
    balancer = balancer_of("a", "b", "c", policy=policy)
    ids = itertools.count()

    def used() -> set[str]:
        found = set()
        for i in range(60):
            number = next(ids)
            one = request(number, number.to_bytes(2, "big") * 1_000, session=f"s{number}")
            found.add(balancer.route(one, 1.0 + i / 10).worker)
            balancer.finish(one.request_id, Outcome.OK, None, 1.05 + i / 10)
        return found

    assert used() == {"a", "b", "c"}
    balancer.drain_worker("a", True, 10.0)
    balancer.set_health("b", False, 10.0)
    assert used() == {"c"}
    balancer.set_health("c", False, 20.0)
    with pytest.raises(NoWorkers, match="none of the 3 workers"):
        balancer.route(request(next(ids)), 21.0)
    balancer.drain_worker("a", False, 30.0)
    balancer.set_health("b", True, 30.0)
    balancer.set_health("c", True, 30.0)
    assert used() >= {"a", "b"}, "who is back gets requests again"


def test_a_draining_worker_keeps_what_it_has() -> None:
    balancer = balancer_of("a", "b")
    worker = balancer.route(request(1), 0.0).worker
    balancer.drain_worker(worker, True, 1.0)
    assert books(balancer)[worker][0] == 1
    balancer.finish(1, Outcome.OK, None, 2.0)
    assert books(balancer)[worker][0] == 0


# --- a request that only one worker can take ------------------------------------------------------


@pytest.mark.parametrize("policy", available())
def test_a_request_with_an_owner_goes_there_whatever_the_policy_would_say(policy: str) -> None:
    balancer = balancer_of("a", "b", "c", policy=policy)
    for number in range(30):
        owner = "abc"[number % 3]
        decision = balancer.route(request(number, b"p" * 4_000, owner=owner), float(number))
        assert (decision.worker, decision.reason) == (owner, "owner")
        assert books(balancer)[owner][0] == number // 3 + 1


def test_an_owner_that_is_ejected_or_draining_is_sent_what_only_it_can_answer() -> None:
    balancer = balancer_of("a", "b")
    balancer.set_health("a", False, 0.0)
    assert balancer.route(request(1, owner="a"), 1.0).worker == "a"
    balancer.drain_worker("a", True, 2.0)
    assert balancer.route(request(2, owner="a"), 3.0).worker == "a"
    assert balancer.route(request(3), 4.0).worker == "b", "nobody else is sent there"


def test_an_owner_that_has_left_or_failed_leaves_nobody() -> None:
    balancer = balancer_of("a", "b")
    balancer.route(request(1, owner="a"), 0.0)
    with pytest.raises(NoWorkers):
        balancer.reroute(1, 1.0)
    balancer.finish(1, Outcome.WORKER_ERROR, None, 2.0)
    balancer.remove_worker("a", 3.0)
    with pytest.raises(NoWorkers):
        balancer.route(request(2, owner="a"), 4.0)
    assert books(balancer) == {"b": (0, 0, 0.0)}


def test_a_dry_run_of_a_request_with_an_owner_names_the_owner() -> None:
    balancer = balancer_of("a", "b", policy="cache_aware")
    for owner in ("a", "b"):
        worker, reason, shares = balancer.explain(request(1, b"p" * 4_000, owner=owner), 0.0)
        assert (worker, reason) == (owner, "owner")
        assert [share.worker for share in shares if share.eligible] == [owner]


# --- a worker is removed --------------------------------------------------------------------------


def test_a_removed_worker_leaves_its_slot_clean_to_the_next_one() -> None:
    balancer = balancer_of("old", policy="cache_aware")
    prompt = b"p" * 20_000
    for i in range(3):
        balancer.route(request(i, prompt), float(i))
    balancer.drain_worker("old", True, 3.0)
    balancer.remove_worker("old", 4.0)
    balancer.add_worker(WorkerSpec("new", weight=2.0), 5.0)
    fleet, slot = balancer.fleet, balancer.fleet.slot_of["new"]
    assert slot == 0
    assert (fleet.inflight[slot], fleet.queued_tokens[slot], fleet.queued_prefill_s[slot]) == (0, 0, 0.0)
    assert (fleet.healthy[slot], fleet.draining[slot], fleet.crowding[slot]) == (True, False, 0.0)
    assert fleet.linear_s[slot] == pytest.approx(PRICE.linear_s / 2)
    decision = balancer.route(request(10, prompt), 6.0)
    assert (decision.worker, decision.predicted_hit_tokens) == ("new", 0), "the old one's cache is forgotten"
    for i in range(3):  # the old one's requests end late, each in its own way
        if i:
            balancer.first_token(i, 7.0)
        balancer.finish(i, [Outcome.OK, Outcome.WORKER_ERROR, Outcome.CLIENT_GONE][i], None, 8.0)
    assert books(balancer)["new"][0] == 1
    assert balancer.route(request(11, prompt), 9.0).predicted_hit_tokens > 0, (
        "nothing of `new` was rolled back"
    )


# --- a worker restarted ---------------------------------------------------------------------------


def swept(balancer: Balancer) -> None:
    while balancer.tick(50.0):
        pass


def test_a_forgotten_cache_takes_its_prefixes_and_answers_and_leaves_the_rest() -> None:
    balancer = balancer_of("a", "b", policy="cache_aware", kv_capacity_tokens=100_000)
    prompt = b"p" * 20_000
    for i in range(4):
        balancer.route(request(i, prompt, session="ada"), float(i))
        balancer.first_token(i, i + 0.1)
        if i < 3:
            balancer.finish(i, Outcome.OK, Usage(5_000, 100, None), i + 0.5)
    warm = balancer.route(request(10, prompt), 5.0)
    assert warm.predicted_hit_tokens > 0
    other = {"a": "b", "b": "a"}[warm.worker]
    balancer.set_health(warm.worker, False, 5.1)
    balancer.route(request(11, prompt), 5.2)
    balancer.set_health(warm.worker, True, 5.3)
    slot, before = warm.slot, books(balancer)
    assert before[warm.worker][0] == 2
    assert balancer.statistics().answers == 1
    balancer.forget_cache(warm.worker, 6.0)
    _, _, rows = balancer.explain(request(12, prompt), 6.0)
    hits = {row.worker: row.predicted_hit_tokens for row in rows}
    assert hits[warm.worker] == 0
    assert hits[other] > 0, "another worker's cache is its own"
    assert books(balancer) == before
    assert balancer.fleet.healthy[slot]
    assert balancer.fleet.kv_capacity_tokens[slot] == balancer.beliefs.capacity.tokens(slot) == 100_000
    assert balancer.statistics().answers == 0
    assert balancer.statistics().sessions == 1
    swept(balancer)
    assert balancer.index.resident(slot) == 0
    balancer.index.check_integrity()


@pytest.mark.parametrize("is_swept", [False, True])
@pytest.mark.parametrize("ends", ["uncached", "cached", "unreported", "error", "gone", "reroute"])
def test_what_was_in_flight_when_a_cache_was_lost_neither_revives_nor_harms_the_new_one(
    ends: str, is_swept: bool
) -> None:
    balancer = balancer_of("a", "b", policy="cache_aware", kv_capacity_tokens=100_000)
    warm, cold, both = b"w" * 20_000, b"c" * 20_000, b"b" * 20_000
    balancer.set_health("b", False, 0.0)
    balancer.route(request(1, warm), 0.0)
    balancer.finish(1, Outcome.OK, Usage(5_000, 100, 0), 1.0)
    for number, prompt in enumerate((warm, cold, both), start=2):
        balancer.route(request(number, prompt), 2.0)
    balancer.forget_cache("a", 3.0)
    if is_swept:
        swept(balancer)
    balancer.route(request(5, both), 60.0)
    balancer.finish(5, Outcome.OK, Usage(5_000, 100, 0), 61.0)
    balancer.set_health("b", True, 62.0)
    for number in (2, 3, 4):
        if ends == "reroute":
            assert balancer.reroute(number, 63.0).worker == "b"
            balancer.index.check_integrity()
            balancer.finish(number, Outcome.OK, Usage(5_000, 100, 0), 64.0)
        elif ends in ("error", "gone"):
            outcome = Outcome.WORKER_ERROR if ends == "error" else Outcome.CLIENT_GONE
            balancer.finish(number, outcome, None, 63.0)
        else:
            balancer.first_token(number, 62.5)
            cached = {"uncached": 0, "cached": 4_992, "unreported": None}[ends]
            balancer.finish(number, Outcome.OK, Usage(5_000, 100, cached), 63.0)
        balancer.index.check_integrity()
    swept(balancer)
    balancer.index.check_integrity()
    held = {}
    for prompt in (warm, cold, both):
        _, _, rows = balancer.explain(request(9, prompt), 70.0)
        held[prompt] = next(row.predicted_hit_tokens for row in rows if row.worker == "a")
    assert held[warm] == held[cold] == 0, "the former cache is gone"
    assert held[both] > 0, "what came after it stays"
    assert balancer.beliefs.capacity.tokens(0) == balancer.fleet.kv_capacity_tokens[0] == 100_000
    assert sum(balancer.beliefs.lessons.values()) == 0
    assert books(balancer) == {"a": (0, 0, 0.0), "b": (0, 0, 0.0)}


def test_misses_before_a_known_restart_do_not_count_towards_another() -> None:
    balancer = balancer_of("a", policy="cache_aware", kv_capacity_tokens=1_000_000)
    prompts = [bytes([65 + i]) * 20_000 for i in range(20)]
    ids = itertools.count()

    def answered(prompt: bytes, cached: int) -> None:
        number = next(ids)
        balancer.route(request(number, prompt), float(number))
        balancer.first_token(number, number + 0.1)
        balancer.finish(number, Outcome.OK, Usage(5_000, 100, cached), number + 0.2)

    def learn_all_and_miss(misses: int) -> None:
        for prompt in prompts:
            answered(prompt, 0)
        for prompt in prompts[-misses:]:
            answered(prompt, 0)

    learn_all_and_miss(2)
    assert balancer.beliefs.lessons[Lesson.LOST] == 2
    balancer.forget_cache("a", 100.0)
    swept(balancer)
    learn_all_and_miss(1)
    assert balancer.beliefs.lessons[Lesson.LOST] == 3
    assert balancer.beliefs.lessons[Lesson.RESTARTED] == 0


def test_a_restart_seen_by_misses_leaves_the_capacity_as_it_was_whatever_is_in_flight() -> None:
    balancer = balancer_of("a", policy="cache_aware", kv_capacity_tokens=1_000_000)
    prompts = [bytes([65 + i]) * 20_000 for i in range(50)]
    late = range(46, 50)
    for number, prompt in enumerate(prompts):
        balancer.route(request(number, prompt), float(number))
        balancer.finish(number, Outcome.OK, Usage(5_000, 100, 0), number + 0.5)
    for number in late:
        balancer.route(request(number, prompts[number]), 60.0)
        balancer.first_token(number, 60.1)
    for number in late:
        balancer.finish(number, Outcome.OK, Usage(5_000, 100, 0), 61.0)
        swept(balancer)
    assert balancer.beliefs.lessons[Lesson.LOST] == 2
    assert balancer.beliefs.lessons[Lesson.RESTARTED] == 1
    assert balancer.beliefs.lessons[Lesson.CUT] == 0
    assert balancer.beliefs.capacity.tokens(0) == 1_000_000
    balancer.index.check_integrity()


@pytest.mark.parametrize(("routed_at", "restarts"), [(59.0, 1), (62.5, 0)], ids=["before", "between"])
def test_a_hit_that_was_dispatched_before_the_misses_and_ends_between_them_ends_no_row(
    routed_at: float, restarts: int
) -> None:
    balancer = balancer_of("a", policy="cache_aware", kv_capacity_tokens=1_000_000)
    prompts = [bytes([65 + i]) * 20_000 for i in range(50)]
    for number, prompt in enumerate(prompts):
        balancer.route(request(number, prompt), float(number))
        balancer.finish(number, Outcome.OK, Usage(5_000, 100, 0), number + 0.5)

    routed = {routed_at: 40, 60.0: 49, 61.0: 48, 64.0: 47}
    ended = {61.5: (49, 0), 62.0: (48, 0), 63.0: (40, 4_992), 65.0: (47, 0)}
    for now in sorted(routed | ended):
        if now in routed:
            number = routed[now]
            balancer.route(request(number, prompts[number]), now)
            balancer.first_token(number, now + 0.1)
        else:
            number, cached = ended[now]
            balancer.finish(number, Outcome.OK, Usage(5_000, 100, cached), now)
    assert balancer.beliefs.lessons[Lesson.RESTARTED] == restarts


def test_removing_what_is_not_there_is_refused() -> None:
    balancer = balancer_of("a")
    calls: list[Callable[[], None]] = [
        lambda: balancer.remove_worker("b", 1.0),
        lambda: balancer.drain_worker("b", True, 1.0),
        lambda: balancer.set_health("b", False, 1.0),
        lambda: balancer.forget_cache("b", 1.0),
        lambda: balancer.update_worker(WorkerSpec("b"), 1.0),
    ]
    for call in calls:
        with pytest.raises(KeyError):
            call()
    with pytest.raises(ValueError, match="already present"):
        balancer.add_worker(WorkerSpec("a"), 1.0)


# --- what is believed to be cached ----------------------------------------------------------------


def test_a_follower_of_a_cold_prompt_expects_a_hit_before_the_first_one_ended() -> None:
    balancer = balancer_of("a", "b", policy="cache_aware")
    first = balancer.route(request(1, b"p" * 40_960), 0.0)
    second = balancer.route(request(2, b"p" * 40_960 + b"tail" * 500), 0.0)
    assert (first.predicted_hit_tokens, first.reason) == (0, "cold")
    assert second.worker == first.worker
    assert second.predicted_hit_tokens == 40_960 // 4 // 16 * 16


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
def test_a_prompt_that_was_never_prefilled_is_not_believed_to_be_cached(outcome: Outcome) -> None:
    balancer = balancer_of("a", "b", policy="cache_aware")
    balancer.route(request(1, b"p" * 40_960), 0.0)
    balancer.finish(1, outcome, None, 0.1)
    assert balancer.route(request(2, b"p" * 40_960), 0.2).predicted_hit_tokens == 0


def test_a_reroute_believes_the_prompt_on_the_second_worker_alone() -> None:
    balancer = balancer_of("a", "b", policy="cache_aware")
    failed = balancer.route(request(1, b"p" * 40_960), 0.0).worker
    second = balancer.reroute(1, 0.1)
    _, _, rows = balancer.explain(request(2, b"p" * 40_960), 0.2)
    hits = {row.worker: row.predicted_hit_tokens for row in rows}
    assert hits[failed] == 0
    assert hits[second.worker] > 0


def test_a_prompt_cannot_hit_as_a_whole_because_engines_compute_the_last_token() -> None:
    balancer = balancer_of("a")
    balancer.route(request(1, b"p" * 4_096, prompt_tokens=1_024), 0.0)
    assert balancer.route(request(2, b"p" * 4_096, prompt_tokens=1_024), 1.0).predicted_hit_tokens == 1_008


def test_a_dry_run_changes_nothing() -> None:
    chance = Random(3)
    asked, quiet = (balancer_of("a", "b", "c", policy="cache_aware") for _ in range(2))
    for i in range(200):
        prompt = bytes([chance.randrange(5)]) * chance.randrange(30_000)
        for j in range(chance.randrange(3)):
            asked.explain(request(1_000_000 + j, bytes([j]) * 9_000), float(i))
        one = request(i, prompt, session=chance.choice([None, "s"]))
        assert asked.route(one, float(i)) == quiet.route(one, float(i))
        if i % 3:
            for balancer in (asked, quiet):
                balancer.finish(i, Outcome.OK, None, i + 0.5)


def test_explain_names_the_worker_that_a_route_would_choose() -> None:
    balancer = balancer_of("a", "b", "c", policy="cache_aware")
    for i in range(20):
        one = request(i, bytes([i % 4]) * 9_000)
        worker, reason, rows = balancer.explain(one, float(i))
        decision = balancer.route(one, float(i))
        assert (decision.worker, decision.reason) == (worker, reason)
        assert {row.worker for row in rows} == {"a", "b", "c"}
        assert all(math.isfinite(row.total_s) for row in rows)


def test_a_worker_that_is_believed_in_for_longest_draws_no_work_by_it() -> None:
    """Three alike, of which two were found to hold less: after the next tick all count as equally full."""
    balancer = balancer_of("a", "b", "c", kv_capacity_tokens=100_000)
    balancer.fleet.kv_capacity_tokens[:] = [50_000.0, 60_000.0, 100_000.0]
    balancer.tick(1.0)
    assert balancer.fleet.alike_capacity_tokens == [60_000.0] * 3
    for number in range(3):
        balancer.route(request(number, bytes([number]) * 40_000, prompt_tokens=9_000), 2.0 + number)
    assert balancer.fleet.filled == [0.15] * 3


# --- several routers ------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 3, 4])
def test_a_router_among_several_believes_in_its_share_of_what_workers_declare(replicas: int) -> None:
    balancer = Balancer(make_policy("cache_aware", {}, 1), BalancerConfig(replicas=replicas))
    balancer.add_worker(WorkerSpec("a", kv_capacity_tokens=120_000), 0.0)
    balancer.add_worker(WorkerSpec("b"), 0.0)
    balancer.tick(1.0)
    believed = [120_000 / replicas, math.inf]
    assert balancer.fleet.kv_capacity_tokens == balancer.fleet.alike_capacity_tokens == believed
    balancer.update_worker(WorkerSpec("a", kv_capacity_tokens=60_000), 2.0)
    assert balancer.beliefs.capacity.tokens(0) == balancer.fleet.kv_capacity_tokens[0] == 60_000 / replicas
    assert balancer.fleet.spec(0).kv_capacity_tokens == 60_000, "what was declared is told as it was"


def test_a_router_among_several_takes_a_cache_that_nobody_declares_for_fuller() -> None:
    crowding = []
    for replicas in (1, 2):
        balancer = Balancer(make_policy("cache_aware", {}, 1), BalancerConfig(replicas=replicas))
        balancer.add_worker(WorkerSpec("a"), 0.0)
        for number in range(80):  # 40 prompts of 3,000 tokens, twice
            now = float(number)
            balancer.tick(now)
            balancer.route(request(number, bytes([number % 40]) * 12_000), now)
            balancer.finish(number, Outcome.OK, Usage(3_000, 1, None), now + 0.5)
        balancer.tick(80.0)
        crowding.append(balancer.fleet.crowding[0])
    assert 0 < crowding[0] < crowding[1]


@pytest.mark.parametrize("replicas", [0, -2])
def test_there_is_at_least_one_router(replicas: int) -> None:
    with pytest.raises(ValueError, match="replicas must be at least 1"):
        BalancerConfig(replicas=replicas)


def test_the_policy_hears_of_every_change_of_the_fleet() -> None:
    heard: list[tuple[str, bool]] = []

    class Listener(Witness):
        def observe(self, event: PolicyEvent, now: float) -> None:
            if isinstance(event, FleetChanged):
                heard.append((event.worker, event.present))

    balancer = Balancer(Listener())
    balancer.add_worker(WorkerSpec("a"), 0.0)
    balancer.set_health("a", True, 1.0)  # it is
    balancer.set_health("a", False, 2.0)
    balancer.drain_worker("a", True, 3.0)
    balancer.update_worker(WorkerSpec("a", weight=2.0), 4.0)
    balancer.remove_worker("a", 5.0)
    assert heard == [("a", True)] * 4 + [("a", False)]
