"""Policies that make a study end in ways that none of ours does, and traces that tell when they are read."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from warmroute_policies.policy import Choice, PolicyEvent, View
from warmroute_policies.types import CostShares, RoutingRequest
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Counted:
    """A made-up trace, the same for all seeds or not; a file has a line for every time that it was made."""

    spec: str
    log: Path
    of_seeds: bool = False

    def read(self, seed: int) -> Trace:
        with self.log.open("a") as log:
            log.write(f"{os.getpid()} {self.key(seed)}\n")
        return generate(self.spec, self.key(seed))

    def key(self, seed: int) -> int:
        return seed if self.of_seeds else 0


class _Plain:
    """The first eligible worker, always."""

    name = "plain"

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        return Choice(view.eligible[0], "first")

    def observe(self, event: PolicyEvent, now: float) -> None:
        """Writes nothing."""

    def explain(self, request: RoutingRequest, view: View, now: float) -> list[CostShares]:
        return []


class Stuck(_Plain):
    """Says in a file that it has begun, and in which process, and decides nothing ever after."""

    def __init__(self, marker: str) -> None:
        self.marker = Path(marker)

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        written = self.marker.with_suffix(".part")
        written.write_text(str(os.getpid()))
        written.rename(self.marker)
        while True:
            signal.pause()


class Impatient(_Plain):
    """Ctrl-C comes where `patience` is below `needed`, in this very process."""

    def __init__(self, patience: float = 1.0, needed: float = 0.5) -> None:
        self.patience, self.needed = patience, needed

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        if self.patience < self.needed:
            raise KeyboardInterrupt
        return Choice(view.eligible[0], "first")


class Killed(_Plain):
    """Its process is killed from outside."""

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still here")


class Leaning(_Plain):
    """Keeps to the first worker unless `lean` is small: its best value is known."""

    def __init__(self, lean: float = 0.9, steps: int = 4, bold: bool = False, word: str = "plain") -> None:
        self.lean, self.turn = lean, 0

    def decide(self, request: RoutingRequest, view: View, now: float) -> Choice:
        self.turn += 1
        share = 1 - self.lean
        spread = int(self.turn * share) != int((self.turn - 1) * share)
        slot = view.eligible[self.turn % len(view.eligible)] if spread else view.eligible[0]
        return Choice(slot, "spread" if spread else "first")
