"""Who goes next, who makes way, whose time is over: whatever comes and goes."""

from __future__ import annotations

from functools import partial
from itertools import count
from random import Random

import pytest

from warmroute_policies.admission.pace import RETRY_S_MAX, Pace
from warmroute_policies.admission.queue import Queue, places_between
from warmroute_policies.admission.ticket import Ticket

_numbers = count(1)
WEIGHTS = (16.0, 4.0, 1.0)
HIGH, DEFAULT, LOW = range(3)


def ticket(rank: int = DEFAULT, tenant: str = "t", line: str = "m", **facts: float) -> Ticket:
    number = next(_numbers)
    return Ticket(
        number, line, rank, tenant, 1.0, 1, facts.get("cost", 1.0), float(number),
        facts.get("deadline_at", 1e9), None,
    )  # fmt: skip


def always(_: Ticket) -> bool:
    return True


def in_lines(lines: set[str], one: Ticket) -> bool:
    return one.line in lines


def queue_of(*tickets: Ticket) -> Queue:
    queue = Queue(WEIGHTS)
    for one in tickets:
        queue.add(one)
    return queue


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_ticket_ends_once_and_work_is_never_withheld(seed: int) -> None:
    chance = Random(seed)
    queue, inside, ended, now = Queue(WEIGHTS), dict[int, Ticket](), list[int](), 0.0
    for step in range(4000):
        act, told = chance.random(), f"seed {seed}, step {step}"
        now += 1.0
        if act < 0.45:
            line, tenant = chance.choice("abc"), f"t{chance.randrange(8)}"
            one = ticket(chance.randrange(3), tenant, line, deadline_at=now + chance.uniform(1, 300))
            queue.add(one)
            inside[one.number] = one
        elif act < 0.5:
            one = ticket(deadline_at=now + chance.uniform(1, 300))
            queue.add_again(one)
            inside[one.number] = one
        elif act < 0.8:
            open_lines = set(chance.sample("abcm", chance.randrange(5)))
            taken = queue.pop(partial(in_lines, open_lines))
            could = [one for one in inside.values() if one.line in open_lines]
            assert (taken is not None) == bool(could), told
            if taken is not None:
                assert taken.line in open_lines, told
                assert inside.pop(taken.number) is taken, told
                ended.append(taken.number)
        elif act < 0.9 and inside:
            one = inside.pop(chance.choice(list(inside)))
            queue.leave(one)
            queue.leave(one)
            ended.append(one.number)
        else:
            late = {one.number for one in inside.values() if one.deadline_at <= now}
            assert {one.number for one in queue.expire(now)} == late, told
            for number in late:
                del inside[number]
            ended += late
        assert queue.waiting == len(inside), told
        assert queue.count + queue.again == queue.waiting, told
        for line in "abc":
            assert queue.stands(line) == any(one.line == line for one in inside.values()), told
        assert all(one.waiting for one in inside.values()), told
    assert len(ended) == len(set(ended)) > 1000


@pytest.mark.parametrize("seed", range(10))
def test_no_class_waits_for_more_places_than_is_stated(seed: int) -> None:
    chance = Random(seed)
    weights = chance.choice((WEIGHTS, (5.0, 3.0), (2.0, 1.0, 1.0, 0.5)))
    queue = Queue(weights)
    others = [0] * len(weights)
    left = [0] * len(weights)
    served = [0] * len(weights)
    for _ in range(5000):
        for rank in range(len(weights)):
            if chance.random() < 0.5 and left[rank] < 20:
                queue.add(ticket(rank, chance.choice("xyz"), chance.choice("ab")))
                left[rank] += 1
        one = queue.pop(always)
        if one is None:
            continue
        left[one.rank] -= 1
        served[one.rank] += 1
        for rank in range(len(weights)):
            if rank == one.rank or not left[rank]:
                others[rank] = 0
            else:
                others[rank] += 1
                assert others[rank] <= places_between(weights, rank), f"seed {seed}, class {rank}"
    assert all(served)


