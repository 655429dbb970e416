"""The decode batch counts for its sequences what each of them would count for itself."""

from __future__ import annotations

import random

import pytest

from warmroute_simulator.engine import EngineRequest, PagedCache
from warmroute_simulator.engine.decode_batch import DecodeBatch
from warmroute_simulator.engine.sequence import Sequence


class Counted:
    """What a sequence has, counted step by step."""

    def __init__(self, sequence: Sequence) -> None:
        self.computed = sequence.computed
        self.generated = sequence.generated
        self.joined = 0


@pytest.mark.parametrize("seed", range(12))
def test_joining_leaving_and_jumping_agree_with_counting_every_token(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    block = chance.choice((1, 2, 5, 16))
    cache = PagedCache(100_000)
    batch = DecodeBatch(cache, block)
    naive: dict[Sequence, Counted] = {}
    next_id = 0
    for _ in range(300):
        for _ in range(chance.randrange(3)):
            next_id += 1
            output = chance.randint(2, 60)
            sequence = Sequence(EngineRequest(next_id, chance.randint(1, 99), output, []), 0.0, 0.0)
            sequence.lease = cache.acquire([], 0)
            cache.grow(sequence.lease, 0, sequence.prompt_tokens, block)
            sequence.computed = sequence.held = sequence.prompt_tokens
            sequence.generated = 1
            batch.join(sequence)
            naive[sequence] = Counted(sequence)
        if naive and chance.random() < 0.2:
            gone = chance.choice(list(naive))
            batch.leave(gone)
            told = naive.pop(gone)
            assert (gone.computed, gone.generated, gone.held) == (
                told.computed,
                told.generated,
                told.computed,
            )
            cache.release(gone.lease, gone.held, block)
        if not naive:
            continue
        to_end = min(sequence.output_tokens - told.generated for sequence, told in naive.items())
        assert batch.steps_to_end() == to_end
        assert batch.opens() == sum(told.computed % block == 0 for told in naive.values())
        steps = chance.randint(1, to_end)
        taken = [
            sum(-(-(told.computed + ahead) // block) - -(-told.computed // block) for told in naive.values())
            for ahead in range(steps + 1)
        ]
        before = cache.available
        for sequence in batch.opening():
            assert batch.grow(sequence)
        batch.tick()
        assert before - cache.available == taken[1]
        enough = chance.randint(0, taken[-1])
        assert batch.steps_in(enough, steps - 1) == max(
            ahead for ahead in range(steps) if taken[ahead + 1] - taken[1] <= enough
        )
        batch.grow_through(steps - 1)
        assert before - cache.available == taken[-1]
        batch.settled += steps
        for told in naive.values():
            told.computed += steps
            told.generated += steps
        assert batch.context_tokens == sum(told.computed for told in naive.values())
        assert batch.size == len(naive) == len(batch.sequences())
        done = [sequence for sequence, told in naive.items() if told.generated == sequence.output_tokens]
        for expected in done:  # in the order in which they joined
            assert batch.pop_ended() is expected
            told = naive.pop(expected)
            assert (expected.computed, expected.generated) == (told.computed, expected.output_tokens)
            cache.release(expected.lease, expected.held, block)
        assert batch.pop_ended() is None
        assert cache.in_use == sum(-(-told.computed // block) for told in naive.values())
