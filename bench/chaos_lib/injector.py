"""What breaks when: a seeded course of faults, each on one engine for a while, and a note of every one.

Never more than two engines are killed or hung at a time, and every fourth is left alone: a request that is
lost while others could have served it is the router's fault, not the fleet's.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from chaos_lib.fleet import Engine, Fleet

# Kinds, how often each is chosen, and how long it lasts at least and at most. Hangs reach beyond the router's
# time-outs of 4 s and stay below them.
_KINDS = {
    "kill": (3, 0.3, 2.0),
    "hang": (2, 0.3, 6.5),
    "slow": (2, 1.0, 4.0),
    "drain": (2, 0.5, 4.0),
    "policy": (1, 0.0, 0.0),
}

_BROKEN_MAX = 2

# Between two faults, at most.
_GAP_S = 0.8

_SLOW_S = 0.3

_POLICIES = ("cache_aware", "round_robin", "least_requests", "power_of_two", "random")


@dataclass
class Fault:
    """One of them. `ended_at` is 0.0 while it lasts."""

    kind: str
    engine: str
    began_at: float
    ended_at: float = 0.0


@dataclass
class Injector:
    """State: which engines are under a fault, and the notes."""

    fleet: Fleet
    chance: random.Random
    switches: bool
    """Whether the router can be given another policy."""
    faults: list[Fault] = field(default_factory=list)
    _under: dict[int, str] = field(default_factory=dict)
    """Kinds by engine."""

    async def play(self, seconds: float) -> None:
        """Breaks things for so long, then waits until all are whole again."""
        loop = asyncio.get_running_loop()
        until, running = loop.time() + seconds, set[asyncio.Task[None]]()
        while loop.time() < until:
            await asyncio.sleep(self.chance.random() * _GAP_S)
            kind = self.chance.choices(list(_KINDS), [often for often, _, _ in _KINDS.values()])[0]
            number = self.chance.randrange(len(self.fleet.engines))
            _, shortest, longest = _KINDS[kind]
            lasts_s = self.chance.uniform(shortest, longest)
            if kind == "policy":
                await self._switch()
            elif self._may(kind, number):
                task = loop.create_task(self._break(kind, number, lasts_s))
                running.add(task)
                task.add_done_callback(running.discard)
        while running:
            await asyncio.gather(*running)

    def _may(self, kind: str, number: int) -> bool:
        broken = sum(kind in ("kill", "hang") for kind in self._under.values())
        return (
            number not in self._under
            and (number % 4 > 0 or kind == "slow")
            and (kind not in ("kill", "hang") or broken < _BROKEN_MAX)
        )

    async def _break(self, kind: str, number: int, lasts_s: float) -> None:
        engine, loop = self.fleet.engines[number], asyncio.get_running_loop()
        fault = Fault(kind, engine.url, loop.time())
        self.faults.append(fault)
        self._under[number] = kind
        await self._begin(kind, engine)
        await asyncio.sleep(lasts_s)
        await self._end(kind, engine)
        fault.ended_at = loop.time()
        del self._under[number]

    async def _begin(self, kind: str, engine: Engine) -> None:
        match kind:
            case "kill":
                engine.kill()
            case "hang":
                engine.hang()
            case "slow":
                await self.fleet.slow(engine, _SLOW_S)
            case _:
                await self.fleet.drain(engine, draining=True)

    async def _end(self, kind: str, engine: Engine) -> None:
        match kind:
            case "kill":
                await asyncio.to_thread(engine.start)
            case "hang":
                engine.go_on()
            case "slow":
                await self.fleet.slow(engine, 0.0)
            case _:
                await self.fleet.drain(engine, draining=False)

    async def _switch(self) -> None:
        if not self.switches:
            return
        policy = self.chance.choice(_POLICIES)
        now = asyncio.get_running_loop().time()
        await self.fleet.switch(policy)
        self.faults.append(Fault("policy", "", now, now))