def test_classes_that_all_wait_get_places_by_weight() -> None:
    queue = queue_of(*(ticket(rank) for rank in (LOW, DEFAULT, HIGH) for _ in range(500)))
    ranks = [one.rank for one in (queue.pop(always) for _ in range(420)) if one is not None]
    assert [ranks.count(rank) for rank in (HIGH, DEFAULT, LOW)] == [320, 80, 20]


def test_a_higher_class_that_comes_late_goes_first() -> None:
    queue = queue_of(*(ticket(LOW) for _ in range(50)))
    for _ in range(10):
        queue.pop(always)
    queue.add(ticket(HIGH))
    assert [one.rank for one in (queue.pop(always), queue.pop(always)) if one] == [HIGH, LOW]


def test_a_class_whose_workers_had_no_room_saves_no_places_up() -> None:
    queue = queue_of(*(ticket(HIGH, line="full") for _ in range(600)))
    for _ in range(300):
        queue.add(ticket(LOW, line="free"))
        assert queue.pop(lambda one: one.line == "free") is not None
    for _ in range(100):
        queue.add(ticket(LOW, line="full"))
    ranks = [one.rank for one in (queue.pop(always) for _ in range(100)) if one is not None]
    assert ranks.count(LOW) >= 5


def test_a_line_without_room_holds_nobody_up() -> None:
    queue = queue_of(ticket(HIGH, line="full"), ticket(LOW, line="free"))
    one = queue.pop(lambda head: head.line == "free")
    assert one is not None
    assert one.rank == LOW


def test_what_was_let_in_once_goes_before_all_others() -> None:
    queue = queue_of(ticket(HIGH))
    retry = ticket(LOW)
    queue.add_again(retry)
    assert queue.count == 1
    assert queue.pop(always) is retry
    assert not retry.waiting


def test_when_full_the_youngest_of_the_lowest_class_makes_way() -> None:
    queue = queue_of(ticket(LOW), ticket(LOW), ticket(DEFAULT), ticket(HIGH))
    youngest = ticket(LOW)
    queue.add(youngest)
    assert queue.makes_way(DEFAULT, "t") is youngest
    assert queue.makes_way(HIGH, "t") is youngest
    assert queue.makes_way(LOW, "t") is None, "its own class does not"


def test_when_full_a_tenant_with_few_takes_a_place_from_the_one_with_most() -> None:
    flood = [ticket(tenant="flood") for _ in range(5)]
    queue = queue_of(*flood, ticket(tenant="few"))
    assert queue.makes_way(DEFAULT, "few") is flood[-1]
    assert queue.makes_way(DEFAULT, "new") is flood[-1]
    assert queue.makes_way(DEFAULT, "flood") is None


def test_two_tenants_do_not_take_the_same_place_from_each_other_for_ever() -> None:
    queue = queue_of(ticket(tenant="a"), ticket(tenant="a"), ticket(tenant="b"))
    assert queue.makes_way(DEFAULT, "b") is None


def test_deadlines_that_nobody_waits_for_are_forgotten() -> None:
    queue = Queue(WEIGHTS)
    for _ in range(5000):
        queue.add(ticket())
        queue.pop(always)
    assert len(queue._deadlines) < 100


@pytest.mark.parametrize("per_s", [0.5, 3.0, 200.0])
def test_the_pace_is_right_from_the_first_seconds_on(per_s: float) -> None:
    pace = Pace()
    now = 100.0
    for _ in range(int(12 * per_s)):
        now += 1 / per_s
        pace.ended(now)
    assert 0.75 * per_s < pace.per_s(now) < 1.35 * per_s
    assert 1 <= pace.retry_s(int(10 * per_s), now) <= 14


def test_a_wait_is_at_least_a_second_and_has_a_bound() -> None:
    pace = Pace()
    assert pace.retry_s(0, 0.0) == RETRY_S_MAX, "nothing has ended yet"
    for number in range(1000):
        pace.ended(number / 100)
    assert pace.retry_s(0, 10.0) == 1
    assert pace.retry_s(10**9, 10.0) == RETRY_S_MAX
