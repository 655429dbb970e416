"""The engine under both rules: admission order, cached tokens, preemption, accounts, times."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest

from warmroute_policies.latency import PRESETS, LatencyCoefficients
from warmroute_simulator.engine import (
    Admitted,
    Engine,
    EngineConfig,
    EngineKind,
    EngineRequest,
    Event,
    Finished,
    FinishReason,
    FirstToken,
    Tokens,
    block_keys,
)
from warmroute_simulator.engine.steps import step_seconds

BLOCK = 16
KINDS: tuple[EngineKind, ...] = ("vllm", "sglang")
both_rules = pytest.mark.parametrize("kind", KINDS)


def request(
    request_id: int, tokens: bytes, output_tokens: int, *, block: int = BLOCK, stream: bool = False
) -> EngineRequest:
    """A request whose answer are tokens of its own."""
    answer = random.Random(request_id).randbytes(4 * output_tokens)
    keys = block_keys(tokens + answer, block)
    return EngineRequest(
        request_id, len(tokens) // 4, output_tokens, keys, FinishReason.LENGTH, token_events=stream
    )


def tokens_of(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(4 * count)


def drain(engine: Engine) -> list[Event]:
    """What happens until nothing is left; admissions aside."""
    events: list[Event] = []
    while (at := engine.next_event_at()) is not None:
        events += answers(engine.advance(at))
    return events


def answers(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Admitted)]


def assert_accounts(engine: Engine) -> None:
    cache = engine.cache
    assert cache.free + cache.private + cache.referenced + cache.evictable == cache.capacity
    assert engine.running <= engine.config.max_num_seqs
    assert min(cache.free, cache.private) >= 0


def run_random_traffic(
    seed: int, kind: EngineKind, *, stream: bool, operations: int, aborts: bool, block: int = 8
) -> tuple[Engine, list[Event]]:
    """Arrivals that overload a small cache and a small batch; the same seed is the same traffic. How far
    ahead the host decides and how long it needs for a request is drawn as well."""
    chance = random.Random(seed)
    config = EngineConfig(
        kv_tokens=600,
        kind=kind,
        block_tokens=block,
        max_num_seqs=6,
        step_tokens=64,
        overlap=chance.random() < 0.7,
        step_overhead_s=0.001 * (seed % 2),
        request_overhead_s=chance.choice((0.0, 0.004, 0.03)),
    )
    engine, events, now, last_id = Engine(config), [], 0.0, 0
    for _ in range(operations):
        now += chance.expovariate(1 / 0.03)
        events += answers(engine.advance(now))
        if aborts and chance.random() < 0.1:
            engine.abort(chance.randint(1, last_id + 1))
        else:
            last_id += 1
            shared = tokens_of(chance.randrange(5), 60)[: 4 * chance.randint(1, 60)]
            own = tokens_of(1000 + last_id, chance.randint(1, 90))
            engine.submit(
                request(last_id, shared + own, chance.randint(1, 80), block=block, stream=stream), now
            )
        assert_accounts(engine)
    while (at := engine.next_event_at()) is not None:
        events += answers(engine.advance(at))
        assert_accounts(engine)
    return engine, events


@both_rules
def test_no_block_leaks_over_10_000_seeded_operations(kind: EngineKind) -> None:
    print("seed 11")
    engine, events = run_random_traffic(11, kind, stream=False, operations=10_000, aborts=True)
    assert engine.totals.preemptions > (50 if kind == "vllm" else 0)
    assert engine.totals.aborted > 100
    assert engine.cache.evictions > 1000
    assert engine.cache.in_use == 0
    finished = [event for event in events if isinstance(event, Finished)]
    assert len(finished) + engine.totals.aborted == engine.totals.requests


@both_rules
@pytest.mark.parametrize("block", [1, 8, 16])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_jumping_over_decode_steps_gives_what_single_steps_give(
    seed: int, block: int, kind: EngineKind
) -> None:
    def essence(events: list[Event]) -> list[tuple[str, int, float, int]]:
        return [
            (type(event).__name__, event.request_id, round(event.at, 6), event.cached_tokens)
            for event in events
            if not isinstance(event, Tokens)
        ]

    jumped, jump_events = run_random_traffic(
        seed, kind, stream=False, operations=250, aborts=False, block=block
    )
    stepped, step_events = run_random_traffic(
        seed, kind, stream=True, operations=250, aborts=False, block=block
    )
    assert essence(jump_events) == essence(step_events)
    assert jumped.totals.preemptions == stepped.totals.preemptions
    assert kind == "sglang" or jumped.totals.preemptions > 0
    assert jumped.totals.steps == stepped.totals.steps
    assert jumped.cache.evictions == stepped.cache.evictions > 0


@both_rules
def test_every_request_gets_exactly_its_tokens_even_when_preempted(kind: EngineKind) -> None:
    engine, events = run_random_traffic(5, kind, stream=True, operations=600, aborts=False)
    assert engine.totals.preemptions > 0
    counts: dict[int, int] = {}
    for event in events:
        if isinstance(event, FirstToken):
            assert event.request_id not in counts
            counts[event.request_id] = 1
        elif isinstance(event, Tokens):
            counts[event.request_id] += event.count
        elif isinstance(event, Finished):
            assert event.output_tokens == counts[event.request_id]
    assert sum(counts.values()) == engine.totals.output_tokens
    assert len(counts) == 600


@both_rules
def test_first_tokens_come_in_the_order_of_arrival(kind: EngineKind) -> None:
    _, events = run_random_traffic(9, kind, stream=False, operations=1000, aborts=False)
    order = [event.request_id for event in events if isinstance(event, FirstToken)]
    assert order == sorted(order)
    assert len(order) == 1000


@both_rules
def test_cached_tokens_equal_a_naive_lru_model_over_10_000_requests(kind: EngineKind) -> None:
    """One request at a time, so that the model can stay naive: a list of keys in order of use."""
    print("seed 21")
    chance, now, capacity = random.Random(21), 0.0, 80
    engine = Engine(EngineConfig(kv_tokens=capacity * BLOCK, block_tokens=BLOCK, kind=kind))
    resident: OrderedDict[int, None] = OrderedDict()
    for request_id in range(1, 10_001):
        tokens = tokens_of(chance.randrange(12), 200)[: 4 * chance.randint(1, 200)]
        tokens += tokens_of(100 + chance.randrange(40), 100)[: 4 * chance.randint(0, 100)]
        asked = request(request_id, tokens, chance.randint(1, 40))
        length = asked.prompt_tokens
        hits = 0
        while hits < (length - 1) // BLOCK and asked.prompt[hits] in resident:
            hits += 1

        engine.submit(asked, now)
        [finished] = [event for event in drain(engine) if isinstance(event, Finished)]
        now = finished.at
        assert finished.cached_tokens == hits * BLOCK

        held = length + asked.output_tokens - 1
        used = list(asked.prompt[: held // BLOCK])
        for key in used:
            resident.pop(key, None)
        while len(resident) + -(-held // BLOCK) > capacity:
            resident.popitem(last=False)
        resident.update(dict.fromkeys(reversed(used)))
    assert engine.totals.cached_tokens > 0.2 * engine.totals.prompt_tokens
    assert engine.cache.evictions > 10_000


@both_rules
def test_a_fully_cached_prompt_recomputes_its_last_block(kind: EngineKind) -> None:
    engine = Engine(EngineConfig(block_tokens=32, kind=kind))
    cached = []
    for request_id in (1, 2):
        engine.submit(request(request_id, tokens_of(1, 96), 1, block=32), 0.0)
        cached += [event.cached_tokens for event in drain(engine) if isinstance(event, Finished)]
    assert cached == [0, 64]


@both_rules
def test_the_next_turn_of_a_conversation_hits_the_answer_too(kind: EngineKind) -> None:
    engine = Engine(EngineConfig(kind=kind))
    prompt, answer = tokens_of(1, 100), tokens_of(2, 60)
    keys = block_keys(prompt + answer, BLOCK)
    engine.submit(EngineRequest(1, 100, 60, keys), 0.0)
    drain(engine)
    engine.submit(request(2, prompt + answer + tokens_of(3, 40), 1), 10.0)
    [first] = [event for event in drain(engine) if isinstance(event, FirstToken)]
    # 159 tokens have KV: the last token of the answer was never an input.
    assert first.cached_tokens == 159 // BLOCK * BLOCK


def test_requests_that_start_together_share_what_the_first_computes() -> None:
    engine = Engine(EngineConfig())
    for request_id in (1, 2, 3):
        engine.submit(request(request_id, tokens_of(1, 320) + tokens_of(request_id, 16), 1), 0.0)
    cached = [event.cached_tokens for event in drain(engine) if isinstance(event, FirstToken)]
    assert cached == [0, 320, 320]


@both_rules
def test_aborting_everything_frees_everything_and_silences_it(kind: EngineKind) -> None:
    engine = Engine(EngineConfig(kv_tokens=2000, max_num_seqs=4, step_tokens=100, kind=kind))
    for request_id in range(1, 9):
        engine.submit(request(request_id, tokens_of(request_id, 150), 50), 0.0)
    engine.advance(0.05)
    assert engine.running
    assert engine.waiting
    assert all(engine.abort(request_id) for request_id in range(1, 9))
    assert not engine.abort(1)
    assert (engine.running, engine.waiting, engine.cache.in_use) == (0, 0, 0)
    assert drain(engine) == []
    engine.submit(request(9, tokens_of(9, 10), 2), 1.0)
    assert [event.request_id for event in drain(engine)] == [9, 9]


def test_a_long_prefill_is_chunked_and_decodes_go_on_meanwhile() -> None:
    engine = Engine(EngineConfig(step_tokens=1024, overlap=False))
    engine.submit(request(1, tokens_of(1, 10), 200, stream=True), 0.0)
    engine.advance(0.1)
    engine.submit(request(2, tokens_of(2, 5000), 1), 0.1)
    before_first_token = []
    for event in drain(engine):
        if event.request_id == 2:
            break
        before_first_token.append(event)
    # 5,000 tokens at 1,023 beside one decode are five steps; one token of request 1 was in flight.
    assert len(before_first_token) in (5, 6)


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    engine = Engine(EngineConfig(kv_tokens=160))
    with pytest.raises(ValueError, match="never fit"):
        engine.submit(request(1, tokens_of(1, 150), 20), 0.0)
    assert engine.next_event_at() is None


@both_rules
def test_an_embedding_is_a_prefill_without_tokens(kind: EngineKind) -> None:
    engine = Engine(EngineConfig(kind=kind))
    engine.submit(request(1, tokens_of(1, 50), 0), 0.0)
    [event] = drain(engine)
    assert isinstance(event, Finished)
    assert event.output_tokens == 0


def test_a_mixed_step_takes_the_time_of_its_published_example() -> None:
    # 2,048 new tokens beside 64 sequences of 4,096 tokens on Llama-3.1-8B, H100: 57.75 ms by aiconfigurator's
    # tables, which the coefficients are fitted to.
    took = step_seconds(PRESETS["llama-3.1-8b-h100"], [(0, 2048)], 64, 64 * 4096)
    assert took * 1000 == pytest.approx(57.75, rel=0.02)


def test_a_piece_of_a_prompt_costs_a_decode_step_its_tokens_and_never_less_than_the_floor() -> None:
    latency = LatencyCoefficients(w0=9.0, c0=2.0, c1=10.0, c2=0.0, d0=6.0, d1=0.5, d2=0.1)
    alone = step_seconds(latency, [], 4, 8000)
    assert alone * 1000 == pytest.approx(6 + 4 * 0.5 + 8 * 0.1)
    assert step_seconds(latency, [(0, 600), (100, 400)], 4, 8000) == pytest.approx(alone + 0.010)
    assert step_seconds(latency, [(0, 10)], 4, 8000) * 1000 == pytest.approx(9 + 4 * 0.5 + 8 * 0.1)
    assert step_seconds(latency, [(0, 1000)], 0, 0) * 1000 == pytest.approx(12)


@both_rules
def test_a_lone_request_takes_its_prefill_and_then_a_decode_step_per_token(kind: EngineKind) -> None:
    latency = PRESETS["llama-3.1-8b-h100"]
    engine = Engine(EngineConfig(step_overhead_s=0.001, request_overhead_s=0.007, kind=kind))
    engine.submit(request(1, tokens_of(1, 1000), 11), 5.0)
    first, finished = drain(engine)
    assert first.at == pytest.approx(5.007 + step_seconds(latency, [(0, 1000)], 0, 0) + 0.001)
    decodes = sum(step_seconds(latency, [], 1, 1000 + done) + 0.001 for done in range(1, 11))
    assert finished.at == pytest.approx(first.at + decodes)
