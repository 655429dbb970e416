"""What of a plan is still to be played, and what is known: read from the store alone.

Knees come first, since loads are shares of them; a cell's runs are asked for as soon as its place's knee is
known, and so are the searches for each policy's own. Whoever plays all that `orders` names and asks again,
until it names nothing, has played the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from routing_lib.factors import Cell, Place
from routing_lib.knees import TYPICAL_LOADS, TYPICAL_LOADS_NEAR, Followed, followed, place_knee
from routing_lib.orders import Order, order_of
from routing_lib.plan import OURS, Plan
from routing_lib.store import Key, Run, Store
from warmroute_simulator.simulation.load import MOST_LOAD
from warmroute_simulator.study.knee import Knee


class Agenda:
    """State: the plan, and the store that grows while it is played."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan = plan
        self.store = store

    def orders(self) -> list[Order]:
        """Reads. What can be played now, each run once."""
        plan = self.plan
        asked: list[Order] = []
        for place in plan.places:
            for policy in plan.references:
                asked += self._of_search(place, policy, plan.seeds[:1], self.reference(place, policy))
        for cell in plan.cells:
            asked += self._of_cell(cell)
        for place in plan.capacity_at:
            for policy in plan.policies:
                own = self.capacity(place, policy)
                if own is not None:
                    asked += self._of_search(place, policy, plan.capacity_seeds, own)
        wanted: dict[Key, Order] = {}
        for order in asked:
            if order.with_bounds or order.key not in wanted:
                wanted[order.key] = order
        return list(wanted.values())

    def left(self) -> float:
        """Reads. About how many requests are still to be simulated, with searches taken to be usual ones."""
        plan = self.plan
        left = 0.0
        for place in plan.places:
            for policy in plan.references:
                left += self._left(place, self.reference(place, policy), 1, TYPICAL_LOADS)
        for cell in plan.cells:
            known = self.load(cell) is not None
            runs = sum(1 for _ in self._of_cell(cell)) if known else len(plan.policies) * len(plan.seeds)
            left += runs * self._requests(cell.place)
        for place in plan.capacity_at:
            for policy in plan.policies:
                own = self.capacity(place, policy)
                left += self._left(place, own, len(plan.capacity_seeds), TYPICAL_LOADS_NEAR)
        return left

    # --- what is known ------------------------------------------------------------------------

    def knee(self, place: Place) -> Knee | None:
        """Reads. Of a place, once the searches of all references are over."""
        found = [self.reference(place, policy) for policy in self.plan.references]
        if any(search.missing for search in found):
            return None
        return place_knee([search.knee for search in found])

    def load(self, cell: Cell) -> float | None:
        """Reads. Of a cell, with four digits, once it is known; None also where no load holds at all."""
        knee = self.knee(cell.place)
        if knee is None or knee.holds is None:
            return None
        return min(float(f"{cell.share * knee.holds:.4g}"), MOST_LOAD)

    def runs(self, cell: Cell, policy: str) -> list[Run]:
        """Reads. By seed; nothing unless all are there."""
        load = self.load(cell)
        if load is None:
            return []
        orders = [self._order(cell.place, load, policy, seed) for seed in self.plan.seeds]
        found = [self.store.get(order.key) for order in orders]
        return [run for run in found if run is not None] if None not in found else []

    def reference(self, place: Place, policy: str) -> Followed:
        """Reads. How far the search for a reference's knee is, with one seed."""
        return followed(lambda load: self._share(place, load, policy, self.plan.seeds[:1]))

    def capacity(self, place: Place, policy: str) -> Followed | None:
        """Reads. How far the search for a policy's own knee is, with several seeds; None before that of the
        place is known."""
        knee = self.knee(place)
        if knee is None:
            return None
        seeds = self.plan.capacity_seeds
        return followed(lambda load: self._share(place, load, policy, seeds), near=knee.holds)

    def at(self, place: Place, load: float, policy: str, seeds: Sequence[int]) -> list[Run]:
        """Reads. The runs of these seeds that are there."""
        found = [self.store.get(self._order(place, load, policy, seed).key) for seed in seeds]
        return [run for run in found if run is not None]

    def used(self) -> list[Run]:
        """Reads. Every run that the plan asked for, once; the store may have those of others."""
        plan = self.plan
        found: dict[Key, Run] = {}
        for place in plan.places:
            for policy in plan.references:
                for load in self.reference(place, policy).tried:
                    found |= {run.key: run for run in self.at(place, load, policy, plan.seeds[:1])}
        for place in plan.capacity_at:
            for policy in plan.policies:
                own = self.capacity(place, policy)
                for load in () if own is None else own.tried:
                    found |= {run.key: run for run in self.at(place, load, policy, plan.capacity_seeds)}
        for cell in plan.cells:
            found |= {run.key: run for policy in plan.policies for run in self.runs(cell, policy)}
        return list(found.values())

    # --- from runs to orders and back -------------------------------------------------------------

    def _of_cell(self, cell: Cell) -> Iterator[Order]:
        load = self.load(cell)
        if load is None:
            return
        for policy in self.plan.policies:
            for seed in self.plan.seeds:
                with_bounds = policy == OURS and seed == self.plan.seeds[0]
                order = self._order(cell.place, load, policy, seed, with_bounds=with_bounds)
                if self.store.get(order.key, with_bounds=with_bounds) is None:
                    yield order

    def _of_search(
        self, place: Place, policy: str, seeds: Sequence[int], search: Followed
    ) -> Iterator[Order]:
        for load in search.missing:
            for seed in seeds:
                order = self._order(place, load, policy, seed)
                if self.store.get(order.key) is None:
                    yield order

    def _left(self, place: Place, search: Followed | None, seeds: int, typical: int) -> float:
        """Requests of a search that is not over."""
        if search is not None and not search.missing:
            return 0.0
        loads = typical if search is None else max(typical - len(search.tried), len(search.missing))
        return loads * seeds * self._requests(place)

    def _share(self, place: Place, load: float, policy: str, seeds: Sequence[int]) -> float | None:
        runs = self.at(place, load, policy, seeds)
        return median(run.goodput_share for run in runs) if len(runs) == len(seeds) else None

    def _order(
        self, place: Place, load: float, policy: str, seed: int, *, with_bounds: bool = False
    ) -> Order:
        factor = self.plan.traces[place.trace]
        return order_of(factor, place, load, policy, seed, with_bounds=with_bounds)

    def _requests(self, place: Place) -> float:
        return self._order(place, 1.0, "", 0).source.requests
