"""SGLang's rule, by hand-worked examples: prefill first, what is reserved, who is retracted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from warmroute_policies.latency import LatencyCoefficients
from warmroute_simulator.engine import (
    Admitted,
    Engine,
    EngineConfig,
    EngineRequest,
    Event,
    Finished,
    FirstToken,
    Tokens,
)

PREFILL_PER_TOKEN = LatencyCoefficients(w0=0.0, c0=0.0, c1=1000.0, c2=0.0, d0=10.0, d1=0.0, d2=0.0)
"""A millisecond for each token of a prompt, 10 ms for a decode step."""


def engine_of(**changes: object) -> Engine:
    settings: dict[str, object] = {"kind": "sglang", "overlap": False, "latency": PREFILL_PER_TOKEN}
    return Engine(EngineConfig(**(settings | changes)))  # type: ignore[arg-type]


def asks(
    request_id: int, prompt_tokens: int, output_tokens: int, keys: Sequence[int] = (), *, stream: bool = False
) -> EngineRequest:
    return EngineRequest(request_id, prompt_tokens, output_tokens, keys, token_events=stream)


def drain(engine: Engine, until: float = 1e9) -> list[Event]:
    events: list[Event] = []
    while (at := engine.next_event_at()) is not None and at <= until:
        events += engine.advance(at)
    return events


def ms(events: list[Event], kind: type, request_id: int) -> list[float]:
    return [
        round(event.at * 1000, 6)
        for event in events
        if isinstance(event, kind) and event.request_id == request_id
    ]


def test_nobody_decodes_while_a_prompt_is_computed() -> None:
    engine = engine_of(step_tokens=64)
    engine.submit(asks(1, 32, 6, stream=True), 0.0)
    engine.advance(0.035)
    engine.submit(asks(2, 160, 1), 0.035)
    events = drain(engine)
    # 32 ms of prefill; a decode step to 42; then 160 tokens in pieces of 64, 64 and 32; then decodes again.
    assert ms(events, Tokens, 1) == [42, 212, 222, 232, 242]
    assert ms(events, FirstToken, 2) == [202]


def test_waiting_prompts_are_computed_together_up_to_the_chunk_and_the_last_is_cut_in_whole_blocks() -> None:
    engine = engine_of(step_tokens=100)
    for request_id in (1, 2, 3):
        engine.submit(asks(request_id, 40, 1), 0.0)
    events = drain(engine)
    # 40 + 40 + 16 of the third (a block, of 20 that are left); then its other 24.
    assert ms(events, FirstToken, 1) == ms(events, FirstToken, 2) == [96]
    assert ms(events, FirstToken, 3) == [120]


def test_max_prefill_tokens_ends_a_batch_but_never_a_single_prompt() -> None:
    engine = engine_of(step_tokens=1000, prefill_tokens=100)
    for request_id, prompt in ((1, 300), (2, 60), (3, 60)):
        engine.submit(asks(request_id, prompt, 1), 0.0)
    events = drain(engine)
    # The first is alone over the limit; the second leaves 40, and the third would need more.
    assert [ms(events, FirstToken, number) for number in (1, 2, 3)] == [[300], [360], [420]]


def test_prompts_that_are_admitted_together_do_not_share_what_they_compute() -> None:
    engine = engine_of()
    keys = [7, 8, 9]
    for request_id in (1, 2):
        engine.submit(asks(request_id, 50, 5, keys), 0.0)
    drain(engine, until=0.11)
    engine.submit(asks(3, 50, 1, keys), 0.11)
    cached = {event.request_id: event.cached_tokens for event in drain(engine) if isinstance(event, Finished)}
    assert cached == {1: 0, 2: 0, 3: 48}
    assert engine.cache.in_use == 0
    assert engine.cache.evictable == 3


def test_a_request_is_admitted_when_its_answer_fits_beside_a_part_of_what_the_others_generate() -> None:
    # 640 tokens in all. The first holds 160 and has 200 to come, of which 0.7 are reserved.
    engine = engine_of(kv_tokens=640)
    engine.submit(asks(1, 160, 201), 0.0)
    engine.advance(0.161)
    # Room: 640 − 160 − 16 (its first answer's block) − 0.7·199 = 324.7 for prompt and answer.
    engine.submit(asks(2, 128, 197), 0.162)
    events = engine.advance(0.175)
    assert not [event for event in events if isinstance(event, Admitted)]
    assert engine.waiting == 1
    engine.abort(2)
    engine.submit(asks(3, 128, 196), 0.176)
    events = engine.advance(0.185)
    assert [event.request_id for event in events if isinstance(event, Admitted)] == [3]


def test_who_does_not_fit_waits_for_a_release() -> None:
    engine = engine_of(kv_tokens=320)
    engine.submit(asks(1, 160, 40), 0.0)
    engine.submit(asks(2, 160, 40), 0.0)
    events = drain(engine)
    # 160 ms prefill, 39 decodes; then the second.
    assert ms(events, Finished, 1) == [550]
    assert ms(events, Admitted, 2) == [550]


def test_out_of_blocks_the_sequence_with_the_fewest_tokens_goes_to_the_end_of_the_queue() -> None:
    # 1,200 tokens. After 500 decodes the ratio is 0.2, so the second fits by far; yet 334 steps later, with
    # 850 and 350 tokens, the two fill the cache. The third waits for a slot until then.
    engine = engine_of(kv_tokens=1200, max_num_seqs=2)
    engine.submit(asks(1, 16, 1000), 0.0)
    drain(engine, until=5.0)
    engine.submit(asks(2, 16, 500), 5.0)
    events = drain(engine, until=5.1)
    assert [event.request_id for event in events if isinstance(event, Admitted)] == [2]
    engine.submit(asks(3, 16, 2), 5.1)
    drain(engine, until=8.3)
    assert (engine.totals.preemptions, engine.waiting) == (0, 1)
    events = drain(engine)
    assert engine.totals.preemptions == 1
    finished = [event for event in events if isinstance(event, Finished)]
    # The second is computed again when the first has ended.
    assert [event.request_id for event in finished] == [3, 1, 2]
    assert [event.output_tokens for event in finished] == [2, 1000, 500]


@pytest.mark.parametrize(("total", "fits"), [(320, True), (321, False)])
def test_a_request_as_large_as_the_cache_runs_when_it_is_alone(total: int, fits: bool) -> None:
    engine = engine_of(kv_tokens=320)
    asked = asks(1, 200, total - 200)
    if fits:
        engine.submit(asked, 0.0)
        assert isinstance(drain(engine)[-1], Finished)
    else:
        with pytest.raises(ValueError, match="never fit"):
            engine.submit(asked, 0.0)
