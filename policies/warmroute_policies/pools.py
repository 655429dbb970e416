"""Which workers serve a model, and which of them may take a request now.

Pools are made anew at every change of the fleet, which is rare, so that a request only looks one up. A
worker that declares no models serves any; a request that names none may go anywhere. The names are those
that workers declare: clients cannot make more of them.
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
    """Those of them that may take a request: healthy and not draining. Ascending."""
    kinds: tuple[int, ...]
    """Of these, one of each kind (`Fleet.kinds`)."""
    gate_s: list[float]
    """By slot: 0.0 where eligible, else `inf`."""
    engine_block_tokens: int
    """The smallest page of their caches."""


class Pools:
    """State: a pool per declared model, and one for names that only undeclared workers may serve."""

    def __init__(self, fleet: Fleet) -> None:
        self.by_model: dict[str, Pool] = {}
        self._undeclared: Pool
        self.rebuild(fleet)

    def models(self) -> tuple[str, ...]:
        """Reads. Every model that some worker declares, sorted."""
        return tuple(sorted(model for model in self.by_model if model))

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
        declared = {slot: spec.models for slot, spec in fleet.slots()}
        undeclared = {slot for slot, models in declared.items() if not models}
        self.by_model = {
            model: _pool(fleet, undeclared | {slot for slot, models in declared.items() if model in models})
            for model in sorted({model for models in declared.values() for model in models})
        }
        self.by_model[""] = _pool(fleet, set(declared))
        self._undeclared = _pool(fleet, undeclared)


def _pool(fleet: Fleet, slots: set[int]) -> Pool:
    serving = tuple(sorted(slots))
    eligible = tuple(slot for slot in serving if fleet.healthy[slot] and not fleet.draining[slot])
    gate_s = [inf] * len(fleet.specs)
    for slot in eligible:
        gate_s[slot] = 0.0
    pages = [fleet.spec(slot).engine_block_tokens for slot in serving]
    return Pool(serving, eligible, fleet.kinds(eligible), gate_s, min(pages, default=1))
