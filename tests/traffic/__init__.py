"""Random traffic through a balancer, and a naive count of what must be on its books.

One seed is one course of events: conversations that grow, prompts that share a head, requests without a
prompt, answers with and without usage, failures before the first byte, hedges, workers that come, go, drain,
fall ill, lose their caches and get their slot reused; if asked, engines that report their load. The count is
kept per request, by worker id, and knows nothing of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks, salt_of
from warmroute_policies.errors import NoWorkers, Saturated, UnknownModel
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS
from warmroute_policies.types import Decision, LoadReport, Outcome, RoutingRequest, Usage, WorkerSpec

MODELS = ("alpha", "beta")
PRICE = PRESETS[DEFAULT_PRESET].price
MARKER = "Dr. Ottilie Quackenbush"
"""Text that every prompt holds and no journal may."""
SESSIONS = ("ada@example.org", "grace@example.org", "edsger@example.org")


@dataclass
class Flight:
    """What a request in flight must cost its worker."""

    model: str
    worker: str | None
    """None: on nobody's books."""
    failed: set[str] = field(default_factory=set)
    missing_tokens: int = 0
    prefill_s: float = 0.0
    prefilling: bool = True


class Traffic:
    """State: a balancer, the flights as they must be, and the fleet as it must be."""

    def __init__(
        self,
        balancer: Balancer,
        seed: int,
        streamed: float = 0.8,
        limits: tuple[int | None, ...] = (),
        *,
        reports: bool = False,
    ) -> None:
        self.balancer = balancer
        self.limits = limits
        """Of a worker's requests in flight, one is drawn for each worker; empty: there are none."""
        self.saturated = 0
        """Requests that found all workers full."""
        self.panic_threshold = balancer.config.panic_threshold
        self.streamed = streamed
        """Share of requests whose first token can be seen."""
        self.reports = reports
        """Whether engines tell of their load, of others' requests too."""
        self.chance = Random(seed)
        self.now = 1000.0
        self.flights: dict[int, Flight] = {}
        self.workers: dict[str, WorkerSpec] = {}
        self.unfit: set[str] = set()
        """Workers that are ill or drain."""
        self.last: dict[int, Decision] = {}
        """The last decision for each request in flight."""
        self._ill: set[str] = set()
        self._draining: set[str] = set()
        self._ids = 0
        self._names = 0
        self._conversations = [
            f"{MARKER} says: {head * 300}".encode() for head in ("abc ", "abc ", "xyz ", "long " * 9)
        ]
        for _ in range(4):
            self.add()

    def steps(self, count: int) -> Iterator[None]:
        """Writes. One event after the other; yields after each."""
        moves = (
            [self.route] * 10
            + [self.first_token] * 6
            + [self.finish] * 8
            + [self.reroute] * 3
            + [self.tick, self.health, self.drain]
            + [self.hedge] * 2
            + [self.report] * 4 * self.reports
        )
        for _ in range(count):
            self.now += self.chance.expovariate(20.0)
            if self.chance.random() < 0.03:
                self.chance.choice([self.add, self.remove, self.update, self.forget])()
            else:
                self.chance.choice(moves)()
            yield

    def end(self) -> None:
        """Writes. Finishes everything."""
        for request_id in list(self.flights):
            self.balancer.finish(request_id, Outcome.CANCELLED, None, self.now)
        self.flights.clear()

    # --- requests -----------------------------------------------------------------------------

    def route(self) -> None:
        chance = self.chance
        self._ids += 1
        model = chance.choice(MODELS)
        request = RoutingRequest(
            self._ids,
            model,
            self._prompt(model),
            prompt_tokens=chance.choice([None, None, 700]),
            max_tokens=chance.choice([None, 256]),
            session=chance.choice([None, *SESSIONS]),
            priority=chance.randrange(2),
            stream=chance.random() < self.streamed,
        )
        try:
            decision = self.balancer.route(request, self.now)
        except (NoWorkers, UnknownModel):
            assert not self.eligible(model, set())
            return
        except Saturated:
            self._all_full(model, set())
            return
        self._booked(model, decision, set())

    def reroute(self) -> None:
        request_id = self._any(lambda flight: flight.prefilling)
        if request_id is None:
            return
        flight = self.flights[request_id]
        failed_on = self.last[request_id].worker
        failed = flight.failed | {failed_on}
        try:
            decision = self.balancer.reroute(request_id, self.now)
        except NoWorkers:
            assert not self.eligible(flight.model, failed)
            self.flights[request_id] = Flight(flight.model, None, failed)
            return
        except Saturated:
            self.flights[request_id] = Flight(flight.model, None, failed)
            self._all_full(flight.model, failed)
            return
        assert decision.worker not in failed
        self._booked(flight.model, decision, failed)

    def hedge(self) -> None:
        request_id = self._any(lambda flight: flight.prefilling)
        if request_id is None or request_id < 0 or -request_id in self.flights:
            return
        flight = self.flights[request_id]
        tried = flight.failed | {self.last[request_id].worker}
        try:
            decision = self.balancer.hedge(request_id, -request_id, self.now)
        except Saturated:
            self._all_full(flight.model, tried)
            return
        except NoWorkers:
            assert not self.eligible(flight.model, tried)
            return
        assert decision.request_id == -request_id
        self._booked(flight.model, decision, tried)
        flight.failed = flight.failed | {decision.worker}

    def first_token(self) -> None:
        request_id = self._any(lambda flight: flight.worker is not None)
        if request_id is not None:
            self.balancer.first_token(request_id, self.now)
            self.flights[request_id].prefilling = False

    def finish(self) -> None:
        request_id = self._any(lambda flight: True)
        if request_id is None:
            return
        chance = self.chance
        outcome = chance.choice([Outcome.OK] * 4 + list(Outcome))
        usage = None
        if outcome is Outcome.OK and chance.random() < 0.8:
            n = self.last[request_id].prompt_tokens
            usage = Usage(
                prompt_tokens=chance.choice([None, n, n + 20]),
                completion_tokens=chance.choice([None, 200]),
                cached_tokens=chance.choice([None, 0, n // 32 * 16, max(0, n - 1) // 16 * 16]),
            )
        self.balancer.finish(request_id, outcome, usage, self.now)
        del self.flights[request_id], self.last[request_id]

    # --- the fleet ----------------------------------------------------------------------------

    def add(self) -> None:
        if len(self.workers) >= 8:
            return
        self._names += 1
        # Names come back, so that a removed worker may return.
        spec = self._spec(f"http://w{self._names % 11}")
        if spec.worker_id not in self.workers:
            self.balancer.add_worker(spec, self.now)
            self.workers[spec.worker_id] = spec

    def update(self) -> None:
        worker = self._worker()
        if worker is not None:
            self.workers[worker] = self._spec(worker)
            self.balancer.update_worker(self.workers[worker], self.now)

    def remove(self) -> None:
        worker = self._worker()
        if worker is None:
            return
        self.balancer.remove_worker(worker, self.now)
        del self.workers[worker]
        self._ill.discard(worker)
        self._draining.discard(worker)
        self.unfit.discard(worker)
        for flight in self.flights.values():
            if flight.worker == worker:
                flight.worker = None

    def forget(self) -> None:
        worker = self._worker()
        if worker is not None:
            self.balancer.forget_cache(worker, self.now)

    def report(self) -> None:
        worker, chance = self._worker(), self.chance
        if worker is not None:
            requests = self.in_flight(worker) + chance.choice([0, 0, 1, 9])
            told = LoadReport(
                chance.choice([None, requests]),
                chance.choice([None, requests // 2]),
                chance.choice([None, None, requests * 500]),
                chance.choice([None, chance.random()]),
            )
            self.balancer.report_load(worker, told, self.now - chance.choice([0.0, 0.3, 9.0]), self.now)

    def health(self) -> None:
        self._mark(self._ill, lambda worker, ill: self.balancer.set_health(worker, not ill, self.now))

    def drain(self) -> None:
        self._mark(self._draining, lambda worker, on: self.balancer.drain_worker(worker, on, self.now))

    def tick(self) -> None:
        self.balancer.tick(self.now)

    def eligible(self, model: str, failed: set[str]) -> set[str]:
        """Reads. Who may take a request of the model."""
        staying = {
            worker
            for worker, spec in self.workers.items()
            if worker not in self._draining and (not spec.models or model in spec.models)
        }
        able = staying - self._ill
        return (staying if len(able) < self.panic_threshold * len(staying) else able) - failed

    def in_flight(self, worker: str) -> int:
        """Reads. Requests on its books."""
        return sum(flight.worker == worker for flight in self.flights.values())

    def has_room(self, worker: str) -> bool:
        """Reads. Whether it may have one more."""
        limit = self.workers[worker].max_inflight
        return limit is None or self.in_flight(worker) < limit

    # --- helpers ------------------------------------------------------------------------------

    def _all_full(self, model: str, failed: set[str]) -> None:
        self.saturated += 1
        able = self.eligible(model, failed)
        assert able
        assert not any(self.has_room(worker) for worker in able)

    def _booked(self, model: str, decision: Decision, failed: set[str]) -> None:
        assert decision.worker in self.eligible(model, failed)
        self.flights.pop(decision.request_id, None)  # where it was before it has room again
        assert self.has_room(decision.worker)
        assert decision.attempt == len(failed)
        assert 0 <= decision.predicted_hit_tokens <= decision.reusable_tokens <= decision.prompt_tokens
        self.last[decision.request_id] = decision
        spec = self.workers[decision.worker]
        price = self.balancer.beliefs.learned_prices.price(spec.worker_class)
        missing = decision.prompt_tokens - decision.predicted_hit_tokens
        self.flights[decision.request_id] = Flight(
            model,
            decision.worker,
            failed,
            missing,
            price.seconds(missing, decision.prompt_tokens) / spec.weight,
        )

    def _mark(self, marked: set[str], tell: Callable[[str, bool], None]) -> None:
        worker = self._worker()
        if worker is None:
            return
        on = self.chance.random() < 0.4
        tell(worker, on)
        (marked.add if on else marked.discard)(worker)
        self.unfit = self._ill | self._draining

    def _any(self, fits: Callable[[Flight], bool]) -> int | None:
        ids = [request_id for request_id, flight in self.flights.items() if fits(flight)]
        return self.chance.choice(ids) if ids else None

    def _worker(self) -> str | None:
        return self.chance.choice(sorted(self.workers)) if self.workers else None

    def _spec(self, worker: str) -> WorkerSpec:
        chance = self.chance
        return WorkerSpec(
            worker,
            models=chance.choice([(), MODELS, MODELS[:1]]),
            weight=chance.choice([1.0, 1.0, 2.0]),
            kv_capacity_tokens=chance.choice([None, 4_000, 200_000]),
            max_inflight=chance.choice(self.limits) if self.limits else None,
        )

    def _prompt(self, model: str) -> PromptBlocks:
        chance = self.chance
        if chance.random() < 0.1:
            return NO_BLOCKS
        if chance.random() < 0.1:
            tokens = [chance.randrange(50_000) for _ in range(chance.randrange(1, 600))]
            return PromptBlocks.from_tokens(tokens, salt_of(model))
        which = chance.randrange(len(self._conversations))
        if len(self._conversations[which]) > 40_000:
            self._conversations[which] = f"{MARKER} begins: {chance.random()}".encode() * 20
        if chance.random() < 0.7:
            self._conversations[which] += f"{MARKER} goes on: {chance.random()} ".encode() * chance.randrange(
                30
            )
        return PromptBlocks(self._conversations[which], salt_of(model))
