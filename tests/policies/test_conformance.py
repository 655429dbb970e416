"""The kit passes every built-in policy and catches every broken one, with a sentence that says why."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from math import nan

import numpy as np
import pytest

from warmroute_policies.algorithms.least_requests import LeastRequests
from warmroute_policies.conformance import check_policy
from warmroute_policies.policy import (
    Choice,
    Completed,
    Dispatched,
    FleetChanged,
    Policy,
    PolicyEvent,
    View,
)
from warmroute_policies.registry import available, make_policy
from warmroute_policies.types import CostShares, RoutingRequest


@pytest.mark.parametrize("name", available())
def test_every_built_in_policy_conforms(name: str) -> None:
    def make(seed: int) -> Policy:
        return make_policy(name, {}, seed)

    for seed in range(3):
        check_policy(make, seed)


@pytest.mark.parametrize("inner", [name for name in available() if name != "session_sticky"])
def test_every_built_in_policy_conforms_inside_of_session_sticky(inner: str) -> None:
    check_policy(lambda seed: make_policy("session_sticky", {"inner": inner}, seed))


class Good(LeastRequests):
    """Conforms; the broken ones below differ from it in one thing each."""


class PicksSlotZero(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(0, "first")


class ForgetsThatWorkersFallIll(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        slots = [slot for slot, _ in view.fleet.slots()]
        return Choice(slots[request.request_id % len(slots)], "turn")


class CountsFromTheEnd(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(-1, "last")


class ReturnsASlot(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return view.eligible[0]  # type: ignore[return-value]


class ReasonsInSentences(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(super().decide(request, view, now).slot, "the least busy of all")


class ReasonsWithoutBound(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(super().decide(request, view, now).slot, f"request_{request.request_id}")


class DrawsFromAGenerator(Good):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._chance = random.Random(seed)

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(self._chance.choice(list(view.eligible)), "drawn")


class TurnsWhenAsked(Good):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._asked: dict[int, int] = {}

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        turn = self._asked.setdefault(request.request_id, len(self._asked))  # a dry run takes a turn
        return Choice(view.eligible[turn % len(view.eligible)], "turn")


class ExplainTakesATurn(Good):
    turn = 0

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(view.eligible[self.turn % len(view.eligible)], "turn")

    def observe(self, event: PolicyEvent, now: float) -> None:
        if isinstance(event, Dispatched):
            self.turn += 1

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        self.turn += 1
        return super().explain(request, view, now)


class IgnoresItsSeed(Good):
    made = 0

    def __init__(self, seed: int = 0) -> None:
        type(self).made += 1
        super().__init__(self.made)


class BooksItself(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        choice = super().decide(request, view, now)
        view.fleet.inflight[choice.slot] += 1
        return choice


class DropsHits(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        view.hits.depths.clear()
        return super().decide(request, view, now)


class ExplainWritesToTheGate(Good):
    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        rows = super().explain(request, view, now)
        view.gate_s[0] = 1.0
        return rows


class BooksWhenItObserves(Good):
    view: View | None = None

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        self.view = view
        return super().decide(request, view, now)

    def observe(self, event: PolicyEvent, now: float) -> None:
        if isinstance(event, Dispatched) and self.view is not None:
            self.view.fleet.crowding[event.slot] += 1.0


class NeedsHits(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(max(view.hits, key=lambda slot: view.hits[slot]), "warm")


class RemembersGoneWorkers(Good):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._count: dict[int, int] = {}

    def observe(self, event: PolicyEvent, now: float) -> None:
        if isinstance(event, FleetChanged):
            if event.present:
                self._count.setdefault(event.slot, 0)
            else:
                del self._count[event.slot]
        elif isinstance(event, Completed):
            self._count[event.slot] -= 1  # its worker may be gone


class NeedsUsage(Good):
    def observe(self, event: PolicyEvent, now: float) -> None:
        if isinstance(event, Completed) and event.ok:
            assert event.usage is not None
            assert event.usage.cached_tokens is not None
            _ = event.usage.cached_tokens / 2


class AlwaysTheFirst(Good):
    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        fleet = view.fleet
        return Choice(min(view.eligible, key=lambda slot: fleet.inflight[slot]), "least")


class ExplainsTheEligibleAlone(Good):
    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        return [row for row in super().explain(request, view, now) if row.eligible]


class ExplainsTwice(Good):
    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        return super().explain(request, view, now) * 2


class ExplainsEverybodyAsEligible(Good):
    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        rows = super().explain(request, view, now)
        return [CostShares(r.worker, True, 0.0, r.shares_s, r.predicted_hit_tokens) for r in rows]


class ExplainsNothingAsANumber(Good):
    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        rows = super().explain(request, view, now)
        return [CostShares(r.worker, r.eligible, nan, r.shares_s, r.predicted_hit_tokens) for r in rows]


class HasNoName(Good):
    name = ""


class CannotExplain:
    name = "mute"

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(view.eligible[0], "first")

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""


BROKEN: Mapping[Callable[..., object], str] = {
    PicksSlotZero: r"eligible: decide chose slot 0; eligible were \(1, ",
    ForgetsThatWorkersFallIll: "eligible: decide chose slot",
    CountsFromTheEnd: "eligible: decide chose slot -1",
    ReturnsASlot: "eligible: decide returned 0 in place of a Choice",
    ReasonsInSentences: "eligible: the reason must be one short word",
    ReasonsWithoutBound: "eligible: more than 20 different reasons",
    DrawsFromAGenerator: "repeatable: asked twice",
    TurnsWhenAsked: "read or seeded: .* dry runs",
    ExplainTakesATurn: "read or seeded: .* dry runs|repeatable: ",
    IgnoresItsSeed: "read or seeded: ",
    BooksItself: "read: decide changed the view or the fleet",
    DropsHits: "read: decide changed the view",
    ExplainWritesToTheGate: "read: explain changed the view",
    BooksWhenItObserves: r"read: observe\(Dispatched\) changed the fleet",
    NeedsHits: r"robust: the policy raised ValueError.*one worker",
    RemembersGoneWorkers: "robust: the policy raised KeyError",
    NeedsUsage: "robust: the policy raised AssertionError",
    AlwaysTheFirst: "spread: 400 requests used only slots",
    ExplainsTheEligibleAlone: "explain: rows name",
    ExplainsTwice: "explain: rows name",
    ExplainsEverybodyAsEligible: "explain: .* is marked eligible=True, and is False",
    ExplainsNothingAsANumber: "explain: .* not a number",
    HasNoName: "robust: `name` must be one word",
    CannotExplain: "robust: the policy has no method `explain`",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_policy_is_caught_with_the_rule_that_it_breaks(broken: Callable[..., Policy]) -> None:
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_policy(broken)


def test_the_policy_that_the_broken_ones_derive_from_conforms() -> None:
    check_policy(Good)


def test_a_policy_that_pins_on_purpose_says_so() -> None:
    class Pins(AlwaysTheFirst):
        spreads = False

    check_policy(Pins)


def test_a_policy_may_derive_from_the_interface_count_with_numpy_and_keep_copies_of_events() -> None:
    class Mine(Good, Policy):
        spreads = False

        def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
            load = np.array(view.gate_s) + np.array(view.fleet.inflight)
            slot = np.argmin(load)
            assert view.hits.get(slot, 0) == view.hits.tokens(slot)  # type: ignore[call-overload]
            assert view.fleet.worker_id(slot)
            return Choice(slot, "least")  # type: ignore[arg-type]  # an integer all the same

        def observe(self, event: PolicyEvent, now: float) -> None:
            self.last = copy.deepcopy(event)

    check_policy(Mine)
