"""One run: a trace, a fleet and a policy on virtual time.

A request's way, as in the live router:

    _arrive     the client's request reaches a router, which decides and books
    _dispatch   it travels to the worker and is queued in its engine
    _told       the engine takes it up, gives the first token, ends
    _first_token, _finished     the answer travels back; the router learns, what waited for it may come

Rules kept here. The same trace, configuration and seed give the same records, byte by byte. Chance comes
from generators that are seeded by name, so one more draw of one kind changes nothing of another kind.
Every request of the trace ends in one of the outcomes of `records`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan
from random import Random

from warmroute_policies.balancer import Balancer
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.plugins import load_policy
from warmroute_policies.types import Decision, RoutingRequest, Usage
from warmroute_policies.types import Outcome as Told
from warmroute_simulator.engine import Admitted, Event, Finished, FirstToken
from warmroute_simulator.simulation.arrivals import Arrivals
from warmroute_simulator.simulation.changes import FleetChanges
from warmroute_simulator.simulation.config import RunConfig, Spread
from warmroute_simulator.simulation.identity import blocks_of, token_prompt
from warmroute_simulator.simulation.interrupt import stopping
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.origins import Origins
from warmroute_simulator.simulation.records import Explanation, Outcome, Records
from warmroute_simulator.simulation.router import Router
from warmroute_simulator.simulation.samples import Sampler
from warmroute_simulator.simulation.told import LoadTold
from warmroute_simulator.simulation.told_blocks import ToldBlocks
from warmroute_simulator.simulation.worker import SimulatedWorker
from warmroute_simulator.traces.trace import NO_SESSION, Trace

MODEL = "simulated"
"""A fleet serves one model; the models that a trace names are not told apart."""


def simulate(
    trace: Trace,
    config: RunConfig,
    *,
    progress: Callable[[int], None] | None = None,
    explain: frozenset[int] = frozenset(),
) -> tuple[Records, dict[int, Explanation]]:
    """Runs the trace to its end. Ctrl-C ends it early: records are then marked partial.

    `progress` is told numbers of requests as they end. `explain`: rows whose decisions are explained.
    Raises ConfigError for a policy that cannot be made, ValueError for a trace that cannot be played so.
    """
    simulation = Simulation(trace, config, progress, explain)
    try:
        return simulation.run(), simulation.explanations
    finally:
        simulation.let_go()


class _Flight:
    """A request between its arrival and its end."""

    __slots__ = ("arrived_s", "decision", "first_token", "path", "prompt_tokens", "router", "row", "worker")

    def __init__(
        self, row: int, router: Router, path: list[int], prompt_tokens: int, decision: Decision, now: float
    ) -> None:
        self.row = row
        self.arrived_s = now
        self.router = router
        self.decision = decision
        """The latest one."""
        self.path = path
        """Of the answer: the prompt's nodes, and the answer's if somebody goes on from it."""
        self.prompt_tokens = prompt_tokens
        self.worker = -1
        self.first_token = False


class Simulation:
    """State: the routers, the workers, the requests in flight, and the records that grow."""

    def __init__(
        self,
        trace: Trace,
        config: RunConfig,
        progress: Callable[[int], None] | None,
        explain: frozenset[int],
    ) -> None:
        self.trace = trace
        self.config = config
        self.explanations: dict[int, Explanation] = {}
        self.kernel = Kernel()
        self.records = Records.of(trace, [plan.worker_id for plan in config.fleet])
        self._progress = progress
        self._explain = explain
        self._numbers = {plan.worker_id: number for number, plan in enumerate(config.fleet)}
        self.workers = [
            SimulatedWorker(number, plan.worker_id, plan.engine, trace.tree, self.kernel, self._told)
            for number, plan in enumerate(config.fleet)
        ]
        self._longest = [plan.longest_tokens for plan in config.fleet]
        self.arrivals = Arrivals(
            trace, config.arrivals, Random(f"arrivals {config.seed}"), self.kernel, self._arrive
        )
        self._spread_chance = Random(f"routers {config.seed}")
        self._reasons: dict[str, int] = {}
        self._flights: dict[int, _Flight] = {}
        self._origins = Origins(self.records, self.workers, config.page_tokens)
        self.routers = [self._make_router(number) for number in range(config.routers)]
        self._told_blocks: ToldBlocks | None = None
        if config.kv_events:
            self._told_blocks = ToldBlocks(self.workers, self.routers, self.kernel, config.network_s)

    def _make_router(self, number: int) -> Router:
        policy, config = self.config.policy, self.config.balancer
        error = self.config.price_error
        prices = dict(config.prices)
        for plan in self.config.fleet:
            price = plan.price
            prices[plan.worker_class] = PrefillPrice(error * price.linear_s, error * price.quadratic_s)
        # Replicas draw lots of their own; one router draws those of the live one with that seed.
        seed = Random(f"policy {policy.seed} {number}").getrandbits(32) if number else policy.seed
        made = load_policy(policy.name, policy.params, seed)
        balancer = Balancer(made, replace(config, prices=prices, replicas=self.config.routers))
        return Router(balancer, self.config.resilience, self.kernel)

    def run(self) -> Records:
        """Writes."""
        records, arrivals = self.records, self.arrivals

        def goes_on() -> bool:
            return arrivals.left > 0

        sampler = Sampler(self.workers, self.kernel, goes_on)
        changes = FleetChanges(
            self.config, self.workers, self.routers, self.kernel, self._broke, goes_on, self._joined
        )
        changes.begin(max(self.trace.arrivals_s, default=0.0) / self.config.arrivals.speed)
        signals = self.config.signals
        if signals is not None:
            seed = self.config.seed
            LoadTold(signals, self.workers, self.routers, self.kernel, seed, goes_on).begin()
        arrivals.begin()
        for number in range(len(self.routers)):
            self._tick(number)
        sampler.look()
        try:
            with stopping(self.kernel):
                self.kernel.run()
        except KeyboardInterrupt:
            self.kernel.stopped = True
        if self.kernel.stopped:
            records.partial = True
            for row in self._flights:
                records.outcome[row] = Outcome.UNFINISHED
        records.ended_s = self.kernel.now
        records.totals = [worker.totals() for worker in self.workers]
        records.reasons = list(self._reasons)
        records.samples = sampler.samples
        records.happened = changes.happened
        records.session_started_s = arrivals.session_started_s
        records.session_ended_s = arrivals.session_ended_s
        return records

    def let_go(self) -> None:
        """Writes. What took part in the run calls back into it: the circles end here, and their memory is
        free before the next run begins."""
        for worker in self.workers:
            worker.cache.let_go()
        del self.kernel, self.workers, self.routers, self.arrivals, self._flights, self._origins
        del self._told_blocks

    # --- a request's way ------------------------------------------------------------------------

    def _arrive(self, row: int) -> None:
        trace, records = self.trace, self.records
        records.arrived_s[row] = self.kernel.now
        prompt = trace.prompts[row]
        prompt_tokens, output_tokens = trace.tree.ends[prompt], trace.output_tokens[row]
        if prompt_tokens + output_tokens > max(self._longest):
            self._over(row, Outcome.REFUSED)
            return
        router = self._router_for(row)
        path = trace.tree.path(prompt)
        session, told = trace.sessions[row], self._told_blocks
        request = RoutingRequest(
            row,
            MODEL,
            blocks_of(path, trace.tree.ends),
            prompt_tokens,
            session=None if session == NO_SESSION else str(session),
            exact=None if told is None else token_prompt(path, trace.tree.ends, told.sizes),
        )
        if row in self._explain:
            self._note_explanation(row, router, request)
        decision = router.route(request)
        if decision is None:
            self._over(row, Outcome.FAILED)
            return
        answer = trace.answers[row]
        if answer != prompt:
            path = [*path, answer]
        flight = _Flight(row, router, path, prompt_tokens, decision, self.kernel.now)
        self._flights[row] = flight
        self._dispatch(flight)

    def _dispatch(self, flight: _Flight) -> None:
        records, row, decision = self.records, flight.row, flight.decision
        flight.worker = self._numbers[decision.worker]
        records.attempts[row] = decision.attempt + 1
        records.worker[row] = flight.worker
        records.reason[row] = self._reasons.setdefault(decision.reason, len(self._reasons))
        records.predicted_tokens[row] = decision.predicted_hit_tokens
        records.reusable_tokens[row] = decision.reusable_tokens
        self._travel(flight, self._queue)

    def _queue(self, flight: _Flight) -> None:
        row = flight.row
        worker, output_tokens = self.workers[flight.worker], self.trace.output_tokens[row]
        if not worker.alive:
            self._try_another(flight)
        elif flight.prompt_tokens + output_tokens > self._longest[flight.worker]:
            self._end(flight, Outcome.REFUSED, Told.CLIENT_ERROR, None)
        else:
            worker.submit(row, flight.prompt_tokens, output_tokens, flight.path)

    def _told(self, number: int, events: list[Event]) -> None:
        for event in events:
            flight = self._flights.get(event.request_id)
            if flight is None or flight.worker != number:
                continue
            if isinstance(event, Admitted):
                self._origins.note(event, flight.path, self.workers[number])
            elif isinstance(event, FirstToken):
                self._travel(flight, self._first_token)
            elif isinstance(event, Finished):
                self._travel(flight, self._finished)

    def _travel(self, flight: _Flight, arrive: Callable[[_Flight], None]) -> None:
        """Between router and worker. What is under way when the worker dies never arrives."""
        if not self.config.network_s:
            arrive(flight)
            return
        decision = flight.decision

        def arrived(row: int) -> None:
            if self._flights.get(row) is flight and flight.decision is decision:
                arrive(flight)

        self.kernel.at(self.kernel.now + self.config.network_s, arrived, flight.row)

    def _first_token(self, flight: _Flight) -> None:
        row = flight.row
        flight.first_token = True
        self.records.first_token_s[row] = self.kernel.now
        if self.config.feedback_s:
            self.kernel.at(self.kernel.now + self.config.feedback_s, flight.router.first_token, row)
        else:
            flight.router.first_token(row)

    def _finished(self, flight: _Flight) -> None:
        row, records = flight.row, self.records
        records.finished_s[row] = self.kernel.now
        usage = Usage(flight.prompt_tokens, self.trace.output_tokens[row], records.hit_tokens[row])
        self._end(flight, Outcome.OK, Told.OK, usage)

    def _end(self, flight: _Flight, outcome: Outcome, told: Told, usage: Usage | None) -> None:
        """The request is over for its client; the router's books learn of it now or a little later."""
        del self._flights[flight.row]
        router, decision = flight.router, flight.decision
        if self.config.feedback_s:
            later_s = self.kernel.now + self.config.feedback_s
            self.kernel.at(later_s, lambda _: router.finish(decision, told, usage))
        else:
            router.finish(decision, told, usage)
        self._over(flight.row, outcome)

    def _over(self, row: int, outcome: Outcome) -> None:
        self.records.outcome[row] = outcome
        self.arrivals.ended(row, outcome is Outcome.OK)
        if self._progress is not None:
            self._progress(1)

    def _try_another(self, flight: _Flight) -> None:
        """Its worker failed. Until the first token another one may answer; then the client has seen it."""
        if flight.first_token:
            self.records.first_token_s[flight.row] = nan
            flight.router.failed(flight.decision.worker)
            self._end(flight, Outcome.FAILED, Told.WORKER_ERROR, None)
            return
        decision = flight.router.reroute(flight.decision)
        if decision is None:
            self._end(flight, Outcome.FAILED, Told.WORKER_ERROR, None)
        else:
            flight.decision = decision
            self._dispatch(flight)

    def _give_up(self) -> None:
        """Requests whose time is over: seen once a second, as in the live router."""
        limits, now = self.config.resilience, self.kernel.now
        for flight in list(self._flights.values()):
            waited_s = now - flight.arrived_s
            if waited_s < limits.first_byte_timeout_s:
                return  # those that came later have waited less
            if waited_s > limits.total_timeout_s or not flight.first_token:
                self.workers[flight.worker].abort(flight.row)
                if flight.row in self._flights:  # else it ended at this very moment
                    self.records.first_token_s[flight.row] = nan
                    self._end(flight, Outcome.TIMED_OUT, Told.TIMEOUT, None)

    def _router_for(self, row: int) -> Router:
        if len(self.routers) == 1:
            return self.routers[0]
        session = self.trace.sessions[row]
        if self.config.spread is Spread.SESSION and session != NO_SESSION:
            return self.routers[Random(f"session {session}").randrange(len(self.routers))]
        return self._spread_chance.choice(self.routers)

    def _note_explanation(self, row: int, router: Router, request: RoutingRequest) -> None:
        worker, reason, shares = router.balancer.explain(request, self.kernel.now)
        self.explanations[row] = Explanation(row, worker, reason, shares)

    def _joined(self, worker: SimulatedWorker, router: Router) -> None:
        if self._told_blocks is not None:
            self._told_blocks.joined(worker, router)

    def _broke(self, worker: SimulatedWorker) -> None:
        """Its connections break at once."""
        for flight in [flight for flight in self._flights.values() if flight.worker == worker.number]:
            self._try_another(flight)

    def _tick(self, number: int) -> None:
        pause_s = self.routers[number].tick()
        if number == 0:
            self._give_up()
        if self.arrivals.left:
            self.kernel.at(self.kernel.now + pause_s, self._tick, number)
