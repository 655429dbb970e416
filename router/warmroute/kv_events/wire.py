"""What engines put on the wire about their caches, read: frames, batches, events. No sockets, no state.

    live      [topic, seq, payload]                  seq: 8 bytes, big-endian, from 0 per process
    replayed  ["", topic, seq, payload]              vLLM, SGLang from 0.5.22 on
              ["", seq, payload]                     SGLang before
    its end   seq is eight bytes ff

A payload is msgpack: `[seconds since 1970, [event, …], rank]`. An event is a map with its name under `type`,
or, from older engines, an array with its name first; fields that newer engines have added at an array's end
are ignored.

Rules kept. What an engine sends is input: it is read or it is `Unreadable`, nothing else comes of it. An
event of a kind that is not known is passed over, and counted. Reading says nothing about what an event means:
that is the ledger's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Annotated, Any, Final, NamedTuple

import msgspec

SEQ_BYTES: Final = 8

# A batch tells of one step of an engine: some ten thousand tokens at 5 bytes, and their blocks. With a block
# per token (SGLang's default) and a whole context in one batch it stays below this.
PAYLOAD_BYTES_MAX: Final = 64 << 20

_END: Final = b"\xff" * SEQ_BYTES

_KEY_MASK: Final = (1 << 64) - 1

# More data-parallel ranks than any engine starts; each has a lane of its own.
_RANK_MAX: Final = 4095

Hash = int | bytes
"""A block's name in its engine: unsigned (vLLM) or signed (SGLang), or vLLM's whole digest."""


class Unreadable(ValueError):
    """What came is no message of an engine; says why."""


class Message(NamedTuple):
    """One batch on its way, not looked into."""

    topic: bytes
    seq: int
    payload: bytes


class Stored(msgspec.Struct, tag_field="type", tag="BlockStored", gc=False):
    """Blocks came to a tier. Fields in vLLM's order. What does not matter here may be anything: it must not
    make the rest unreadable."""

    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: list[Any]
    block_size: Annotated[int, msgspec.Meta(ge=1)]
    lora_id: Any = None
    medium: str | None = None
    lora_name: Any = None
    extra_keys: Any = None
    group_idx: Any = None
    kv_cache_spec_kind: Any = None
    kv_cache_spec_sliding_window: Any = None
    locality: Any = None
    ownership: Any = None
    session_id: Any = None

    def salt(self) -> Any:
        """The cache salt where it has a field of its own, SGLang's; None: nothing is said there."""
        return None


class _StoredMap(Stored, tag="BlockStored", gc=False):
    cache_salt: Any = None

    def salt(self) -> Any:
        return self.cache_salt


class Removed(msgspec.Struct, tag_field="type", tag="BlockRemoved", gc=False):
    """Blocks left a tier."""

    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: Any = None
    locality: Any = None


class Cleared(msgspec.Struct, tag_field="type", tag="AllBlocksCleared", gc=False):
    """The cache is empty."""


class _StoredArray(Stored, array_like=True, tag="BlockStored", gc=False):
    pass


class _RemovedArray(Removed, array_like=True, tag="BlockRemoved", gc=False):
    pass


class _ClearedArray(Cleared, array_like=True, tag="AllBlocksCleared", gc=False):
    pass


Event = Stored | Removed | Cleared


class Batch(NamedTuple):
    """A batch that was read."""

    sent_at_s: float
    """By the engine's clock, seconds since 1970."""
    events: Sequence[Event]
    rank: int | None
    """Of the engine's data-parallel ranks, which one; None: it does not say."""
    skipped: int
    """Events of kinds that are not known."""


