"""What one data-parallel rank's cache holds, kept by what its engine tells.

An engine names a block by a hash of its own, and tells with every new block the token ids in it and the block
before. So each hash is given the router's own id once (`kv_blocks`), and is known by it from then on. The
core is told of ids: which came to a tier, which left it.

    blocks   engine's hash ──► own id (64 bits) │ external (16) │ disk (16) │ host (16) │ GPU (16)

The four counts are references: an engine may hold a block several times, stores it once for each and removes
it once for each; only the first and the last of these are changes. One integer per block, since all of an
engine's blocks are here: 150 bytes each with its key and its place in the table.

Rules kept. Events are applied in their order. What is removed and was never seen is passed over: it came
before the stream was joined. A block whose parent is not known cannot be identified; it is counted, and the
rank is not whole any more: it holds more than is known. What is in no place of its own in the cache of every
request with that prefix is left out: other groups of a hybrid model's layers, blocks at another node, blocks
that are not full. Nothing that an engine sends raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, final

import msgspec

from warmroute.kv_events.counts import Counts
from warmroute.kv_events.wire import Cleared, Event, Hash, Removed, Stored, key_of
from warmroute_policies.blocks import pack_ids, unpack_ids
from warmroute_policies.known import BlockChange, Tier
from warmroute_policies.kv_blocks import chain, chain_one, pack_tokens, root_of
from warmroute_policies.types import WorkerId

TIERS: Final = {
    None: Tier.GPU,
    "GPU": Tier.GPU,
    "CPU": Tier.HOST,
    "CPU_PINNED": Tier.HOST,
    "DISK": Tier.DISK,
    "STORAGE": Tier.DISK,
    "EXTERNAL": Tier.EXTERNAL,
}
"""Tiers by the engines' names for them."""

# Layers whose cache of a prefix is all of the prefix. Sliding windows and state spaces keep a part of it.
_STABLE: Final = ("full_attention", "mla_attention", "sink_full_attention")

# A hybrid model has a handful of groups of layers.
_GROUPS_MAX: Final = 64

_COUNT_BITS: Final = 16
_COUNT_MAX: Final = (1 << _COUNT_BITS) - 1
_COUNTS_BITS: Final = _COUNT_BITS * len(Tier)
_COUNTS: Final = (1 << _COUNTS_BITS) - 1

_PRINT_MASK: Final = (1 << 64) - 1


class Core(Protocol):
    """What is told of caches: the part of a `Balancer` that is."""

    def know_blocks(
        self, worker_id: WorkerId, rank: int, block_tokens: int, *, complete: bool, now: float
    ) -> None: ...

    def blocks_changed(
        self, worker_id: WorkerId, rank: int, changes: Sequence[BlockChange], now: float
    ) -> None: ...

    def blocks_cleared(self, worker_id: WorkerId, rank: int, now: float) -> None: ...

    def doubt_blocks(self, worker_id: WorkerId, now: float) -> None: ...


