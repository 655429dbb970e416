"""Frames and payloads as engines write them, and as nobody should."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.kv_events.wire import (
    Batch,
    Cleared,
    Message,
    Removed,
    Stored,
    Unreadable,
    key_of,
    read_batch,
    read_live,
    read_replayed,
    replay_request,
)

encode = msgspec.msgpack.encode
EXAMPLES = settings(max_examples=300)
SEQ = (7).to_bytes(8, "big")
END = b"\xff" * 8

STORED = {
    "type": "BlockStored",
    "block_hashes": [2**64 - 1, 5],
    "parent_block_hash": None,
    "token_ids": [1, 2, 3, 4],
    "block_size": 2,
    "lora_id": None,
    "medium": "GPU",
}


def batch(*events: object, rank: object = 0, ts: object = 1.5) -> Batch:
    return read_batch(encode([ts, list(events), rank]))


# --- frames -----------------------------------------------------------------------------------------


def test_a_live_message_is_topic_number_and_payload() -> None:
    assert read_live([b"kv", SEQ, b"x"]) == Message(b"kv", 7, b"x")


@pytest.mark.parametrize("frames", [[], [SEQ], [b"", SEQ], [b"", b"7", b""], [b"", SEQ, b"", b""]])
def test_other_frames_are_unreadable(frames: list[bytes]) -> None:
    with pytest.raises(Unreadable):
        read_live(frames)


def test_a_replay_is_read_with_a_topic_and_without() -> None:
    assert read_replayed([b"", b"kv", SEQ, b"x"]) == Message(b"kv", 7, b"x")
    assert read_replayed([b"", SEQ, b"x"]) == Message(b"", 7, b"x")
    assert read_replayed([b"", b"", END, b""]) is None
    assert read_replayed([b"", END, b""]) is None


@pytest.mark.parametrize("frames", [[], [b"x", SEQ, b""], [b"", SEQ], [b"", b"", b"short", b""]])
def test_other_replays_are_unreadable(frames: list[bytes]) -> None:
    with pytest.raises(Unreadable):
        read_replayed(frames)


def test_a_replay_is_asked_for_with_an_empty_frame_and_a_number() -> None:
    assert replay_request(7) == [b"", SEQ]


# --- payloads ---------------------------------------------------------------------------------------


def test_maps_of_newer_engines_are_read_whatever_else_they_say() -> None:
    read = batch(
        STORED | {"extra_keys": [None, ["s"]], "group_idx": 0, "session_id": "s1", "novel": [{"a": 1}]},
        {"type": "BlockRemoved", "block_hashes": [-5], "medium": "CPU_PINNED", "novel": 1},
        {"type": "AllBlocksCleared"},
    )
    stored, removed, cleared = read.events
    assert (read.sent_at_s, read.rank, read.skipped) == (1.5, 0, 0)
    assert isinstance(stored, Stored)
    assert (stored.block_hashes, stored.token_ids, stored.extra_keys) == (
        [2**64 - 1, 5],
        [1, 2, 3, 4],
        [None, ["s"]],
    )
    assert isinstance(removed, Removed)
    assert removed.medium == "CPU_PINNED"
    assert isinstance(cleared, Cleared)


def test_arrays_of_older_engines_are_read_from_the_left() -> None:
    short = ["BlockStored", [1], None, [1, 2], 2, None, "GPU"]
    long = [*short, "adapter", [["adapter"]], 0, "full_attention", None, "LOCAL", None, "session", "novel", 9]
    read = batch(short, long, ["BlockRemoved", [1], "GPU", 0, "LOCAL", "novel"], ["AllBlocksCleared"])
    first, second, removed, cleared = read.events
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.lora_name, first.medium, second.lora_name, second.kv_cache_spec_kind) == (
        None,
        "GPU",
        "adapter",
        "full_attention",
    )
    assert second.salt() is None, "vLLM's fields are no salt"
    assert isinstance(removed, Removed)
    assert isinstance(cleared, Cleared)


def test_a_batch_may_leave_its_rank_out_and_say_more_than_that() -> None:
    assert read_batch(encode([1, []])).rank is None
    assert read_batch(encode([1, [], None])).rank is None
    assert read_batch(encode([1, [], 3, "novel"])).rank == 3


def test_unknown_kinds_are_passed_over_in_both_forms() -> None:
    read = batch({"type": "Novel", "x": 1}, STORED, ["Novel", 1], ["BlockRemoved", [1], None])
    assert read.skipped == 2
    assert [type(event).__base__ for event in read.events] == [Stored, Removed]


@pytest.mark.parametrize(
    "event",
    [
        STORED | {"block_hashes": "no"},
        STORED | {"block_size": 0},
        STORED | {"block_size": -1},
        STORED | {"block_size": 1.5},
        STORED | {"token_ids": None},
        STORED | {"medium": 5},
        {"type": "BlockStored"},
        {"no": "type"},
        {"type": 5},
        ["BlockStored"],
        [],
        [[]],
        5,
        None,
        "BlockStored",
    ],
)
def test_a_malformed_event_makes_its_batch_unreadable(event: object) -> None:
    with pytest.raises(Unreadable):
        batch(STORED, event)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        encode([]),
        encode([1.5]),
        encode({}),
        encode([1.5, None]),
        encode([1.5, 7]),
        encode([nan, []]),
        encode([inf, []]),
        encode(["now", []]),
        encode([1.5, [], -1]),
        encode([1.5, [], 10**6]),
        encode([1.5, [], "0"]),
        encode([1.5, []]) + b"x",
        b"\x91" * 5000,
    ],
)
def test_other_payloads_are_unreadable(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        read_batch(payload)


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "type", "block_hashes", "GPU"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)
_EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "Novel"])},
    optional={
        name: _VALUES
        for name in (*STORED, "extra_keys", "group_idx", "locality", "cache_salt")
        if name != "type"
    },
)


@EXAMPLES
@given(
    st.binary(max_size=200)
    | st.tuples(_VALUES, _VALUES, _VALUES).map(encode)
    | st.tuples(st.floats(0, 1e9), st.lists(_EVENTS | _VALUES, max_size=4), st.integers(0, 3)).map(encode)
)
def test_whatever_is_sent_is_read_or_unreadable(payload: bytes) -> None:
    try:
        read = read_batch(payload)
    except Unreadable:
        return
    assert isinstance(read.sent_at_s, float)
    for event in read.events:
        assert isinstance(event, (Stored, Removed, Cleared))
        if not isinstance(event, Cleared):
            assert all(0 <= key_of(one) < 2**64 for one in event.block_hashes)


@EXAMPLES
@given(st.lists(st.binary(max_size=9), max_size=5))
def test_whatever_frames_come_are_read_or_unreadable(frames: list[bytes]) -> None:
    for read in (read_live, read_replayed):
        try:
            message = read(frames)
        except Unreadable:
            continue
        assert message is None or message.seq >= 0


def test_a_blocks_name_is_one_number_signed_unsigned_or_as_bytes() -> None:
    digest = bytes(range(32))
    assert key_of(-1) == key_of(2**64 - 1) == 2**64 - 1
    assert key_of(-(2**63)) == 2**63
    assert key_of(digest) == int.from_bytes(digest[-8:], "big"), "as vLLM's number of the same digest"
