"""The worker table and the work in flight on each worker, as columns indexed by slot.

Columns and not one object per worker: a policy prices all workers with one comprehension over a few
lists, 4 µs for 64 workers, where reading attributes of 64 objects costs five times that.

Work in flight is this router's own bookkeeping: exact at dispatch, never polled, never stale. What others
have sent to a worker, as far as its engine tells (`foreign`), is added to the columns that rules look at
whenever it is told, so that no decision pays for it; the columns that are the router's own alone say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import Final, SupportsIndex

from warmroute_policies.latency import PrefillPrice
from warmroute_policies.recent import Recent
from warmroute_policies.types import WorkerId, WorkerSpec

# The prefill at the head of a queue is never believed more than this share done before its first token was
# seen. Predictions are too short where engines decode beside it or batch it with the next one, and what is
# sent to a worker in error waits for all of the rest: in simulated fleets 0.95 costs p99 TTFT.
HEAD_DONE_CAP: Final = 0.5


def _check(spec: WorkerSpec) -> None:
    """Refuses what would divide by zero, or turn a price into nan, at some later request."""
    if not (isfinite(spec.weight) and spec.weight > 0):
        raise ValueError(f"weight of {spec.worker_id} must be above 0, not {spec.weight}")
    if not (isfinite(spec.rtt_s) and spec.rtt_s >= 0):
        raise ValueError(f"rtt_s of {spec.worker_id} must not be below 0, and is {spec.rtt_s}")
    if spec.engine_block_tokens < 1:
        raise ValueError(f"engine_block_tokens of {spec.worker_id} must be at least 1")
    if spec.kv_capacity_tokens is not None and spec.kv_capacity_tokens < 1:
        raise ValueError(f"kv_capacity_tokens of {spec.worker_id} must be at least 1, or not given")
    if spec.max_inflight is not None and spec.max_inflight < 1:
        raise ValueError(f"max_inflight of {spec.worker_id} must be at least 1, or not given")


class Fleet:
    """All mutable state: one spec per slot, its flags, and the columns of its work in flight."""

    def __init__(self, prices: dict[str, PrefillPrice], default_price: PrefillPrice) -> None:
        self._prices = prices
        self._default_price = default_price
        self.fresh_share = 0.0
        """Of all that was asked for lately, of any model, what no worker was believed to hold (`reuse`)."""
        self.slot_of: dict[WorkerId, int] = {}
        self.specs: list[WorkerSpec | None] = []
        self.ids: list[WorkerId] = []
        """The ids of the workers; the last one's where a slot is empty."""
        self.healthy: list[bool] = []
        self.draining: list[bool] = []
        self.inflight: list[int] = []
        """Requests dispatched and not finished, and what others have there (`foreign_requests`)."""
        self.max_inflight: list[float] = []
        """How many there may be; `inf`: any number."""
        self.full: set[int] = set()
        """Slots that have as many as they may."""
        self._limited = False
        """Whether any worker ever had a limit: without one nobody looks."""
        self.queued_tokens: list[int] = []
        """Missing prompt tokens of requests whose first token was not seen yet, and `foreign_tokens`."""
        self.queued_prefill_s: list[float] = []
        """Predicted prefill seconds of the router's own among them, the head's progress not yet taken off."""
        self.linear_s: list[float] = []
        """Prefill seconds per missing token, by slot (`PrefillPrice`, divided by the worker's weight)."""
        self.quadratic_s: list[float] = []
        self.rtt_s: list[float] = []
        self.weight: list[float] = []
        """Relative speed, for rules that count requests instead of pricing them."""
        self.kv_capacity_tokens: list[float] = []
        """Believed KV capacity; `inf` while nothing is known."""
        self.alike_capacity_tokens: list[float] = []
        """The median of that over the workers that are declared alike, which prices go by
        (`compare_capacities`)."""
        self.crowding: list[float] = []
        """How much of the KV cache holds what will be asked for again, 0 to 1 (`reuse`)."""
        self.active_tokens: list[int] = []
        """KV that the requests in flight hold and share with nobody: their prompts less what others begin
        with too."""
        self.filled: list[float] = []
        """The same over `alike_capacity_tokens`, at most 1; 0 while that is not known. Requests that find the
        cache full wait for their turn, and the queue counts them already."""
        self.ready_at: list[float] = []
        """When the prefills that wait would be done, others' too, if nothing held them up; `-inf` where none
        waits.
        The queue at a moment is `max(ready_at - now, least_queue_s)`, see `queue_s`."""
        self.least_queue_s: list[float] = []
        """What time alone does not bring the queue below: somebody must see a first token."""
        self.foreign_requests: list[int] = []
        """Requests that others have there, as far as is told; in `inflight` too."""
        self.foreign_tokens: list[int] = []
        """Prompt tokens of others that wait to be computed; in `queued_tokens` too."""
        self.foreign_until: list[float] = []
        """When these are done if nothing holds them up; `-inf` where nothing was told."""
        self.recent: Recent | None = None
        """What the router's own books said lately; None: nobody tells of loads, so nobody asks."""
        self._sees_foreign = False
        """Whether others' work was ever told."""
        self._head_since: list[float] = []
        self._seen_waiting: list[int] = []
        """Of the prefills that wait, how many will show their first token."""
        self._prefills: dict[int, dict[int, tuple[float, int, bool]]] = {}
        """Slot to what waits there in order: request to its seconds, its tokens, and whether its first
        token will be seen. Slots without a prefill are missing."""
        self._holds: dict[int, int] = {}
        """By request in flight: its part of `active_tokens`."""

    # --- workers ------------------------------------------------------------------------------

    def add(self, spec: WorkerSpec, now: float) -> int:
        """Writes. The slot of a new worker; its id must not be present.

        Raises ValueError, before anything is written, when it is or when the spec makes no sense.
        """
        _check(spec)
        if spec.worker_id in self.slot_of:
            raise ValueError(f"worker {spec.worker_id} is already present")
        try:
            slot = self.specs.index(None)
        except ValueError:
            slot = len(self.specs)
            for column in self._columns():
                column.append(None)
        self.specs[slot] = spec
        self.ids[slot] = spec.worker_id
        self.slot_of[spec.worker_id] = slot
        self.healthy[slot] = True
        self.draining[slot] = False
        self.inflight[slot] = 0
        self.queued_tokens[slot] = 0
        self.queued_prefill_s[slot] = 0.0
        known = spec.kv_capacity_tokens
        self.kv_capacity_tokens[slot] = inf if known is None else float(known)
        self.alike_capacity_tokens[slot] = self.kv_capacity_tokens[slot]
        self.crowding[slot] = 0.0
        self.active_tokens[slot] = 0
        self.filled[slot] = 0.0
        self._head_since[slot] = now
        self._seen_waiting[slot] = 0
        self.ready_at[slot] = -inf
        self.least_queue_s[slot] = 0.0
        self.foreign_requests[slot] = 0
        self.foreign_tokens[slot] = 0
        self.foreign_until[slot] = -inf
        if self.recent is not None:
            self.recent.begin(slot, 0, 0, 0, now)
        self._reprice(slot)
        self._limit(slot, spec)
        return slot

    def replace(self, spec: WorkerSpec) -> int:
        """Writes. New declared facts for a worker that is present; work in flight stays.

        Raises KeyError when it is not present, ValueError when the spec makes no sense.
        """
        _check(spec)
        slot = self.slot_of[spec.worker_id]
        self.specs[slot] = spec
        self._reprice(slot)
        self._limit(slot, spec)
        return slot

    def remove(self, worker_id: WorkerId) -> int:
        """Writes. Frees the slot; the caller has ended or forgotten its requests."""
        slot = self.slot_of.pop(worker_id)
        self.specs[slot] = None
        self.healthy[slot] = False
        self._prefills.pop(slot, None)
        self.full.discard(slot)
        if self.recent is not None:
            self.recent.end(slot)
        return slot

    def slots(self) -> list[tuple[int, WorkerSpec]]:
        """Reads. Slot and spec of every worker present."""
        return [(slot, spec) for slot, spec in enumerate(self.specs) if spec is not None]

    def spec(self, slot: SupportsIndex) -> WorkerSpec:
        """Reads. The worker in a slot that is not empty."""
        spec = self.specs[slot]
        assert spec is not None, f"slot {slot} is empty"
        return spec

    def worker_id(self, slot: SupportsIndex) -> WorkerId:
        """Reads."""
        return self.spec(slot).worker_id

    def kinds(self, slots: Sequence[int]) -> tuple[int, ...]:
        """Reads. One slot of each kind among these: who has its class, weight and round trip has its prices,
        now and after every change of prices."""
        first: dict[tuple[str, float, float], int] = {}
        for slot in slots:
            spec = self.spec(slot)
            first.setdefault((spec.worker_class, spec.weight, spec.rtt_s), slot)
        return tuple(first.values())

    def set_price(self, worker_class: str, price: PrefillPrice) -> None:
        """Writes. A new price for a class and its workers, present and to come; what is booked already
        keeps the seconds it was booked with."""
        self._prices[worker_class] = price
        for slot, spec in self.slots():
            if spec.worker_class == worker_class:
                self._reprice(slot)

    def _reprice(self, slot: int) -> None:
        spec = self.spec(slot)
        price = self._prices.get(spec.worker_class, self._default_price)
        self.linear_s[slot] = price.linear_s / spec.weight
        self.quadratic_s[slot] = price.quadratic_s / spec.weight
        self.rtt_s[slot] = spec.rtt_s
        self.weight[slot] = spec.weight

    def _limit(self, slot: int, spec: WorkerSpec) -> None:
        """Writes. How many requests the slot may have."""
        if spec.max_inflight is not None:
            self._limited = True
        self.max_inflight[slot] = inf if spec.max_inflight is None else float(spec.max_inflight)
        self._measure_room(slot)

    def _measure_room(self, slot: int) -> None:
        """Writes. `full`, after a request came or went or the limit changed."""
        if self.own_inflight(slot) >= self.max_inflight[slot]:
            self.full.add(slot)
        else:
            self.full.discard(slot)

    def state(self) -> tuple[object, ...]:
        """Reads. All that can be written, to compare or to copy."""
        return (
            *self._columns(), self.fresh_share, self.slot_of, self._prefills, self._holds, self._prices,
            self.full,
        )  # fmt: skip

    def _columns(self) -> tuple[list, ...]:  # type: ignore[type-arg]
        return (
            self.specs, self.ids, self.healthy, self.draining, self.inflight, self.queued_tokens,
            self.queued_prefill_s, self.linear_s, self.quadratic_s, self.rtt_s, self.weight,
            self.kv_capacity_tokens, self.alike_capacity_tokens, self.crowding, self.ready_at,
            self.least_queue_s, self._head_since, self.active_tokens, self.filled, self._seen_waiting,
            self.max_inflight, self.foreign_requests, self.foreign_tokens, self.foreign_until,
        )  # fmt: skip

    # --- work in flight -----------------------------------------------------------------------

    def prefill_seconds(self, slot: SupportsIndex, missing_tokens: int, prompt_tokens: int) -> float:
        """Reads. Predicted prefill time of the missing tokens at the end of the prompt."""
        quadratic = self.quadratic_s[slot] * (prompt_tokens - missing_tokens / 2)
        return missing_tokens * (self.linear_s[slot] + quadratic)

    def own_inflight(self, slot: int) -> int:
        """Reads. Requests that this router has in flight there."""
        return self.inflight[slot] - self.foreign_requests[slot]

    def waiting(self, slot: int) -> int:
        """Reads. Requests in flight there whose prefill is not over."""
        return len(self._prefills.get(slot, ()))

    def book(
        self,
        slot: int,
        request_id: int,
        prompt_tokens: int,
        missing_tokens: int,
        now: float,
        *,
        seen: bool = True,
    ) -> None:
        """Writes. A request was dispatched to the slot. `seen`: its first token will be reported; else
        its prefill is taken to be done when it should be."""
        prefill_s = missing_tokens * (
            self.linear_s[slot] + self.quadratic_s[slot] * (prompt_tokens - missing_tokens / 2)
        )
        self.inflight[slot] += 1
        if self._limited:
            self._measure_room(slot)
        self.queued_tokens[slot] += missing_tokens
        self.queued_prefill_s[slot] += prefill_s
        self._seen_waiting[slot] += seen
        prefills = self._prefills.get(slot)
        if prefills is None:
            self._prefills[slot] = {request_id: (prefill_s, missing_tokens, seen)}
            self._head_since[slot] = now
            self.ready_at[slot] = now + prefill_s
            self.least_queue_s[slot] = prefill_s * (1.0 - HEAD_DONE_CAP) if seen else 0.0
        else:
            prefills[request_id] = (prefill_s, missing_tokens, seen)
            self._measure(slot, prefills)
        if self._sees_foreign:
            self._beside_others(slot, now)

    def hold(self, slot: int, request_id: int, own_tokens: int) -> None:
        """Writes. A request booked on the slot holds so many tokens of KV that it shares with nobody."""
        self._holds[request_id] = own_tokens
        self.active_tokens[slot] += own_tokens
        self._fill(slot)

    def prefill_done(self, slot: int, request_id: int, now: float) -> None:
        """Writes. The request's first token was seen, or it ended without one. Twice is once."""
        prefills = self._prefills.get(slot)
        if prefills is None or request_id not in prefills:
            return
        was_head = next(iter(prefills)) == request_id
        work = prefills.pop(request_id)
        if prefills:
            if was_head:
                self._head_since[slot] = now
            self.queued_tokens[slot] -= work[1]
            self.queued_prefill_s[slot] -= work[0]
            self._seen_waiting[slot] -= work[2]
            self._measure(slot, prefills)
        else:
            del self._prefills[slot]
            self._seen_waiting[slot] = 0
            self.queued_tokens[slot] = self.foreign_tokens[slot]
            self.queued_prefill_s[slot] = 0.0  # exact again: sums of floats drift
            self.ready_at[slot] = -inf
            self.least_queue_s[slot] = 0.0
        if self._sees_foreign:
            self._beside_others(slot, now)

    def release(self, slot: int, request_id: int, now: float) -> None:
        """Writes. A request booked on the slot ended."""
        self.inflight[slot] -= 1
        if self._limited:
            self._measure_room(slot)
        self.active_tokens[slot] -= self._holds.pop(request_id, 0)
        self._fill(slot)
        if slot in self._prefills:
            self.prefill_done(slot, request_id, now)
        if self._sees_foreign:
            self._beside_others(slot, now)

    def watch_own(self, now: float) -> Recent:
        """Writes. From now on what the books say is remembered for some seconds."""
        self.recent = recent = Recent()
        self._sees_foreign = True
        for slot, _ in self.slots():
            recent.begin(slot, *self._own(slot), now)
        return recent

    def set_foreign(self, slot: int, requests: int, tokens: int, queue_s: float, now: float) -> None:
        """Writes. What others have there from now on: so many requests, and so many prompt tokens that wait
        and take so long."""
        self._sees_foreign = True
        self.inflight[slot] += requests - self.foreign_requests[slot]
        self.foreign_requests[slot] = requests
        self.queued_tokens[slot] += tokens - self.foreign_tokens[slot]
        self.foreign_tokens[slot] = tokens
        self.foreign_until[slot] = now + queue_s if queue_s > 0.0 else -inf
        self._queue_others(slot, now)

    def _beside_others(self, slot: int, now: float) -> None:
        """Writes. The router's own books of a slot have changed, where others' work is told as well."""
        if self.recent is not None:
            self.recent.note(slot, *self._own(slot), now)
        self._queue_others(slot, now)

    def _own(self, slot: int) -> tuple[int, int, int]:
        """Reads. Own requests in flight, those of them whose prefill is not over, and the tokens that these
        miss."""
        return (
            self.own_inflight(slot),
            self.waiting(slot),
            self.queued_tokens[slot] - self.foreign_tokens[slot],
        )

    def _queue_others(self, slot: int, now: float) -> None:
        """Writes. `ready_at`: the own queue, and what is left of the others'. The engine works on both; which
        comes first is not known, and does not change how long a new request waits for all of them."""
        ready = self._head_since[slot] + self.queued_prefill_s[slot] if slot in self._prefills else -inf
        left = self.foreign_until[slot] - now
        if left > 0.0:
            ready = max(ready, now + self.least_queue_s[slot]) + left
        self.ready_at[slot] = ready

    def _fill(self, slot: int) -> None:
        """Writes. `filled`, after a request came or went or the capacity changed."""
        share = self.active_tokens[slot] / self.alike_capacity_tokens[slot]
        self.filled[slot] = min(1.0, share)

    def compare_capacities(self) -> None:
        """Writes. `alike_capacity_tokens`: workers of one class that declare the same capacity share the
        median of their beliefs, of an even number the upper one. To be called about once a second.

        A belief is corrected when an answer happens to tell, sooner on one worker than on another. Prices
        by each worker's own belief would send all new work to whoever is corrected last.
        """
        alike: dict[tuple[str, int | None], list[int]] = {}
        for slot, spec in self.slots():
            alike.setdefault((spec.worker_class, spec.kv_capacity_tokens), []).append(slot)
        for slots in alike.values():
            known = sorted(self.kv_capacity_tokens[slot] for slot in slots)
            for slot in slots:
                self.alike_capacity_tokens[slot] = known[len(known) // 2]
                self._fill(slot)

    def queue_s(self, now: float) -> list[float]:
        """Reads. By slot: seconds of prefill before a new request, progress taken off.

        A new list, the caller's to change. The head is credited the time since it became the head, at
        most `HEAD_DONE_CAP` of its work; those behind it have not begun. A head whose first token nobody
        will see makes way for the next one when its time is over.
        """
        return [
            max(ready - now, least) for ready, least in zip(self.ready_at, self.least_queue_s, strict=True)
        ]

    def shortest_queue_s(self, eligible: Sequence[int], now: float) -> float:
        """Reads. The least of `queue_s` over these slots."""
        if len(self._prefills) < len(eligible) and not self._sees_foreign:
            return 0.0  # somebody is idle, as most of the time in most fleets
        ready, least, shortest = self.ready_at, self.least_queue_s, inf
        for slot in eligible:
            queue = max(ready[slot] - now, least[slot])
            if queue < shortest:
                shortest = queue
        return shortest

    def _measure(self, slot: int, prefills: dict[int, tuple[float, int, bool]]) -> None:
        """Writes. When the queue would be empty, and how far time alone can bring it down."""
        queued = self.queued_prefill_s[slot]
        self.ready_at[slot] = self._head_since[slot] + queued
        if not self._seen_waiting[slot]:
            self.least_queue_s[slot] = 0.0
            return
        for prefill_s, _, seen in prefills.values():
            if seen:
                queued -= prefill_s * HEAD_DONE_CAP
                break
            queued -= prefill_s
        self.least_queue_s[slot] = queued

    def tick(self, now: float) -> None:
        """Writes. Lets unseen prefills pass; to be called about once a second."""
        for slot, prefills in list(self._prefills.items()):
            self._pass_unseen(slot, prefills, now)

    def _pass_unseen(self, slot: int, prefills: dict[int, tuple[float, int, bool]], now: float) -> None:
        """Takes heads off the queue whose time is over and whose first token nobody will see."""
        while prefills:
            request_id, (prefill_s, _, seen) = next(iter(prefills.items()))
            over_at = self._head_since[slot] + prefill_s
            if seen or now < over_at:
                break
            self.prefill_done(slot, request_id, over_at)
