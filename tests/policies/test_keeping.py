"""What a balancer knows goes out into frames and comes back as the same knowledge."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest

from traffic import MARKER, SESSIONS, Traffic
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks, pack_ids
from warmroute_policies.config import BalancerConfig
from warmroute_policies.index import PrefixIndex
from warmroute_policies.keeping import (
    Restoring,
    restore_answers,
    restore_capacity,
    restore_facts,
    restore_prefixes,
    restore_sessions,
    snapshot,
)
from warmroute_policies.registry import make_policy
from warmroute_policies.state import AnyFrame, Capacity, Conversations, Facts, Prefixes, Turns
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec

CONFIG = BalancerConfig(capacity_feedback=False)


def restored(balancer: Balancer, frames: list[AnyFrame], now: float, config: BalancerConfig) -> Balancer:
    """Another balancer with the same workers, after the frames went through bytes."""
    facts = next(frame for frame in frames if isinstance(frame, Facts))
    config = replace(config, learned_prices=facts.prices)
    other, restoring = Balancer(make_policy(balancer.policy.name), config), Restoring()
    for slot, spec in balancer.fleet.slots():
        other.add_worker(spec, now)
        other.set_health(spec.worker_id, balancer.fleet.healthy[slot], now)
        other.drain_worker(spec.worker_id, balancer.fleet.draining[slot], now)
    decode = msgspec.msgpack.Decoder(AnyFrame).decode
    for frame in [decode(msgspec.msgpack.encode(frame)) for frame in frames]:
        match frame:
            case Facts():
                restore_facts(other, frame)
            case Capacity():
                restore_capacity(other, frame)
            case Prefixes():
                restoring.read(frame)
                held = sum(restore_prefixes(other, restoring, frame, now))
                assert held == len(frame.ends)
            case Conversations():
                restore_answers(other, frame.rows)
            case Turns():
                restore_sessions(other, frame.rows, now)
    other.index.check_integrity()
    return other


def by_worker(balancer: Balancer, prompt: PromptBlocks) -> dict[str, int]:
    depths = balancer.index.match(prompt).depths
    return {balancer.fleet.ids[slot]: depth for slot, depth in depths.items()}


def test_every_prompt_is_held_to_the_same_depth_by_the_same_workers() -> None:
    held = [_holds_the_same(seed) for seed in range(10)]
    assert sum(held) > len(held) // 2, "some workers hold something"


def _holds_the_same(seed: int) -> bool:
    balancer = Balancer(make_policy("cache_aware"), CONFIG)
    traffic = Traffic(balancer, seed)
    for _ in traffic.steps(800):
        pass
    balancer.tick(traffic.now)
    while balancer.index.maintain(1000):
        pass
    frames = list(snapshot(balancer, traffic.now))
    other = restored(balancer, frames, traffic.now, CONFIG)
    prompts = [traffic._prompt(model) for model in ("alpha", "beta") for _ in range(60)]
    for prompt in prompts:
        assert by_worker(other, prompt) == by_worker(balancer, prompt), f"seed {seed}"
    for slot, spec in balancer.fleet.slots():
        mine = other.fleet.slot_of[spec.worker_id]
        assert other.index.resident(mine) == balancer.index.resident(slot)
    return any(by_worker(balancer, prompt) for prompt in prompts)


@pytest.mark.parametrize("policy", ["cache_aware", "session_sticky", "least_requests", "prefix_hash"])
@pytest.mark.parametrize("seed", range(6))
def test_a_restored_balancer_decides_as_the_one_that_was_kept(policy: str, seed: int) -> None:
    config = BalancerConfig(capacity_feedback=False, learn_prices=False)
    chance = Random(seed)
    balancer = Balancer(make_policy(policy), config)
    for number in range(5):
        balancer.add_worker(WorkerSpec(f"http://w{number}"), 0.0)
    conversations = [bytes([65 + which]) * 4_000 for which in range(12)]

    def turn(number: int, now: float, balancers: list[Balancer]) -> None:
        which = chance.randrange(len(conversations))
        conversations[which] += f"{number} ".encode() * chance.randrange(1, 900)
        session = chance.choice([None, *SESSIONS])
        choices = set()
        for each in balancers:
            request = RoutingRequest(number, "m", PromptBlocks(conversations[which], 7), session=session)
            decision = each.route(request, now)
            choices.add((decision.worker, decision.predicted_hit_tokens, decision.prompt_tokens))
            usage = Usage(len(conversations[which]) // 3, 20, None)
            each.first_token(number, now + 0.1)
            each.finish(number, Outcome.OK, usage, now + 0.2)
        assert len(choices) == 1, f"seed {seed}, request {number}: {choices}"

    for number in range(1, 200):
        turn(number, number / 10, [balancer])
        if number % 10 == 0:
            balancer.tick(number / 10)
    other = restored(balancer, list(snapshot(balancer, 20.0)), 20.0, config)
    for each in (balancer, other):
        each.tick(20.0)
    for number in range(200, 400):
        turn(number, number / 10, [balancer, other])


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_eviction_is_kept(seed: int) -> None:
    chance = Random(seed)
    balancer = Balancer(make_policy("round_robin"), CONFIG)
    balancer.add_worker(WorkerSpec("http://w"), 0.0)
    prompts: list[list[int]] = []
    for _ in range(600):
        base = chance.choice(prompts)[: chance.randrange(1, 30)] if prompts and chance.random() < 0.7 else []
        prompts.append([*base, *(chance.getrandbits(63) for _ in range(chance.randrange(1, 30)))])
        again = chance.choice(prompts) if chance.random() < 0.4 else prompts[-1]
        blocks = PromptBlocks.from_ids(pack_ids(again))
        balancer.index.insert(0, blocks, balancer.index.match(blocks))
    other = restored(balancer, list(snapshot(balancer, 1.0)), 1.0, CONFIG)
    half = balancer.index.resident(0) // 2
    for index in (balancer.index, other.index):
        index.set_capacity(0, half)
        while index.maintain(1000):
            pass
    for prompt in prompts:
        blocks = PromptBlocks.from_ids(pack_ids(prompt))
        assert other.index.match(blocks).depths == balancer.index.match(blocks).depths, f"seed {seed}"


def test_a_snapshot_in_slices_while_requests_go_on_holds_nothing_that_was_never_there() -> None:
    assert sum(_restored_blocks(seed) for seed in range(6)), "some workers hold something"


def _restored_blocks(seed: int) -> int:
    balancer = Balancer(make_policy("cache_aware"), CONFIG)
    traffic = Traffic(balancer, seed)
    steps = traffic.steps(1500)
    for _ in range(700):
        next(steps)
    frames = []
    for frame in snapshot(balancer, traffic.now):
        frames.append(frame)
        for _ in range(3):
            next(steps)
    other = restored(balancer, [f for f in frames if _is_present(balancer, f)], traffic.now, CONFIG)
    everything: PrefixIndex = other.index
    everything.check_integrity()
    return everything.statistics().blocks


def _is_present(balancer: Balancer, frame: AnyFrame) -> bool:
    return not isinstance(frame, (Prefixes, Capacity)) or frame.worker in balancer.fleet.slot_of


def test_there_is_no_prompt_text_and_no_session_in_clear() -> None:
    balancer = Balancer(make_policy("cache_aware"), CONFIG)
    traffic = Traffic(balancer, 3)
    for _ in traffic.steps(500):
        pass
    data = b"".join(msgspec.msgpack.encode(frame) for frame in snapshot(balancer, traffic.now))
    assert len(balancer.sessions)
    for word in (MARKER, *SESSIONS):
        assert word.encode() not in data


def test_a_session_of_the_former_router_is_known_by_its_clients_name() -> None:
    balancer = Balancer(make_policy("round_robin"), CONFIG)
    for name in ("http://a", "http://b"):
        balancer.add_worker(WorkerSpec(name), 0.0)
    for number in range(3):
        balancer.route(RoutingRequest(number, "m", PromptBlocks(b"", 0), session="ada"), float(number))
    before = balancer.session("ada")
    assert before is not None
    other = restored(balancer, list(snapshot(balancer, 10.0)), 110.0, CONFIG)
    after = other.session("ada")
    assert after is not None
    assert (after.worker, after.turns, after.moves) == (before.worker, before.turns, before.moves)
    assert 110.0 - after.last_seen_at == 10.0 - before.last_seen_at
    assert other.session("grace") is None
    other.route(RoutingRequest(9, "m", PromptBlocks(b"", 0), session="ada"), 120.0)
    again = other.session("ada")
    assert again is not None
    assert again.turns == before.turns + 1


def test_runs_that_do_not_fit_are_refused() -> None:
    restoring = Restoring()
    with pytest.raises(ValueError, match="missing"):
        restoring.read(Prefixes("w", 0.0, 3, [-1], [bytes(8)], [(3, 1)]))
    with pytest.raises(ValueError, match="later"):
        restoring.read(Prefixes("w", 0.0, 0, [0], [bytes(8)], [(0, 1)]))
    with pytest.raises(ValueError, match="whole number of ids"):
        restoring.read(Prefixes("w", 0.0, 0, [-1], [bytes(9)], [(0, 1)]))
    for end in ((1, 1), (-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="ends in no run"):
            restoring.read(Prefixes("w", 0.0, 0, [-1], [bytes(8)], [end]))
    with pytest.raises(ValueError, match="no such run"):
        restoring.path(7, 1)