class _Envelope(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: msgspec.Raw
    rank: Annotated[int, msgspec.Meta(ge=0, le=_RANK_MAX)] | None = None


class _Tag(msgspec.Struct, gc=False):
    type: str


_envelope: Final = msgspec.msgpack.Decoder(_Envelope).decode
_maps: Final = msgspec.msgpack.Decoder(list[_StoredMap | Removed | Cleared]).decode
_arrays: Final = msgspec.msgpack.Decoder(list[_StoredArray | _RemovedArray | _ClearedArray]).decode
_map: Final = msgspec.msgpack.Decoder(_StoredMap | Removed | Cleared).decode
_array: Final = msgspec.msgpack.Decoder(_StoredArray | _RemovedArray | _ClearedArray).decode
_raws: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_map_tag: Final = msgspec.msgpack.Decoder(_Tag).decode
_array_tag: Final = msgspec.msgpack.Decoder(list[Any]).decode

_KINDS: Final = ("BlockStored", "BlockRemoved", "AllBlocksCleared")

# What decoding raises: msgspec's own error, text that is not UTF-8, nesting without end, a float for an int.
_ODD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


def read_live(frames: Sequence[bytes]) -> Message:
    """A message of a publisher. Raises Unreadable."""
    if len(frames) != 3:
        raise Unreadable(f"a message of {len(frames)} frames instead of 3")
    return Message(frames[0], _seq(frames[1]), frames[2])


def read_replayed(frames: Sequence[bytes]) -> Message | None:
    """A message of a replay; None: its end. Raises Unreadable."""
    if len(frames) not in (3, 4) or frames[0]:
        raise Unreadable(f"a replayed message of {len(frames)} frames instead of 3 or 4")
    if frames[-2] == _END:
        return None
    return Message(frames[1] if len(frames) == 4 else b"", _seq(frames[-2]), frames[-1])


def replay_request(from_seq: int) -> list[bytes]:
    """What asks for all batches from this one on."""
    return [b"", from_seq.to_bytes(SEQ_BYTES, "big")]


def read_batch(payload: bytes) -> Batch:
    """A payload. Raises Unreadable."""
    try:
        envelope = _envelope(payload)
        if not isfinite(envelope.ts):
            raise Unreadable("a time that is none")
        decode: Callable[[msgspec.Raw], Sequence[Event]] = _maps
        if _is_array(envelope.events, _list_head(envelope.events)):
            decode = _arrays
        try:
            events, skipped = decode(envelope.events), 0
        except msgspec.ValidationError:  # some kind that is not known, or both forms in one batch
            events, skipped = _one_by_one(envelope.events)
    except Unreadable:
        raise
    except _ODD as error:
        raise Unreadable(str(error) or type(error).__name__) from None
    return Batch(envelope.ts, events, envelope.rank, skipped)


def key_of(block_hash: Hash) -> int:
    """A block's name as one unsigned number of 64 bits. Of vLLM's whole digest, the part that it sends as a
    number otherwise: the last 8 bytes."""
    if isinstance(block_hash, bytes):
        return int.from_bytes(block_hash[-8:], "big")
    return block_hash & _KEY_MASK


def _seq(frame: bytes) -> int:
    if len(frame) != SEQ_BYTES:
        raise Unreadable(f"a sequence number of {len(frame)} bytes instead of {SEQ_BYTES}")
    return int.from_bytes(frame, "big")


def _list_head(data: msgspec.Raw) -> int:
    """Bytes before a list's first item (msgpack's fixarray, array 16, array 32)."""
    head = memoryview(data)[0]
    return 1 if head & 0xF0 == 0x90 else 3 if head == 0xDC else 5


def _is_array(data: msgspec.Raw, at: int = 0) -> bool:
    """Whether an array begins there."""
    view = memoryview(data)
    first = view[at] if len(view) > at else 0
    return first & 0xF0 == 0x90 or first in (0xDC, 0xDD)


def _one_by_one(events: msgspec.Raw) -> tuple[list[Event], int]:
    """The events of known kinds, and how many others there are. Raises Unreadable, or one of `_ODD`."""
    read: list[Event] = []
    skipped = 0
    for raw in _raws(events):
        is_array = _is_array(raw)
        kind = next(iter(_array_tag(raw)), None) if is_array else _map_tag(raw).type
        if not isinstance(kind, str):
            raise Unreadable("an event without a name")
        if kind in _KINDS:
            read.append(_array(raw) if is_array else _map(raw))
        else:
            skipped += 1
    return read, skipped
