"""How an engine says what changed in its cache: the events of one batch, as vLLM 0.32 and SGLang 0.5.23 put
them on the wire.

Rules kept here. Blocks have the cache's own keys as their names: unsigned numbers in vLLM's events, signed
ones in SGLang's. An event of stored blocks has the tokens of all of them and the block before the first. vLLM
tells of each block that is gone in an event of its own, SGLang of many in one. A tenant's salt is said as
either says it: beside the prompt's first block, or of each event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from warmroute_simulator.engine import EngineKind
from warmroute_simulator.engine.cache import KeyChange
from warmroute_simulator.serve.tokens import TokenBlocks

MEDIUM: Final = "GPU"
RANK: Final = 0
"""An engine here is one data-parallel rank."""

SEQ_BYTES: Final = 8
END: Final = b"\xff" * SEQ_BYTES
"""Instead of a number: a replay has ended."""

CLEARED: Final[dict[str, Any]] = {"type": "AllBlocksCleared"}

KEPT_BATCHES: Final = 10_000
"""For replay: vLLM's and SGLang's own default."""
HELD_BATCHES: Final = 100_000
"""For one listener that does not keep up: the engines' own default."""

Event = dict[str, Any]


def events_of(kind: EngineKind, changes: Sequence[KeyChange]) -> list[Event]:
    """Reads. What is told of these changes, in their order."""
    name: Callable[[int], int] = _signed if kind == "sglang" else int
    events: list[Event] = []
    for change in changes:
        names = [name(key) for key in change.keys[change.first : change.last]]
        if change.stored:
            events.append(_stored(kind, change, names, name))
        elif kind == "sglang":
            events.append({"type": "BlockRemoved", "block_hashes": names, "medium": MEDIUM})
        else:
            events += [
                {"type": "BlockRemoved", "block_hashes": [one], "medium": MEDIUM, "group_idx": 0}
                for one in names
            ]
    return events


def payload_of(events: list[Event]) -> bytes:
    """Reads the wall clock, as batches carry it. One batch."""
    return msgspec.msgpack.encode([time.time(), events, RANK])


def _stored(kind: EngineKind, change: KeyChange, names: list[int], name: Callable[[int], int]) -> Event:
    keys, first, last = change.keys, change.first, change.last
    assert isinstance(keys, TokenBlocks)  # every request here is given such
    event: Event = {
        "type": "BlockStored",
        "block_hashes": names,
        "parent_block_hash": name(keys[first - 1]) if first else None,
        "token_ids": keys.ids(first, last),
        "block_size": keys.block_tokens,
        "lora_id": None,
        "medium": MEDIUM,
    }
    if kind == "sglang":
        return event | ({"cache_salt": keys.salt} if keys.salt else {})
    extra: list[list[str] | None] = [None] * len(names)
    if keys.salt and not first:
        extra[0] = [keys.salt]
    return event | {
        "lora_name": None,
        "extra_keys": extra,
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }


def _signed(key: int) -> int:
    return key - (1 << 64) if key >> 63 else key
