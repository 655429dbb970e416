"""A ledger knows what its engine holds: against a model, recorded streams, and what is odd."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kv_events.recording import WORKER, RecordingCore, live_a_little
from live.kv_engine import DIALECTS, Dialect, KvEngine
from warmroute.kv_events.counts import Counts
from warmroute.kv_events.ledger import Ledger
from warmroute.kv_events.wire import read_batch
from warmroute_policies.blocks import unpack_ids
from warmroute_policies.known import Tier
from warmroute_policies.kv_blocks import chain, chain_one, pack_tokens, root_of

SAMPLES = Path(__file__).parents[3] / "shared" / "engines" / "samples"


class Rig:
    """A ledger, who hears of it, and what it is told."""

    def __init__(self, *, block_tokens: int = 0) -> None:
        self.core, self.counts = RecordingCore(), Counts(WORKER)
        self.ledger = Ledger(WORKER, 0, self.core, self.counts, block_tokens)
        self.ledger.whole = True

    def hear(self, *events: Any) -> None:
        self.read(msgspec.msgpack.encode([1.0, list(events), 0]))

    def read(self, payload: bytes) -> None:
        self.ledger.apply(read_batch(payload).events, 0.0)

    @property
    def held(self) -> list[set[int]]:
        return self.core.lanes[0]

    @property
    def on_gpu(self) -> set[int]:
        return self.held[0]


def stored(
    hashes: list[Any], tokens: list[Any], parent: Any = None, size: int = 2, **more: Any
) -> dict[str, Any]:
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
    } | more


def removed(*hashes: Any, **more: Any) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU"} | more


def ids(tokens: list[int], size: int = 2, root: int | None = None) -> tuple[int, ...]:
    return unpack_ids(chain(root_of() if root is None else root, pack_tokens(tokens), size))


# --- against a model --------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_happens_in_an_engine_the_ledger_holds_what_it_holds(dialect: Dialect) -> None:
    for seed in range(25):
        chance = random.Random(seed)
        engine, rig = KvEngine(dialect, block_tokens=4), Rig(block_tokens=4)
        for number in range(80):
            live_a_little(engine, chance)
            rig.read(engine.batch()[1])
            where = f"{dialect}, seed {seed}, batch {number}"
            assert rig.held == engine.ids(), where
            assert rig.ledger.held == [len(ids) for ids in engine.ids()], where
            assert f"{rig.ledger.fingerprint:016x}" == engine.fingerprint(), where
        assert len(rig.ledger.blocks) == len({block for block, _ in engine.held})
        assert rig.core.complete == {0: True}
        assert not any(rig.counts.odds.values()), (seed, rig.counts.odds)


@pytest.mark.parametrize("name", ["kv-dup", "kv-evict"])
def test_a_recorded_stream_of_vllm_leaves_what_the_engine_held(name: str) -> None:
    rig, counts = Rig(), Counter[int]()
    for payload in recorded(f"{name}.jsonl.gz"):
        rig.read(msgspec.msgpack.encode(payload))
        for event in payload[1]:
            for block in event.get("block_hashes", ()):
                counts[block] += 1 if event["type"] == "BlockStored" else -1
        assert min(counts.values()) >= 0
    assert len(rig.on_gpu) == sum(count > 0 for count in counts.values())
    assert set(rig.ledger.blocks) == {block for block, count in counts.items() if count}
    assert (rig.core.complete, rig.counts.unknown_removals) == ({0: True}, 0)
    assert not any(rig.counts.odds.values())


def test_a_block_that_is_held_three_times_is_there_until_the_third_removal() -> None:
    rig, course = Rig(), []
    payloads = recorded("kv-dup.jsonl.gz")
    (last,) = payloads[0][1][-1]["block_hashes"][-1:]
    for payload in payloads:
        rig.read(msgspec.msgpack.encode(payload))
        course.append(rig.ledger.blocks.get(last, 0) & 0xFFFF)
    assert course == [1, 2, 3, 3, 3, 3, 3, 0, 0, 1]


def test_a_recorded_stream_of_sglang_that_was_joined_late_passes_over_what_came_before() -> None:
    rig, seen, unknown = Rig(), set[int](), 0
    held: set[int] = set()
    for payload in recorded("kv-sgl.jsonl.gz"):
        rig.read(msgspec.msgpack.encode(payload))
        for event in payload[1]:
            names = set(event.get("block_hashes", ()))
            if event["type"] == "BlockStored":
                seen |= names
                held |= names
            elif event["type"] == "BlockRemoved":
                unknown += len(names - seen)
                held -= names
            else:
                held.clear()
    assert unknown == 1
    assert rig.counts.unknown_removals == unknown
    assert len(rig.on_gpu) == len(held)
    assert not any(rig.counts.odds.values())


def recorded(name: str) -> list[Any]:
    if not (SAMPLES / name).exists():
        pytest.skip(f"no recorded stream at {SAMPLES / name}")
    lines = gzip.decompress((SAMPLES / name).read_bytes()).decode().splitlines()
    return [json.loads(line)["payload"] for line in lines if line.startswith("{")]


# --- identity ---------------------------------------------------------------------------------------


def test_a_block_is_known_by_its_tokens_and_all_before_it_whatever_the_engine_calls_it() -> None:
    rig, other = Rig(), Rig()
    rig.hear(stored([1, 2], [5, 6, 7, 8]), stored([3], [9, 9], parent=2))
    other.hear(stored([-1, b"x" * 32], [5, 6, 7, 8]), stored([30], [9, 9], parent=b"x" * 32))
    assert rig.on_gpu == other.on_gpu == set(ids([5, 6, 7, 8, 9, 9]))


def test_salt_and_adapter_make_other_blocks_in_both_dialects() -> None:
    plain, salted = Rig(), Rig()
    plain.hear(stored([1], [5, 6]))
    salted.hear(
        stored([1], [5, 6], extra_keys=[["tenant"]], lora_name=None),
        stored([2], [7, 8], parent=1, extra_keys=[None]),
        stored([3], [5, 6], cache_salt="tenant2"),
        stored([4], [5, 6], lora_id=1, lora_name="adapter", extra_keys=[["adapter"]]),
        stored([5], [5, 6], lora_id=1, lora_name="adapter", extra_keys=[["adapter", "tenant"]]),
        stored([6], [5, 6], lora_id=1),
    )
    assert salted.on_gpu == {
        *ids([5, 6, 7, 8], root=root_of(None, "tenant")),
        *ids([5, 6], root=root_of(None, "tenant2")),
        *ids([5, 6], root=root_of("adapter", None)),
        *ids([5, 6], root=root_of("adapter", "tenant")),
        *ids([5, 6], root=root_of("adapter number 1", None)),
    }
    assert not plain.on_gpu & salted.on_gpu


def test_a_block_with_an_image_in_it_is_no_plain_one_and_what_follows_follows_it() -> None:
    rig = Rig()
    rig.hear(stored([1, 2, 3], [5, 6, 0, 0, 7, 8], extra_keys=[None, [["image", 0]], None]))
    first = ids([5, 6])[0]
    second = chain_one(first, pack_tokens([0, 0]), msgspec.msgpack.encode([["image", 0]]))
    assert rig.on_gpu == {first, second, *ids([7, 8], root=second)}


def test_a_block_whose_parent_was_never_told_of_is_counted_and_the_rank_not_whole() -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6]), stored([3, 4], [7, 8, 9, 9], parent=2))
    assert rig.on_gpu == set(ids([5, 6]))
    assert (rig.counts.odds["parent"], rig.core.complete) == (2, {0: False})
    rig.hear({"type": "AllBlocksCleared"}, stored([1], [5, 6]))
    assert rig.core.complete == {0: True}, "an empty cache is known whole"


# --- what is left out -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        stored([9], [5, 6], kv_cache_spec_kind="sliding_window", group_idx=1),
        stored([9], [5, 6], kv_cache_spec_kind="mamba"),
        stored([9], [5, 6], kv_cache_spec_kind="full_attention", group_idx=2),
        stored([9], [5, 6], locality="REMOTE"),
        stored([9], [5, 6], medium="MOON"),
        stored([9], [5], size=1),
        stored([], [], size=2),
    ],
    ids=["sliding", "mamba", "second-group", "remote", "medium", "partial", "empty"],
)
def test_what_is_not_a_prefix_in_this_cache_is_ignored(event: dict[str, Any]) -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6], kv_cache_spec_kind="full_attention", group_idx=0), event)
    assert (rig.on_gpu, rig.counts.events["ignored"]) == (set(ids([5, 6])), 1)
    assert rig.core.complete == {0: True}


def test_what_another_group_of_layers_lets_go_of_is_still_held_by_the_first() -> None:
    rig = Rig()
    rig.hear(
        stored([1], [5, 6], kv_cache_spec_kind="full_attention", group_idx=0),
        stored([1], [5, 6], kv_cache_spec_kind="sliding_window", group_idx=1),
        removed(1, group_idx=1),
        removed(1, locality="REMOTE"),
    )
    assert rig.on_gpu
    rig.hear(removed(1, group_idx=0))
    assert not rig.on_gpu


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (stored([2], [[5, 6], [6, 7]]), "pairs"),
        (stored([2], [5, 6, 7, 8]), "masked"),
        (stored([2], [5]), "masked"),
        (stored([2], [-1, 6]), "tokens"),
        (stored([2], [2**32, 6]), "tokens"),
        (stored([2], ["a", 6]), "tokens"),
        (stored([1], [8, 9]), "conflict"),
    ],
)
def test_blocks_that_cannot_be_identified_are_counted_and_said_once(
    event: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6]), event, event)
    assert (rig.counts.odds[reason], rig.core.complete) == (2, {0: False})
    assert len(caplog.records) == 1
    assert rig.on_gpu == set(ids([5, 6]))


def test_another_size_of_block_is_said_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.hear(stored([1, 2], [5, 6, 7, 8]))
    rig.hear(stored([3], [1, 2, 3, 4], size=4))
    assert (rig.core.block_tokens, rig.core.complete) == ({0: 4}, {0: False})
    assert (rig.on_gpu, rig.counts.odds["block_size"]) == (set(ids([1, 2, 3, 4], 4)), 1)
    assert "blocks have 4 tokens now and had 2" in caplog.text


def test_a_size_from_elsewhere_is_no_reason_to_take_whole_blocks_for_parts() -> None:
    for told_elsewhere, size, held in ((8, 2, 1), (7, 2, 0), (2, 2, 1), (1, 2, 1)):
        rig = Rig(block_tokens=told_elsewhere)
        rig.hear(stored([1], [5, 6]), stored([2, 3], [7, 8, 9, 9], parent=None))
        assert len(rig.on_gpu) == 2 + held, told_elsewhere
        assert rig.core.block_tokens == {0: size}


def test_tiers_are_told_apart_and_the_medium_may_be_missing() -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6], medium=None), stored([1], [5, 6], medium="CPU_PINNED"), removed(1))
    assert [len(held) for held in rig.held] == [0, 1, 0, 0]
    rig.hear(stored([2], [7, 8], parent=1, medium="DISK"), removed(1, medium="CPU"))
    assert rig.held == [set(), set(), {ids([5, 6, 7, 8])[1]}, set()], "a parent in any tier is known"


def test_what_was_never_stored_there_cannot_be_removed() -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6]), removed(7), removed(1, medium="CPU"), removed(1), removed(1))
    assert (rig.on_gpu, rig.counts.unknown_removals, rig.ledger.blocks) == (set(), 3, {})


def test_changes_of_one_kind_are_told_as_one() -> None:
    rig = Rig(block_tokens=2)
    rig.hear(stored([1, 2, 3], [1, 1, 2, 2, 3, 3]))
    before = rig.core.calls
    rig.hear(*(removed(one) for one in (3, 2)), stored([4], [4, 4], parent=1))
    assert rig.core.calls == before + 1


def test_a_forgotten_ledger_is_told_of_anew() -> None:
    rig = Rig()
    rig.hear(stored([1], [5, 6]))
    rig.core.doubt_blocks(WORKER, 0.0)
    rig.ledger.forget()
    rig.hear(stored([1], [5, 6]))
    assert (rig.on_gpu, rig.core.complete) == (set(ids([5, 6])), {0: False})


def test_counts_of_tiers_never_run_into_each_other() -> None:
    rig = Rig()
    many = 70_000
    rig.hear(stored([1], [5, 6]), *([stored([1], [5, 6])] * many))
    assert [rig.ledger.held[tier] for tier in Tier] == [1, 0, 0, 0]
    assert rig.held[Tier.HOST] == set()
    rig.hear(removed(*([1] * (many + 1))))
    assert (rig.on_gpu, rig.ledger.blocks) == (set(), {})
