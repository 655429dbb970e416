"""Fair shares between tenants, against a naive model and against the stated bound."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from warmroute_policies.admission.crowd import Crowd
from warmroute_policies.admission.fair import FairLine
from warmroute_policies.admission.ticket import Ticket

_numbers = count(1)


def ticket(tenant: str, cost: float = 1.0, weight: float = 1.0, **facts: float) -> Ticket:
    number = next(_numbers)
    arrived_at = facts.get("arrived_at", float(number))
    return Ticket(number, "m", 0, tenant, weight, 1, cost, arrived_at, 1e9, None)


class NaiveLine:
    """Every tenant's list and virtual time; who is least is searched for each time."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Ticket]] = {}
        self.start: dict[str, float] = {}
        self.since: dict[str, int] = {}
        self.virtual = 0.0
        self.turn = 0

    def add(self, new: Ticket) -> None:
        queue = self.waiting.setdefault(new.tenant, [])
        if not queue and new.tenant not in self.since:
            self.start[new.tenant] = max(self.start.get(new.tenant, self.virtual), self.virtual)
            self.listed(new.tenant)
        queue.append(new)

    def listed(self, tenant: str) -> None:
        self.turn += 1
        self.since[tenant] = self.turn

    def pop(self) -> Ticket:
        for tenant in sorted(self.since, key=lambda name: (self.start[name], self.since[name])):
            del self.since[tenant]
            if self.waiting[tenant]:
                served = self.waiting[tenant].pop(0)
                self.virtual = self.start[tenant]
                self.start[tenant] += served.cost / served.weight
                if self.waiting[tenant]:
                    self.listed(tenant)
                return served
        raise AssertionError("nobody waits")

    def remove(self, one: Ticket) -> None:
        self.waiting[one.tenant].remove(one)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_serves_as_the_naive_one(seed: int) -> None:
    chance = Random(seed)
    line, naive, waiting = FairLine(), NaiveLine(), list[Ticket]()
    for step in range(3000):
        act = chance.random()
        if act < 0.5 or not waiting:
            name = f"t{int(chance.paretovariate(0.6)) % 40}"
            one = ticket(name, chance.choice((1.0, 7.0, 300.0)), 1.0 + (len(name) == 3))
            line.add(one)
            naive.add(one)
            waiting.append(one)
        elif act < 0.85:
            assert line.head().number == naive.pop().number, f"seed {seed}, step {step}"
            waiting.remove(line.pop())
        else:
            one = waiting.pop(chance.randrange(len(waiting)))
            line.remove(one)
            naive.remove(one)
        assert line.count == len(waiting), f"seed {seed}, step {step}"


@pytest.mark.parametrize("seed", range(20))
def test_two_tenants_that_both_wait_differ_by_at_most_a_request_of_each(seed: int) -> None:
    chance = Random(seed)
    line = FairLine()
    weight = {"a": 1.0, "b": chance.choice((1.0, 2.0, 5.0))}
    largest = {"a": 10.0, "b": chance.choice((10.0, 1000.0))}
    served = {"a": 0.0, "b": 0.0}
    left = {"a": 0, "b": 0}
    apart = [0.0]
    for _ in range(2000):
        for name in ("a", "b"):
            while left[name] < 2:
                line.add(ticket(name, chance.uniform(1.0, largest[name]), weight[name]))
                left[name] += 1
        if chance.random() < 0.5:
            line.add(ticket(f"other{chance.randrange(5)}", chance.uniform(1.0, 500.0)))
        for _ in range(chance.randrange(3)):
            one = line.pop()
            if one.tenant in served:
                left[one.tenant] -= 1
                served[one.tenant] += one.cost / one.weight
                apart.append(served["a"] - served["b"])
                if not left[one.tenant]:
                    break
    bound = largest["a"] / weight["a"] + largest["b"] / weight["b"]
    assert len(apart) > 100
    assert max(apart) - min(apart) <= bound * (1 + 1e-9), f"seed {seed}"


def test_a_tenant_with_giant_prompts_gets_no_more_tokens_than_one_with_small_ones() -> None:
    line = FairLine()
    for _ in range(1000):
        line.add(ticket("giant", 100_000.0))
        line.add(ticket("small", 1000.0))
    first = [line.pop().tenant for _ in range(303)]
    assert first.count("giant") in (3, 4)


def test_a_tenant_that_was_away_finds_nothing_saved_up() -> None:
    line = FairLine()
    for _ in range(300):
        line.add(ticket("steady"))
    for _ in range(100):
        line.pop()
    for _ in range(100):
        line.add(ticket("late"))
    turns = [line.pop().tenant for _ in range(20)]
    assert turns.count("steady") == turns.count("late") == 10


def test_requests_that_leave_cost_their_tenant_nothing() -> None:
    line = FairLine()
    for _ in range(10):
        line.add(ticket("other", 10.0))
    gone = [ticket("leaves", 1000.0) for _ in range(5)]
    for one in gone:
        line.add(one)
    for one in gone:
        line.remove(one)
    line.pop()
    line.add(ticket("leaves", 10.0))
    assert "leaves" in (line.pop().tenant, line.pop().tenant)


def test_what_is_remembered_of_tenants_has_a_bound() -> None:
    line = FairLine()
    line.add(ticket("stays", 1e12))
    line.add(ticket("stays", 1e12))
    for number in range(10_000):
        line.add(ticket(f"t{number}", 1e6))
        line.pop()
    assert len(line._flows) < 2500


@pytest.mark.parametrize("seed", range(10))
def test_a_crowd_knows_who_has_most(seed: int) -> None:
    chance = Random(seed)
    crowd, inside = Crowd(), list[Ticket]()
    for step in range(3000):
        if chance.random() < 0.5 or not inside:
            one = ticket(f"t{int(chance.paretovariate(0.8)) % 12}")
            crowd.add(one)
            inside.append(one)
        else:
            crowd.remove(inside.pop(chance.randrange(len(inside))))
        counts = {name: sum(one.tenant == name for one in inside) for name in {o.tenant for o in inside}}
        assert crowd.counts() == counts, f"seed {seed}, step {step}"
        assert crowd.most == max(counts.values(), default=0), f"seed {seed}, step {step}"
        if inside:
            youngest = crowd.youngest_of_most()
            assert counts[youngest.tenant] == crowd.most
            same = [one for one in inside if one.tenant == youngest.tenant]
            assert youngest is same[-1], f"seed {seed}, step {step}"
