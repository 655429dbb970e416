"""An engine's cache and what it publishes of it, without sockets: the truth that knowledge is compared with.

It behaves as vLLM and SGLang do: blocks are named by a hash chain of the engine's own, stored once for every
physical block, removed once for each; a prompt's tail goes before its head; batches are numbered and some of
them kept.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from warmroute_policies.blocks import unpack_ids
from warmroute_policies.known import Tier
from warmroute_policies.kv_blocks import chain, pack_tokens, root_of

Dialect = Literal["vllm", "sglang", "vllm arrays", "sglang arrays", "vllm bytes"]

DIALECTS: tuple[Dialect, ...] = ("vllm", "sglang", "vllm arrays", "sglang arrays", "vllm bytes")

_MEDIA = {
    "vllm": ("GPU", "CPU", "STORAGE", "EXTERNAL"),
    "sglang": ("GPU", "CPU_PINNED", "DISK", "EXTERNAL"),
}


class KvEngine:
    """State: blocks by their hashes, what was published, what the next batch tells."""

    def __init__(
        self, dialect: Dialect = "vllm", *, block_tokens: int = 16, rank: int | None = 0, kept: int = 10_000
    ) -> None:
        self.dialect, self.block_tokens, self.rank = dialect, block_tokens, rank
        self._media = _MEDIA[dialect.split()[0]]
        self.next_seq = 0
        self.kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self.held: Counter[tuple[bytes, int]] = Counter()
        """References by hash and tier."""
        self.own_ids: dict[bytes, int] = {}
        self._stored: list[list[tuple[bytes, int]]] = []
        """By prompt: what it made the engine store, and where."""
        self._events: list[Any] = []

    # --- what happens in it -------------------------------------------------------------------------

    def prompt(
        self,
        tokens: Sequence[int],
        *,
        tier: int = 0,
        salt: str | None = None,
        lora: str | None = None,
        again: bool = False,
    ) -> int:
        """Computes a prompt: its blocks behind the first one that is missing are stored, or all of them once
        more (`again`). Returns how many."""
        size = self.block_tokens
        whole = len(tokens) // size
        hashes = self._hashes(tokens, whole, salt, lora)
        at = 0
        while not again and at < whole and self._holds(hashes[at]):
            at += 1
        if at == whole:
            return 0
        parent = hashes[at - 1] if at else None
        self._events.append(
            self._stored_event(hashes[at:], parent, tokens[at * size : whole * size], tier, salt, lora)
        )
        own = unpack_ids(chain(root_of(lora, salt), pack_tokens(tokens), size))
        for block, own_id in zip(hashes, own, strict=True):
            self.own_ids[block] = own_id
        for block in hashes[at:]:
            self.held[block, tier] += 1
        self._stored.append([(block, tier) for block in hashes[at:]])
        return whole - at

    def evict(self, count: int, chance: random.Random) -> None:
        """Lets go of blocks, tails of prompts first."""
        gone: list[tuple[bytes, int]] = []
        for _ in range(count):
            if self._stored:
                at = chance.randrange(len(self._stored))
                gone.append(self._stored[at].pop())
                if not self._stored[at]:
                    del self._stored[at]
        for block, tier in gone:
            self.held[block, tier] -= 1
        self.held += Counter()
        for tier in sorted({tier for _, tier in gone}):
            names = [self._name(block) for block, where in gone if where == tier]
            one_each = [[name] for name in names] if self.dialect.startswith("vllm") else [names]
            self._events += [self._event("BlockRemoved", hashes, tier) for hashes in one_each]

    def clear(self) -> None:
        self.held.clear()
        self._stored.clear()
        self._events.append(
            ["AllBlocksCleared"] if self.dialect.endswith("arrays") else {"type": "AllBlocksCleared"}
        )

    def tell(self, *events: Any) -> None:
        """Any event at all."""
        self._events += events

    def batch(self) -> tuple[int, bytes]:
        """What happened since the last one: number and payload."""
        payload = msgspec.msgpack.encode([time.time(), self._events, self.rank])
        self._events = []
        numbered = self.next_seq, payload
        self.kept.append(numbered)
        self.next_seq += 1
        return numbered

    def restart(self) -> None:
        """Another process: nothing is left."""
        self.next_seq = 0
        self.kept.clear()
        self.held.clear()
        self._stored.clear()
        self._events = []

    # --- what is true ---------------------------------------------------------------------------------

    def blocks(self) -> dict[str, int]:
        """Blocks by tier, as `GET /workers` names them."""
        counts = Counter(Tier(tier).name.lower() for _, tier in self.held)
        return {tier.name.lower(): counts[tier.name.lower()] for tier in Tier}

    def ids(self) -> list[set[int]]:
        """The router's own ids of what is held, by tier."""
        return [{self.own_ids[block] for block, where in self.held if where == tier} for tier in Tier]

    def fingerprint(self) -> str:
        total = sum(self.own_ids[block] * (2 * tier + 1) for block, tier in self.held)
        return f"{total * (2 * (self.rank or 0) + 1) % (1 << 64):016x}"

    # --- how it is said ---------------------------------------------------------------------------------

    def _holds(self, block: bytes) -> bool:
        return any(self.held[block, tier] for tier in Tier)

    def _hashes(self, tokens: Sequence[int], whole: int, salt: str | None, lora: str | None) -> list[bytes]:
        before, size = repr((salt, lora)).encode(), self.block_tokens
        hashes = []
        for number in range(whole):
            block = repr(tokens[number * size : (number + 1) * size]).encode()
            before = hashlib.sha256(before + block).digest()
            hashes.append(before)
        return hashes

    def _name(self, block: bytes) -> int | bytes:
        if self.dialect == "vllm bytes":
            return block
        if self.dialect.startswith("vllm"):
            return int.from_bytes(block[-8:], "big")
        return int.from_bytes(block[:8], "big", signed=True)

    def _stored_event(
        self,
        hashes: list[bytes],
        parent: bytes | None,
        tokens: Sequence[int],
        tier: int,
        salt: str | None,
        lora: str | None,
    ) -> Any:
        names = [self._name(block) for block in hashes]
        before = None if parent is None else self._name(parent)
        medium, size = self._media[tier], self.block_tokens
        keys: list[Any] = [[lora] if lora else None for _ in hashes]
        if salt is not None and parent is None:
            keys[0] = [*(keys[0] or []), salt]
        lora_id = None if lora is None else 1
        if self.dialect == "sglang arrays":
            return ["BlockStored", names, before, list(tokens), size, None, medium]
        if self.dialect == "vllm arrays":
            return ["BlockStored", names, before, list(tokens), size, lora_id, medium, lora, keys, 0]
        event = {
            "type": "BlockStored",
            "block_hashes": names,
            "parent_block_hash": before,
            "token_ids": list(tokens),
            "block_size": size,
            "lora_id": None if self.dialect == "sglang" else lora_id,
            "medium": medium,
        }
        if self.dialect == "sglang":
            return (
                event
                | ({} if salt is None else {"cache_salt": salt})
                | ({} if lora is None else {"lora_name": lora})
            )
        return event | {
            "lora_name": lora,
            "extra_keys": keys,
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        }

    def _event(self, kind: str, names: list[int | bytes], tier: int) -> Any:
        if self.dialect.endswith("arrays"):
            return [kind, names, self._media[tier]]
        return {"type": kind, "block_hashes": names, "medium": self._media[tier]}