@final
class Ledger:
    """State: the rank's blocks by the engine's hashes, how many each tier holds, and what the core was told.

    The worker must be known to the core whenever a method is called that takes `now`.
    """

    def __init__(
        self,
        worker_id: WorkerId,
        rank: int,
        core: Core,
        counts: Counts,
        block_tokens: int = 0,
        bury: Callable[[dict[int, int]], None] = dict.clear,
    ) -> None:
        """`block_tokens`: as the engine said elsewhere; 0: it did not. `bury` gets the blocks of a cleared
        cache, to be let go of when there is time: a million at once take a tenth of a second."""
        self.worker_id, self.rank = worker_id, rank
        self._core, self._counts, self._bury = core, counts, bury
        self.block_tokens = block_tokens
        self.whole = False
        """Nothing is held but what is known."""
        self.catching_up = False
        """Old batches are being applied: what is known now was true once."""
        self.blocks: dict[int, int] = {}
        self.held = [0] * len(Tier)
        """Blocks by tier."""
        self.fingerprint = 0
        """Equal where the same blocks are held in the same tiers: the ids' sum, each times an odd number for
        its tier, modulo 2**64."""
        self._told: tuple[int, bool] | None = None
        """The size of block and the completeness that the core was told; None: it knows nothing of us."""
        self._group: int | None = None
        self._other_groups: set[int] = set()
        self._changes: list[BlockChange] = []
        self._ids: list[int] = []
        self._kind = (False, 0)

    @property
    def known(self) -> bool:
        """Reads. The core was told of this rank."""
        return self._told is not None

    # --- what the engine tells ------------------------------------------------------------------

    def apply(self, events: Iterable[Event], now: float) -> None:
        """Writes. One batch."""
        for event in events:
            if isinstance(event, Stored):
                self._stored(event, now)
            elif isinstance(event, Removed):
                self._removed(event)
            else:
                assert isinstance(event, Cleared)
                self._counts.events["cleared"] += 1
                self.clear(now)
                self.whole = True
        self.tell(now)

    def clear(self, now: float) -> None:
        """Writes. Nothing is known to be held; the rank's identity and the size of its blocks stay."""
        self._empty()
        if self._told is not None:
            self._core.blocks_cleared(self.worker_id, self.rank, now)

    def forget(self) -> None:
        """Writes. The engine is another, or is doubted, and the core knows that: begins anew."""
        self._told = None
        self._empty()
        self.whole = self.catching_up = False
        self._group, self._other_groups = None, set()

    def tell(self, now: float) -> None:
        """Writes. The core hears what it was not told yet. It hears of a rank once its blocks have a size."""
        complete = self.whole and not self.catching_up
        if self.block_tokens and self._told != (self.block_tokens, complete):
            self._told = self.block_tokens, complete
            self._core.know_blocks(self.worker_id, self.rank, self.block_tokens, complete=complete, now=now)
        self._close_run()
        if self._changes:
            self._core.blocks_changed(self.worker_id, self.rank, self._changes, now)
            self._changes = []

    # --- events -----------------------------------------------------------------------------------

    def _stored(self, event: Stored, now: float) -> None:
        counts = self._counts
        tier = TIERS.get(event.medium)
        hashes, tokens, size = event.block_hashes, event.token_ids, event.block_size
        if tier is None or not hashes or self._is_left_out(event) or self._is_partial(hashes, size):
            counts.events["ignored"] += 1
            return
        counts.events["stored"] += 1
        if size != self.block_tokens:
            self._resized(size, now)
        parent = self._parent(event)
        if parent is None:
            self._unidentified("parent", "a block follows one that was never told of", event)
            return
        if len(tokens) != len(hashes) * size:
            self._unidentified("masked", "an event has other than a block's tokens for each hash", event)
            return
        try:
            packed = pack_tokens(tokens)
        except (TypeError, OverflowError):
            if isinstance(tokens[0], list):
                self._unidentified("pairs", "blocks are of pairs of tokens (EAGLE), not of tokens", event)
            else:
                self._unidentified("tokens", "token ids are no numbers of 32 bits", event)
            return
        ids = self._ids_of(event, parent, packed)
        self._add(hashes, ids, tier)

    def _removed(self, event: Removed) -> None:
        tier = TIERS.get(event.medium)
        if tier is None or event.locality not in (None, "LOCAL") or self._is_other_group(event.group_idx):
            self._counts.events["ignored"] += 1
            return
        self._counts.events["removed"] += 1
        blocks, shift, unknown = self.blocks, _COUNT_BITS * tier, 0
        gone: list[int] = []
        for one in event.block_hashes:
            key = key_of(one)
            before = blocks.get(key)
            count = 0 if before is None else before >> shift & _COUNT_MAX
            if before is None or not count:
                unknown += 1
                continue
            after = before - (1 << shift)
            if after & _COUNTS:
                blocks[key] = after
            else:
                del blocks[key]
            if count == 1:
                gone.append(before >> _COUNTS_BITS)
        self._counts.unknown_removals += unknown
        self._change(False, tier, gone)

    def _add(self, hashes: Sequence[Hash], ids: Sequence[int], tier: Tier) -> None:
        """Writes. Blocks have come to a tier, once more or for the first time."""
        blocks, shift = self.blocks, _COUNT_BITS * tier
        one = 1 << shift
        new: list[int] = []
        for block_hash, own in zip(hashes, ids, strict=True):
            key = key_of(block_hash)
            before = blocks.get(key)
            if before is None:
                blocks[key] = own << _COUNTS_BITS | one
                new.append(own)
            elif before >> _COUNTS_BITS != own:
                self._unidentified("conflict", "one hash stands for two blocks", None)
            else:
                count = before >> shift & _COUNT_MAX
                if not count:
                    new.append(own)
                if count < _COUNT_MAX:
                    blocks[key] = before + one
        self._change(True, tier, new)

    def _change(self, stored: bool, tier: Tier, ids: list[int]) -> None:
        """Writes. What the core is to be told; runs of one kind are told as one."""
        if not ids:
            return
        if (stored, tier) != self._kind:
            self._close_run()
            self._kind = stored, tier
        self._ids += ids
        self.held[tier] += len(ids) if stored else -len(ids)
        part = sum(ids) * (2 * tier + 1)
        self.fingerprint = (self.fingerprint + (part if stored else -part)) & _PRINT_MASK

    def _empty(self) -> None:
        self._bury(self.blocks)
        self.blocks, self.held, self.fingerprint = {}, [0] * len(Tier), 0
        self._changes, self._ids = [], []

    def _close_run(self) -> None:
        if self._ids:
            stored, tier = self._kind
            self._changes.append(BlockChange(stored, tier, pack_ids(self._ids)))
            self._ids = []

    # --- which block it is --------------------------------------------------------------------------

    def _parent(self, event: Stored) -> int | None:
        """What the event's chain goes on from: a block's id, or a root; None: it is not known."""
        if event.parent_block_hash is not None:
            parent = self.blocks.get(key_of(event.parent_block_hash))
            return None if parent is None else parent >> _COUNTS_BITS
        salt = event.salt()
        lora = _lora(event)
        if salt is None and isinstance(event.extra_keys, list) and event.extra_keys:
            salt = _split(event.extra_keys[0], lora, first=True)[0]
        return root_of(lora, None if salt is None else _text(salt))

    def _ids_of(self, event: Stored, parent: int, packed: bytes) -> Sequence[int]:
        """The blocks' own ids. A block with more to it than tokens, such as an image's hash, has one that no
        plain block has."""
        size, extra = event.block_size, event.extra_keys
        if not isinstance(extra, list) or not any(extra):
            return unpack_ids(chain(parent, packed, size))
        lora, at_root = _lora(event), event.parent_block_hash is None
        width = len(packed) // len(event.block_hashes)
        ids: list[int] = []
        for number in range(len(event.block_hashes)):
            keys = extra[number] if number < len(extra) else None
            _, rest = _split(keys, lora, first=at_root and number == 0)
            tokens = packed[number * width : (number + 1) * width]
            if rest:
                parent = chain_one(parent, tokens, msgspec.msgpack.encode(rest))
            else:
                (parent,) = unpack_ids(chain(parent, tokens, size))
            ids.append(parent)
        return ids

    def _is_left_out(self, event: Stored) -> bool:
        """Writes what is learned of groups. Whether the event is about another cache than the prefix's."""
        if event.locality not in (None, "LOCAL"):
            return True
        group, kind = event.group_idx, event.kv_cache_spec_kind
        if not isinstance(group, int):
            return kind is not None and kind not in _STABLE
        if kind is not None and kind not in _STABLE:
            if len(self._other_groups) < _GROUPS_MAX:
                self._other_groups.add(group)
            return True
        if self._group is None:
            self._group = group
        return group != self._group

    def _is_other_group(self, group: Any) -> bool:
        """Whether what was removed is of another group of layers; a removal does not say of what kind."""
        if not isinstance(group, int):
            return False
        return group in self._other_groups or (self._group is not None and group != self._group)

    def _is_partial(self, hashes: Sequence[Hash], size: int) -> bool:
        """Whether it is a block that is not full: those come alone, with the length that they have. Before
        the first event nobody knows better than an engine's page of metrics, which may mean another size."""
        smaller = len(hashes) == 1 and size < self.block_tokens
        return smaller and (bool(self.blocks) or self.block_tokens % size != 0)

    def _resized(self, size: int, now: float) -> None:
        """Writes. The first size that is learned, or another than before: nothing told before fits to it."""
        if self.blocks:
            self._counts.odd(
                "block_size",
                f"blocks have {size} tokens now and had {self.block_tokens}: what was known is forgotten",
            )
            self.clear(now)
            self.whole = False
        self.block_tokens = size

    def _unidentified(self, reason: str, why: str, event: Stored | None) -> None:
        """Writes. Blocks are held that no prompt can be compared with."""
        self._counts.odd(reason, why, 1 if event is None else len(event.block_hashes))
        self.whole = False


def _lora(event: Stored) -> str | None:
    """The adapter's name; engines that tell its number alone have it by that, which no request says."""
    if isinstance(event.lora_name, str) and event.lora_name:
        return event.lora_name
    return None if event.lora_id is None else f"adapter number {_text(event.lora_id)}"


def _split(keys: Any, lora: str | None, *, first: bool) -> tuple[str | None, list[Any]]:
    """The cache salt among a block's extra keys, and what is left beside it and the adapter's name. vLLM
    gives a salt to a prompt's first block alone."""
    rest = list(keys) if isinstance(keys, list) else [] if keys is None else [keys]
    if rest and lora is not None and rest[0] == lora:
        del rest[0]
    salt = next((key for key in rest if isinstance(key, str)), None) if first else None
    if salt is not None:
        rest.remove(salt)
    return salt, rest


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
