"""LPWL on examples worked by hand; a block of the stage is 128 tokens."""

from __future__ import annotations

from warmroute_policies.peers.least_prefill_work import LeastPrefillWork
from warmroute_policies.policy import Choice
from warmroute_policies.rehearsal import World
from warmroute_policies.types import Usage


def world_of(*names: str) -> World:
    world = World(LeastPrefillWork())
    for name in names:
        world.add(name)
    return world


def test_a_request_waits_for_its_prefix_until_the_queue_there_is_longer_than_what_it_would_save() -> None:
    world = world_of("a", "b")
    world.fleet.inflight[1] = 5  # so that ties, and only they, go to a
    first = world.request(1, blocks=8)  # 1,024 tokens, nowhere cached
    assert world.dispatch(first) == 0
    # a has 1,024 tokens waiting. A prompt of 2,048 of which a holds 1,024: 1,024 + 1,024 against 0 + 2,048.
    # That is a tie, and a has fewer requests in flight: 1 against 5.
    second = world.request(2, blocks=16)
    assert world.decide(second, {0: 1024}) == Choice(0, "warm")
    # One page more is cached on b: 2,032 against 2,048.
    assert world.decide(second, {0: 1024, 1: 16}) == Choice(1, "warm")
    # One page less is cached on a: 1,024 + 1,040 against 2,048.
    assert world.decide(second, {0: 1008}) == Choice(1, "cold")


def test_tokens_leave_the_queue_at_the_first_token_and_not_at_the_end() -> None:
    world = world_of("a", "b")
    world.fleet.inflight[1] = 5
    first = world.request(1, blocks=8)
    world.dispatch(first)
    other = world.request(2, blocks=4)  # 512 tokens, nowhere cached: 1,536 on a, 512 on b
    assert world.decide(other).slot == 1
    world.first_token(first.request_id)  # 512 each, and a has 1 request against 5
    assert world.decide(other).slot == 0
    world.fleet.inflight[1] = 0
    assert world.decide(other).slot == 1, "the request still decodes on a"
    world.finish(first.request_id, ok=True, usage=Usage(1024, 10, 0))
    assert world.fleet.inflight == [0, 0]


def test_a_prompt_that_is_held_whole_still_waits_for_what_is_queued() -> None:
    world = world_of("a", "b")
    world.dispatch(world.request(1, blocks=1))  # 128 tokens wait on a
    request = world.request(2, blocks=1)
    # Holding more than the prompt is holding all of it: 128 + 0 on a, 0 + 128 on b; then fewest requests.
    assert world.decide(request, {0: 200}).slot == 1
    assert world.decide(request, {0: 200, 1: 1}).slot == 1
    world.fleet.inflight[1] = 3
    assert world.decide(request, {0: 200}) == Choice(0, "warm")


def test_the_last_of_the_ties_go_round() -> None:
    world = world_of("a", "b", "c")
    used = []
    for _ in range(6):
        request = world.request(None)  # no tokens, no prefix: all are equal once it has ended
        used.append(world.dispatch(request))
        world.finish(request.request_id, ok=True)
    assert used == [0, 1, 2, 0, 1, 2]
    world.remove("a")
    world.add("new")
    assert world.decide(world.request(None)).slot == 0, "a new worker had no turn yet"


def test_the_explanation_says_what_waits_and_what_is_missing() -> None:
    world = world_of("a", "b")
    world.dispatch(world.request(1, blocks=8))
    request = world.request(2, blocks=2)
    row, other = world.policy.explain(request, world.view(request, {0: 100}), world.now)
    assert row.total_s == 1024 + 156
    assert (row.shares_s["queued_tokens"], row.shares_s["missing_tokens"]) == (1024.0, 156.0)
    assert other.total_s == 256
