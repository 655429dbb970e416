"""The fleet at the beginning, and what happens to it while the run goes on.

What a router learns of it, and when: of a death by the connections that break and by those that it tries, and
after some health checks; of a worker that has come back by health checks or by a request that probes; of a
new worker from its operator, at once; of a slow worker or an emptied cache nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from warmroute_policies.types import WorkerSpec
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.records import Happened
from warmroute_simulator.simulation.router import Router
from warmroute_simulator.simulation.scenario import Happening, Kind
from warmroute_simulator.simulation.worker import SimulatedWorker


class FleetChanges:
    """Plays a scenario. `broke(worker)` is called when a worker has died: its requests must go elsewhere."""

    def __init__(
        self,
        config: RunConfig,
        workers: Sequence[SimulatedWorker],
        routers: Sequence[Router],
        kernel: Kernel,
        broke: Callable[[SimulatedWorker], None],
        goes_on: Callable[[], bool],
        joined: Callable[[SimulatedWorker, Router], None],
    ) -> None:
        """`joined`: called when a router has come to know a worker."""
        self.happened: list[Happened] = []
        """What struck."""
        self._config = config
        self._workers = workers
        self._routers = routers
        self._kernel = kernel
        self._broke = broke
        self._goes_on = goes_on
        self._joined = joined

    def begin(self, span_s: float) -> None:
        """Writes. Tells the routers of the workers that are there, and asks for what is to happen; `span_s`
        is the length of the trace."""
        moments = sorted(self._config.scenario, key=lambda happening: happening.moment(span_s))
        first = {happening.worker: happening.kind for happening in reversed(moments)}
        for number, worker in enumerate(self._workers):
            if first.get(number) is Kind.START:
                worker.die()  # absent until then
            else:
                for router in self._routers:
                    self._add(worker, router)
        for place, happening in enumerate(moments):
            self._kernel.at(happening.moment(span_s), lambda place: self._happen(moments[place]), place)

    def _spec(self, number: int) -> WorkerSpec:
        plan, worker = self._config.fleet[number], self._workers[number]
        return WorkerSpec(
            worker_id=plan.worker_id,
            weight=plan.weight,
            kv_capacity_tokens=max(1, round(worker.capacity_tokens * self._config.capacity_error)),
            engine_block_tokens=plan.engine.block_tokens,
            worker_class=plan.worker_class,
            rtt_s=2 * self._config.network_s,
        )

    def _happen(self, happening: Happening) -> None:
        worker = self._workers[happening.worker]
        what = f"{happening.kind} {worker.worker_id}" + f" ×{happening.factor:g}" * (
            happening.kind is Kind.SLOW
        )
        after = "" if self._goes_on() else ", after the last request had ended"
        self.happened.append(Happened(self._kernel.now, what + after))
        match happening.kind:
            case Kind.DIE if worker.alive:
                self._die(worker)
            case Kind.START if not worker.alive:
                self._start(worker)
            case Kind.SLOW:
                worker.set_pace(happening.factor)
            case Kind.FLUSH if worker.alive:
                worker.flush()
            case Kind.DRAIN | Kind.UNDRAIN:
                for router in self._routers:
                    router.drain(worker.worker_id, happening.kind is Kind.DRAIN)
            case Kind.HEALTHY | Kind.UNHEALTHY:
                for router in self._routers:
                    router.checked(worker.worker_id, happening.kind is Kind.HEALTHY)

    def _add(self, worker: SimulatedWorker, router: Router) -> bool:
        """Writes. False, and nothing happens, when the router knows the worker."""
        added = router.add_worker(self._spec(worker.number))
        if added:
            self._joined(worker, router)
        return added

    def _die(self, worker: SimulatedWorker) -> None:
        worker.die()
        self._broke(worker)
        life, config = worker.lives, self._config.resilience

        def notice(_: int) -> None:
            if not worker.alive and worker.lives == life:
                for router in self._routers:
                    router.checked(worker.worker_id, False)

        self._kernel.at(self._kernel.now + config.health_fall * config.health_interval_s, notice)

    def _start(self, worker: SimulatedWorker) -> None:
        worker.start()
        knowing = [router for router in self._routers if not self._add(worker, router)]
        life, config = worker.lives, self._config.resilience

        def notice(good_checks: int) -> None:
            if not worker.alive or worker.lives != life:
                return
            for router in knowing:
                if good_checks == 1:
                    router.restarted(worker.worker_id)
                else:
                    router.checked(worker.worker_id, True)

        # The first check that is answered also tells that the process is new.
        self._kernel.at(self._kernel.now + config.health_interval_s, notice, 1)
        healthy_s = config.health_rise * config.health_interval_s
        self._kernel.at(self._kernel.now + healthy_s, notice, config.health_rise + 1)
