"""Exact mode on virtual time: simulated engines tell routers what their caches hold, as real ones do.

Rules kept here. What changed at one moment is one batch; a router hears of it after the way through the
network; that a new process began with an empty cache is told by its first batch; a router that comes to know
a worker is told all that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from warmroute_policies.balancer import Balancer
from warmroute_policies.known import BlockChange, Tier
from warmroute_simulator.engine.tree_cache import Change
from warmroute_simulator.simulation.identity import ids_in
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.router import Router
from warmroute_simulator.simulation.worker import SimulatedWorker


class ToldBlocks:
    """State: which process of each worker has told something."""

    def __init__(
        self, workers: Sequence[SimulatedWorker], routers: Sequence[Router], kernel: Kernel, network_s: float
    ) -> None:
        self.sizes = tuple(sorted({worker.config.block_tokens for worker in workers}))
        """Of blocks, in tokens."""
        self._workers = workers
        self._routers = routers
        self._kernel = kernel
        self._network_s = network_s
        self._lives = [worker.lives for worker in workers]
        for worker in workers:
            worker.tell_changes(self.changed)

    def joined(self, worker: SimulatedWorker, router: Router) -> None:
        """Writes. The router has come to know the worker."""
        balancer, size = router.balancer, worker.config.block_tokens
        balancer.know_blocks(worker.worker_id, 0, size, complete=True, now=self._kernel.now)
        self._pass_on(balancer, worker, list(worker.cache.held()), False)

    def changed(self, number: int, changes: list[Change]) -> None:
        """Writes. The worker's engine changed its cache so."""
        worker = self._workers[number]
        began, self._lives[number] = self._lives[number] != worker.lives, worker.lives

        def arrived(_: int) -> None:
            for router in self._routers:
                if worker.worker_id in router.balancer.fleet.slot_of:
                    self._pass_on(router.balancer, worker, changes, began)

        if self._network_s:
            self._kernel.at(self._kernel.now + self._network_s, arrived)
        else:
            arrived(0)

    def _pass_on(
        self, balancer: Balancer, worker: SimulatedWorker, changes: list[Change], began: bool
    ) -> None:
        now = self._kernel.now
        if began:
            balancer.blocks_cleared(worker.worker_id, 0, now)
        told = [
            BlockChange(change.stored, Tier.GPU, ids_in(change.node, change.first, change.last))
            for change in changes
        ]
        balancer.blocks_changed(worker.worker_id, 0, told, now)
