"""Which workers serve a model, and which of them may take a request now.

Pools are made anew at every change of the fleet, which is rare, so that a request only looks one up. A
worker that declares no models serves any; a request that names none may go anywhere. The names are those
that workers declare: clients cannot make more of them.

Where fewer than `panic_threshold` of a model's workers are healthy, health is not looked at: verdicts on most
of a fleet at once are about the network or the checks as often as about the workers, and the few that are
left would break under the whole of the load.
"""

from __future__ import annotations

from math import inf
from typing import Final

from warmroute_policies.errors import NoWorkers, UnknownModel
from warmroute_policies.fleet import Fleet
from warmroute_policies.values import Frozen

UNDECLARED: Final = "*"
"""The line of all models that no worker declares."""


class Pool(Frozen, frozen=True, gc=False):
    """The workers that serve one model."""

    serving: tuple[int, ...]
    eligible: tuple[int, ...]
    """Those of them that may take a request: not draining, and healthy unless the pool panics. Ascending."""
    kinds: tuple[int, ...]
    """Of these, one of each kind (`Fleet.kinds`)."""
    gate_s: list[float]
    """By slot: 0.0 where eligible, else `inf`."""
    engine_block_tokens: int
    """The smallest page of their caches."""
    panics: bool
    """Too few of them are healthy, so that health is ignored."""


class Pools:
    """State: a pool per declared model, and one for names that only undeclared workers may serve."""

    def __init__(self, fleet: Fleet, panic_threshold: float = 0.0) -> None:
        self._panic_threshold = panic_threshold
        self.by_model: dict[str, Pool] = {}
        self._undeclared: Pool
        self.rebuild(fleet)

    def models(self) -> tuple[str, ...]:
        """Reads. Every model that some worker declares, sorted."""
        return tuple(sorted(model for model in self.by_model if model))

    def panicking(self) -> tuple[str, ...]:
        """Reads. The models whose workers get requests whether they are healthy or not; an empty name stands
        for all workers together."""
        return tuple([model for model, pool in self.by_model.items() if pool.panics])

    def eligible(self) -> set[int]:
        """Reads. The slots that may take a request of some model."""
        return {slot for pool in self.by_model.values() for slot in pool.eligible}

    def find(self, model: str) -> Pool:
        """Reads. The workers that serve a model. Raises UnknownModel, or NoWorkers when there are none."""
        pool = self.by_model.get(model, self._undeclared)
        if not pool.serving:
            if self.by_model[""].serving:
                raise UnknownModel(model, self.models())
            raise NoWorkers(model, 0)
        return pool

    def line(self, model: str) -> str:
        """Reads. A name for the set of workers that serve a model: the same for all models that only
        undeclared workers serve, so that clients cannot make up more of them."""
        return model if model in self.by_model else UNDECLARED

    def rebuild(self, fleet: Fleet) -> None:
        """Writes. The fleet has changed."""
        threshold = self._panic_threshold
        declared = {slot: spec.models for slot, spec in fleet.slots()}
        undeclared = {slot for slot, models in declared.items() if not models}
        self.by_model = {
            model: _pool(
                fleet, undeclared | {slot for slot, models in declared.items() if model in models}, threshold
            )
            for model in sorted({model for models in declared.values() for model in models})
        }
        self.by_model[""] = _pool(fleet, set(declared), threshold)
        self._undeclared = _pool(fleet, undeclared, threshold)


def _pool(fleet: Fleet, slots: set[int], panic_threshold: float) -> Pool:
    serving = tuple(sorted(slots))
    staying = tuple(slot for slot in serving if not fleet.draining[slot])
    eligible = tuple(slot for slot in staying if fleet.healthy[slot])
    panics = len(eligible) < panic_threshold * len(staying)
    if panics:
        eligible = staying
    gate_s = [inf] * len(fleet.specs)
    for slot in eligible:
        gate_s[slot] = 0.0
    pages = [fleet.spec(slot).engine_block_tokens for slot in serving]
    return Pool(serving, eligible, fleet.kinds(eligible), gate_s, min(pages, default=1), panics)
