"""A small fleet that drives a policy as a balancer drives it, and checks it at every step: the stage of
`conformance`.

Smaller than a balancer on purpose: no index and no beliefs, so that a scene says outright what each worker
holds, and a rule that breaks points at the policy.
"""

from __future__ import annotations

import copy
from math import inf, isnan
from operator import index
from types import NoneType

from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.fleet import Fleet
from warmroute_policies.hits import Hits
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_policies.policy import (
    Choice,
    Completed,
    Dispatched,
    FirstToken,
    FleetChanged,
    Policy,
    PolicyEvent,
    View,
)
from warmroute_policies.sessions import Sessions
from warmroute_policies.types import RoutingRequest, Usage, WorkerSpec

# A reason becomes a metric's label: a word, and a policy has few of them.
_REASON_LENGTH = 40
_REASONS = 20

# Nothing in them can be written.
_VALUES = frozenset({int, float, bool, str, NoneType, WorkerSpec})


class RuleBroken(AssertionError):
    """A policy broke a rule of the list in `conformance`. A type of its own, to be told from assertions
    that the policy itself makes."""


def broken(rule: str, sentence: str) -> RuleBroken:
    """The verdict, rule first."""
    return RuleBroken(f"{rule}: {sentence}")


class World:
    """State: a fleet, its sessions, requests in flight, and the policy under test."""

    def __init__(self, policy: Policy, first_id: int = 1) -> None:
        self.policy = policy
        price = PRESETS[DEFAULT_PRESET].price
        self.fleet = Fleet({}, price)
        self.sessions = Sessions(100)
        self.now = 100.0
        self.reasons: set[str] = set()
        self._next_id = first_id
        self._in_flight: dict[int, tuple[RoutingRequest, int, int]] = {}

    def add(self, name: str, **facts: float) -> None:
        """Writes. A new worker."""
        slot = self.fleet.add(WorkerSpec(f"http://{name}:8000", weight=facts.get("weight", 1.0)), self.now)
        self._observe(FleetChanged(self.fleet.worker_id(slot), slot, True))

    def remove(self, name: str) -> None:
        """Writes. The worker is gone; its requests are off its books and may still end."""
        slot = self.fleet.slot_of[f"http://{name}:8000"]
        for request_id, (request, at, hit) in self._in_flight.items():
            if at == slot:
                self.fleet.release(slot, request_id, self.now)
                self._in_flight[request_id] = (request, -1 - slot, hit)
        worker = self.fleet.worker_id(slot)
        self.fleet.remove(worker)
        self._observe(FleetChanged(worker, slot, False))

    def mark(self, name: str, *, healthy: bool = True, draining: bool = False) -> None:
        """Writes. Health and drain state of a worker."""
        slot = self.fleet.slot_of[f"http://{name}:8000"]
        self.fleet.healthy[slot], self.fleet.draining[slot] = healthy, draining
        self._observe(FleetChanged(self.fleet.worker_id(slot), slot, True))

    def names(self) -> list[str]:
        """Reads. Every worker present."""
        return [worker.removeprefix("http://").removesuffix(":8000") for worker in self.fleet.slot_of]

    def eligible(self) -> tuple[int, ...]:
        """Reads."""
        fleet = self.fleet
        return tuple(s for s, _ in fleet.slots() if fleet.healthy[s] and not fleet.draining[s])

    def request(self, prompt: int | None, blocks: int = 16, session: str | None = None) -> RoutingRequest:
        """Writes the counter of ids. A request with a prompt of that number, or with none."""
        self._next_id += 1
        identity = (
            NO_BLOCKS
            if prompt is None
            else PromptBlocks.from_ids([prompt * 1_000 + i for i in range(1, blocks + 1)])
        )
        return RoutingRequest(self._next_id, "model", identity, session=session)

    def view(self, request: RoutingRequest, hits: dict[int, int] | None = None) -> View:
        """Reads. What the policy may look at, made anew."""
        eligible = self.eligible()
        gate_s = [inf] * len(self.fleet.specs)
        for slot in eligible:
            gate_s[slot] = 0.0
        tokens = max(1, request.blocks.bytes_len // 4)
        session = None if request.session is None else self.sessions.get(request.session)
        kinds = self.fleet.kinds(eligible)
        return View(self.fleet, eligible, kinds, gate_s, Hits.of(hits or {}), tokens, session)

    def decide(self, request: RoutingRequest, hits: dict[int, int] | None = None) -> Choice:
        """Reads. One decision, checked."""
        view = self.view(request, hits)
        before = _copied(_seen(view))
        choice = self.policy.decide(request, view, self.now)
        if not isinstance(choice, Choice):
            raise broken("eligible", f"decide returned {choice!r} in place of a Choice")
        if choice.slot not in view.eligible:
            raise broken(
                "eligible", f"decide chose slot {choice.slot}; eligible were {tuple(self.eligible())}"
            )
        reason: object = choice.reason
        if not isinstance(reason, str) or not reason or len(reason) > _REASON_LENGTH or " " in reason:
            raise broken("eligible", f"the reason must be one short word, not {reason!r}")
        self.reasons.add(reason)
        if len(self.reasons) > _REASONS:
            raise broken("eligible", f"more than {_REASONS} different reasons; they are a metric's labels")
        if _seen(view) != before:
            raise broken("read", "decide changed the view or the fleet's columns")
        again = self.policy.decide(request, view, self.now)
        if again != choice:
            raise broken("repeatable", f"asked twice, decide said slot {choice.slot}, then {again.slot}")
        return choice

    def check_explain(self, request: RoutingRequest, hits: dict[int, int] | None = None) -> None:
        """Reads. The rows for people."""
        view = self.view(request, hits)
        before = _copied(_seen(view))
        rows = self.policy.explain(request, view, self.now)
        if _seen(view) != before:
            raise broken("read", "explain changed the view or the fleet's columns")
        present = sorted(self.fleet.slot_of)
        if sorted(row.worker for row in rows) != present:
            raise broken("explain", f"rows name {[row.worker for row in rows]}, the fleet has {present}")
        for row in rows:
            eligible = self.fleet.slot_of[row.worker] in view.eligible
            if row.eligible is not eligible:
                raise broken("explain", f"{row.worker} is marked eligible={row.eligible}, and is {eligible}")
            if isnan(row.total_s) or any(isnan(share) for share in row.shares_s.values()):
                raise broken("explain", f"{row.worker} has a share that is not a number: {row}")
            if eligible and (row.total_s == inf or inf in row.shares_s.values()):
                raise broken("explain", f"{row.worker} is eligible and has an infinite share: {row}")

    def dispatch(self, request: RoutingRequest, hits: dict[int, int] | None = None) -> int:
        """Writes. Decides and books; the slot."""
        slot = index(self.decide(request, hits).slot)  # numpy's integers are integers
        view = self.view(request, hits)
        hit = view.hits.get(slot, 0)
        self.fleet.book(
            slot,
            request.request_id,
            view.prompt_tokens,
            max(0, view.prompt_tokens - hit),
            self.now,
            seen=request.stream,
        )
        if request.session is not None:
            self.sessions.seen(request.session, self.fleet.worker_id(slot), view.prompt_tokens, self.now)
        self._in_flight[request.request_id] = (request, slot, hit)
        self._observe(Dispatched(request, slot, hit))
        return slot

    def first_token(self, request_id: int) -> None:
        """Writes. The request's prefill is over; nothing happens when its worker is gone."""
        request, slot, _ = self._in_flight[request_id]
        if slot >= 0:
            self.fleet.prefill_done(slot, request_id, self.now)
            self._observe(FirstToken(request, slot, 0.2))

    def finish(self, request_id: int, *, ok: bool, usage: Usage | None = None) -> None:
        """Writes. The request ends; its worker may be gone by now."""
        request, slot, hit = self._in_flight.pop(request_id)
        if slot >= 0:
            self.fleet.release(slot, request_id, self.now)
        self._observe(
            Completed(request, slot if slot >= 0 else -1 - slot, ok, 0.2 if ok else None, hit, usage)
        )

    def in_flight(self) -> list[int]:
        """Reads."""
        return list(self._in_flight)

    def _observe(self, event: PolicyEvent) -> None:
        before = _copied(self.fleet.state())
        self.policy.observe(event, self.now)
        if self.fleet.state() != before:
            raise broken("read", f"observe({type(event).__name__}) changed the fleet's columns")


def _seen(view: View) -> tuple[object, ...]:
    """What a policy may read and not write."""
    return view.fleet.state(), tuple(view.eligible), list(view.gate_s), dict(view.hits), view.session


def _copied(value: object) -> object:
    """To compare with later. `deepcopy` does the same, and most of a check is its look at every number."""
    kind = type(value)
    if kind in _VALUES:
        return value
    if isinstance(value, list | tuple) and kind in (list, tuple):
        return kind([each if type(each) in _VALUES else _copied(each) for each in value])
    if isinstance(value, dict) and kind is dict:
        return {key: _copied(each) for key, each in value.items()}
    return copy.deepcopy(value)
