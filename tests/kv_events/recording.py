"""What a ledger tells the core, and a world of prompts for engines."""

from __future__ import annotations

import random
from collections.abc import Sequence

from live.kv_engine import KvEngine
from warmroute_policies.blocks import unpack_ids
from warmroute_policies.known import BlockChange, Tier

WORKER = "http://engine:8000"


class RecordingCore:
    """Stands in for the balancer. State: what it was told of each rank, as sets by tier. Fails where it is
    told of a change that is none."""

    def __init__(self) -> None:
        self.lanes: dict[int, list[set[int]]] = {}
        self.complete: dict[int, bool] = {}
        self.block_tokens: dict[int, int] = {}
        self.calls = 0

    def know_blocks(
        self, worker_id: str, rank: int, block_tokens: int, *, complete: bool, now: float
    ) -> None:
        assert worker_id == WORKER
        self.calls += 1
        if self.block_tokens.get(rank) != block_tokens:
            self.lanes[rank] = [set() for _ in Tier]
        self.complete[rank], self.block_tokens[rank] = complete, block_tokens

    def blocks_changed(self, worker_id: str, rank: int, changes: Sequence[BlockChange], now: float) -> None:
        assert changes
        self.calls += 1
        for change in changes:
            held, ids = self.lanes[rank][change.tier], set(unpack_ids(change.ids))
            assert len(ids) * 8 == len(change.ids)
            assert not ids & held if change.stored else ids <= held, "only what changes is told"
            held ^= ids

    def blocks_cleared(self, worker_id: str, rank: int, now: float) -> None:
        self.calls += 1
        self.lanes[rank] = [set() for _ in self.lanes[rank]]

    def doubt_blocks(self, worker_id: str, now: float) -> None:
        self.calls += 1
        self.lanes.clear()
        self.complete.clear()
        self.block_tokens.clear()


def live_a_little(engine: KvEngine, chance: random.Random) -> None:
    """Something happens in the engine: prompts that share beginnings, at times again, and evictions; seldom
    all is cleared."""
    for _ in range(chance.randint(1, 4)):
        what = chance.random()
        if what < 0.65:
            beginning = [chance.randrange(3)] * (engine.block_tokens * chance.randint(0, 3))
            rest = [chance.randrange(5) for _ in range(chance.randint(0, 4 * engine.block_tokens))]
            arrays = engine.dialect == "sglang arrays"
            engine.prompt(
                beginning + rest,
                tier=0 if chance.random() < 0.8 else chance.randrange(len(Tier)),
                salt=None if arrays else chance.choice([None, None, "tenant"]),
                lora=None if arrays else chance.choice([None, None, "adapter"]),
                again=chance.random() < 0.2,
            )
        elif what < 0.98:
            engine.evict(chance.randint(1, 6), chance)
        else:
            engine.clear()
