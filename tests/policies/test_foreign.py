"""Others' work is what engines report beyond the own books: never the own twice, never zero for not told."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from traffic import Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.fleet import Fleet
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.pressure import Pressure
from warmroute_policies.registry import available, make_policy
from warmroute_policies.types import LoadReport, Outcome, RoutingRequest, WorkerSpec

PRICE = PrefillPrice(1e-4, 0.0)


def balancer_of(workers: int = 2, policy: str = "least_requests", **config: object) -> Balancer:
    told = {"load_smoothing_s": 0.0} | config
    balancer = Balancer(make_policy(policy), BalancerConfig(default_price=PRICE, **told))  # type: ignore[arg-type]
    for number in range(workers):
        balancer.add_worker(WorkerSpec(f"w{number}"), 0.0)
    return balancer


def told(
    balancer: Balancer, now: float, requests: int | None = 0, *, worker: str = "w0", **more: object
) -> None:
    report = LoadReport(requests, **more)  # type: ignore[arg-type]
    balancer.report_load(worker, report, now, now)


def request(number: int, prompt_tokens: int = 1000, *, stream: bool = True) -> RoutingRequest:
    blocks = PromptBlocks(f"{number} ".encode() * 2000, salt_of("m"))
    return RoutingRequest(number, "m", blocks, prompt_tokens, stream=stream)


# --- counting ---------------------------------------------------------------------------------------


class Engines:
    """What engines would say: what the books said at some moment, and `others` on top. State: the past."""

    def __init__(self, traffic: Traffic, chance: Random, others: int) -> None:
        self._traffic = traffic
        self._chance = chance
        self._others = others
        self.told = 0
        self._past: list[tuple[float, dict[str, tuple[int, int, int]]]] = []

    def look(self) -> None:
        """Writes. As of now."""
        traffic = self._traffic
        here = {
            worker: [flight for flight in traffic.flights.values() if flight.worker == worker]
            for worker in traffic.workers
        }
        self._past.append(
            (
                traffic.now,
                {
                    worker: (
                        len(flights),
                        sum(flight.prefilling for flight in flights),
                        sum(flight.missing_tokens for flight in flights if flight.prefilling),
                    )
                    for worker, flights in here.items()
                },
            )
        )

    def tell(self) -> None:
        """Writes. One worker's engine tells of a moment up to a second ago, by a clock that is up to half a
        second off."""
        chance, now = self._chance, self._traffic.now
        at = now - chance.random()
        moments = [books for moment, books in self._past if moment <= at]
        if not moments or not self._traffic.workers:
            return
        worker = chance.choice(sorted(self._traffic.workers))
        own = moments[-1].get(worker)
        if own is not None:
            requests, waiting, tokens = own
            report = LoadReport(
                requests + self._others, waiting + self._others, tokens + 100 * self._others, 0.5
            )
            self._traffic.balancer.report_load(worker, report, at - chance.random() / 2, now)
            self.told += 1


@pytest.mark.parametrize("policy", available())
@pytest.mark.parametrize("seed", range(2))
def test_reports_of_nobody_elses_requests_change_no_decision(policy: str, seed: int) -> None:
    config = BalancerConfig(default_price=PRICE, kv_pressure_gate=0.9)
    deaf = Traffic(Balancer(make_policy(policy, {}, seed), config), seed, streamed=1.0)
    hearing = Traffic(Balancer(make_policy(policy, {}, seed), config), seed, streamed=1.0)
    engines = Engines(hearing, Random(seed), others=0)
    for _ in zip(deaf.steps(500), hearing.steps(500), strict=True):
        engines.look()
        engines.tell()
        assert hearing.last == deaf.last, f"seed {seed}"
    assert engines.told > 100, "hardly any engine told anything"


@pytest.mark.parametrize("seed", range(8))
def test_others_requests_are_never_overrated_and_known_once_the_own_have_ended(seed: int) -> None:
    traffic = Traffic(balancer_of(0), seed, streamed=1.0)
    engines = Engines(traffic, Random(seed), others=7)
    fleet = traffic.balancer.fleet
    for _ in traffic.steps(600):
        engines.look()
        engines.tell()
        for slot, spec in fleet.slots():
            assert 0 <= fleet.foreign_requests[slot] <= 7, f"seed {seed}"
            assert 0 <= fleet.foreign_tokens[slot] <= 700
            assert fleet.own_inflight(slot) == traffic.in_flight(spec.worker_id)
    traffic.end()
    for _ in range(100):
        traffic.now += 0.1
        engines.look()
        engines.tell()
    known = set(traffic.balancer.foreign.told)
    assert known
    assert {fleet.foreign_requests[slot] for slot in known} == {7}
    assert {fleet.inflight[slot] for slot in known} == {7}
    assert {fleet.foreign_tokens[slot] for slot in known} == {700}


def test_an_own_request_that_the_gauge_does_not_show_yet_is_no_reason_to_think_that_others_left() -> None:
    balancer = balancer_of(1)
    told(balancer, 0.0)
    told(balancer, 1.0, 5)
    assert balancer.fleet.inflight == [5]
    balancer.route(request(1), 2.0)
    balancer.report_load("w0", LoadReport(5), 1.5, 2.1)  # of before the request, or of after one has ended
    assert balancer.fleet.inflight == [6]
    balancer.report_load("w0", LoadReport(5), 2.2, 2.3)
    assert balancer.fleet.inflight == [5], "now the own one is among the five"


def test_what_is_not_told_stays_as_it_was() -> None:
    balancer = balancer_of(1)
    told(balancer, 0.0)
    told(balancer, 1.0, 8, waiting_requests=3, waiting_tokens=900)
    told(balancer, 2.0, None, kv_usage=0.3)
    assert (balancer.fleet.inflight, balancer.fleet.queued_tokens) == ([8], [900])
    told(balancer, 3.0, 2)
    assert balancer.fleet.inflight == [3], "three wait, so there are three at least"
    told(balancer, 4.0, 2, waiting_requests=0)
    assert (balancer.fleet.inflight, balancer.fleet.queued_tokens) == ([2], [0])


def test_where_nobody_else_is_no_tokens_are_anybody_elses() -> None:
    balancer = balancer_of(1)
    told(balancer, 0.0)
    balancer.route(request(1, 1000), 1.0)
    told(balancer, 2.0, 1, waiting_requests=1, waiting_tokens=9000)
    assert balancer.fleet.queued_tokens == [1000], "the prompt was longer than predicted"
    told(balancer, 3.0, 2, waiting_requests=2, waiting_tokens=9000)
    assert balancer.fleet.queued_tokens == [9000]


def test_a_report_of_a_time_that_the_books_do_not_know_counts_nothing() -> None:
    balancer = balancer_of(1)
    balancer.report_load("w0", LoadReport(9), 4.0, 5.0)
    assert balancer.fleet.inflight == [0], "what was in flight at 4 was not written down"
    balancer.report_load("w0", LoadReport(9), 5.0, 6.0)
    assert balancer.fleet.inflight == [9]
    balancer.report_load("w0", LoadReport(0), 6.0, 60.0)
    assert balancer.fleet.inflight == [9], "the answer took a minute"


def test_what_nobody_confirms_is_forgotten() -> None:
    balancer = balancer_of(1, load_stale_s=3.0)
    told(balancer, 0.0)
    told(balancer, 1.0, 12, waiting_requests=4, waiting_tokens=4000)
    balancer.tick(4.0)
    assert balancer.fleet.inflight == [12], "it is not stale yet"
    seen = []
    for second in range(5, 12):
        balancer.tick(float(second))
        seen.append((balancer.fleet.inflight[0], balancer.fleet.queued_tokens[0]))
    assert seen[:3] == [(6, 2000), (3, 1000), (2, 500)]
    assert seen[-1][0] == 0
    told(balancer, 20.0, None, kv_usage=0.1)
    balancer.tick(40.0)
    assert balancer.fleet.inflight == [0]


def test_a_worker_that_leaves_takes_others_work_with_it() -> None:
    balancer = balancer_of(2)
    told(balancer, 0.0)
    told(balancer, 1.0, 5, waiting_tokens=70)
    assert balancer.fleet.queued_tokens == [70, 0]
    balancer.remove_worker("w0", 2.0)
    balancer.add_worker(WorkerSpec("w9"), 3.0)
    fleet = balancer.fleet
    assert fleet.slot_of["w9"] == 0
    assert (fleet.inflight, fleet.queued_tokens, fleet.foreign_until) == ([0, 0], [0, 0], [-inf, -inf])
    told(balancer, 4.0, 2, worker="w9")
    assert fleet.inflight == [2, 0], "its past is its own"


def test_a_limit_is_about_the_routers_own_requests() -> None:
    balancer = Balancer(make_policy("least_requests"), BalancerConfig(load_smoothing_s=0.0))
    balancer.add_worker(WorkerSpec("w0", max_inflight=2), 0.0)
    told(balancer, 0.0)
    told(balancer, 1.0, 50)
    assert balancer.has_room("m")
    balancer.route(request(1), 2.0)
    balancer.route(request(2), 2.0)
    assert not balancer.has_room("m")


# --- smoothing ---------------------------------------------------------------------------------------


def test_a_change_is_believed_little_by_little() -> None:
    balancer = balancer_of(1, load_smoothing_s=3.0)
    told(balancer, 0.0)
    seen = []
    for number in range(1, 61):
        told(balancer, number / 2, 100 if number <= 30 else 0, waiting_requests=0, waiting_tokens=5000)
        seen.append(balancer.fleet.inflight[0])
    assert [seen[place] for place in (0, 5, 29)] == [15, 63, 99], "1 - 1/e after three seconds"
    assert [seen[place] for place in (30, 35, 59)] == [84, 37, 1]
    assert seen == sorted(seen[:30]) + sorted(seen[30:], reverse=True)


def test_no_single_report_is_believed_for_more_than_a_third() -> None:
    balancer = balancer_of(1, load_smoothing_s=0.5)
    told(balancer, 0.0)
    told(balancer, 60.0, 100)
    assert balancer.fleet.inflight == [28]


# --- queues -----------------------------------------------------------------------------------------


def test_waiting_tokens_are_a_queue_that_runs_down() -> None:
    balancer = balancer_of(2)
    told(balancer, 0.0)
    told(balancer, 1.0, 4, waiting_requests=2, waiting_tokens=10_000)
    fleet = balancer.fleet
    assert fleet.queue_s(1.0) == [pytest.approx(1.0), 0.0]
    assert fleet.queue_s(1.6)[0] == pytest.approx(0.4)
    assert fleet.queue_s(9.0) == [0.0, 0.0]
    assert fleet.shortest_queue_s((0,), 1.5) == pytest.approx(0.5)
    assert fleet.shortest_queue_s((0, 1), 1.5) == 0.0


def test_own_and_others_queues_add_up_and_end_apart() -> None:
    fleet = Fleet({}, PRICE)
    fleet.add(WorkerSpec("a"), 0.0)
    fleet.set_foreign(0, 3, 2000, 0.2, 10.0)
    fleet.book(0, 1, 5000, 5000, 10.0)
    assert fleet.queue_s(10.0) == [pytest.approx(0.7)]
    assert fleet.queued_tokens == [7000]
    assert fleet.queued_prefill_s == [pytest.approx(0.5)], "of the router's own alone"
    fleet.set_foreign(0, 3, 1000, 0.1, 10.1)
    assert fleet.queue_s(10.1) == [pytest.approx(0.5)]
    fleet.prefill_done(0, 1, 10.15)
    assert fleet.queue_s(10.15) == [pytest.approx(0.05)]
    assert fleet.queued_tokens == [1000]
    fleet.set_foreign(0, 0, 0, 0.0, 10.2)
    assert (fleet.queue_s(10.2), fleet.inflight, fleet.queued_tokens) == ([0.0], [1], [0])


def test_a_head_that_is_late_does_not_hide_what_waits_behind_it() -> None:
    fleet = Fleet({}, PRICE)
    fleet.add(WorkerSpec("a"), 0.0)
    fleet.book(0, 1, 10_000, 10_000, 10.0)
    fleet.set_foreign(0, 1, 5000, 0.5, 30.0)
    assert fleet.queue_s(30.0) == [pytest.approx(0.5 + 0.5)], "half of the head, and the others'"


def test_an_engine_that_tells_no_tokens_is_taken_to_lack_what_own_requests_lack() -> None:
    balancer = balancer_of(2)
    told(balancer, 0.0)
    told(balancer, 1.0, 4, waiting_requests=2)
    assert balancer.fleet.queue_s(1.0) == [0.0, 0.0], "no own request has shown how much that is"
    for number in range(200):
        balancer.route(request(number, 3000), 2.0)
        balancer.finish(number, Outcome.OK, None, 2.0)
    told(balancer, 3.0, 4, waiting_requests=2)
    assert balancer.fleet.queue_s(3.0) == [pytest.approx(0.6, rel=0.01), 0.0]


def test_requests_that_wait_behind_others_teach_no_price() -> None:
    def learned(foreign: bool) -> float:
        balancer = balancer_of(1)
        told(balancer, 0.0)
        for number in range(30):
            now = 1.0 + number
            if foreign:
                told(balancer, now, 9, waiting_requests=8, waiting_tokens=50_000)
            balancer.route(request(number, 5000), now)
            balancer.first_token(number, now + 5.5)
            balancer.finish(number, Outcome.OK, None, now + 6.0)
        return balancer.fleet.linear_s[0]

    assert learned(foreign=True) == PRICE.linear_s
    assert learned(foreign=False) > 2 * PRICE.linear_s, "the same times with nobody to blame are the price"


@pytest.mark.parametrize("policy", ["least_requests", "power_of_two", "cache_aware", "sglang_cache_aware"])
def test_new_prompts_go_where_others_have_not_sent_theirs(policy: str) -> None:
    balancer = balancer_of(2, policy)
    told(balancer, 0.0)
    told(balancer, 1.0, 40, waiting_requests=30, waiting_tokens=60_000)
    sent = [balancer.route(request(number), 1.5).worker for number in range(20)]
    assert sent == ["w1"] * 20


# --- pressure ---------------------------------------------------------------------------------------


def test_pressure_begins_with_waiting_requests_and_ends_well_below() -> None:
    pressure = Pressure(0.9)
    course = [(0.95, None), (0.95, 0), (0.89, 5), (0.9, 1), (0.86, 0), (0.99, 0), (0.849, 9), (0.89, 9)]
    under = []
    for usage, waiting in course:
        pressure.told(2, usage, waiting)
        under.append(2 in pressure.slots)
    assert under == [False, False, False, True, True, True, False, False]


def test_without_a_gate_nobody_is_under_pressure() -> None:
    pressure = Pressure(None)
    pressure.told(0, 1.0, 99)
    assert not pressure.slots


@pytest.mark.parametrize("seed", range(30))
def test_whoever_is_held_back_leaves_somebody(seed: int) -> None:
    chance, pressure = Random(seed), Pressure(0.5)
    for _ in range(100):
        pressure.told(chance.randrange(6), chance.random(), chance.choice([None, 0, 3]))
        eligible = sorted(chance.sample(range(6), chance.randrange(1, 7)))
        held = pressure.held_back(eligible)
        assert set(held) <= pressure.slots & set(eligible)
        assert len(held) < len(eligible)
        assert held or not pressure.slots & set(eligible) or pressure.slots >= set(eligible)


def test_full_caches_get_nothing_while_others_have_room_and_again_when_they_have() -> None:
    balancer = balancer_of(3, kv_pressure_gate=0.95, load_stale_s=5.0)
    numbers = iter(range(1000))

    def sent(now: float, count: int = 9) -> set[str]:
        return {balancer.route(request(next(numbers)), now).worker for _ in range(count)}

    told(balancer, 0.0)
    told(balancer, 1.0, None, waiting_requests=4, kv_usage=0.99)
    assert sent(1.0) == {"w1", "w2"}
    for worker in ("w1", "w2"):
        told(balancer, 2.0, None, worker=worker, waiting_requests=4, kv_usage=0.99)
    assert sent(2.0, 30) == {"w0", "w1", "w2"}, "all are full, so somebody must take it"
    told(balancer, 3.0, None, worker="w1", waiting_requests=0, kv_usage=0.5)
    assert sent(3.0) == {"w1"}
    balancer.tick(5.9)
    assert sent(5.9) == {"w1"}
    balancer.tick(7.1)
    assert sent(7.1, 60) == {"w0", "w1", "w2"}, "nobody has told anything for so long"


def test_a_request_for_what_one_worker_keeps_goes_there_under_pressure_too() -> None:
    balancer = balancer_of(2, kv_pressure_gate=0.5)
    told(balancer, 0.0, None, waiting_requests=4, kv_usage=0.99)
    owned = RoutingRequest(1, "m", request(1).blocks, owner="w0")
    assert balancer.route(owned, 1.0).worker == "w0"
    assert balancer.route(request(2), 1.0).worker == "w1"
