"""Where earlier prompts ended is found for whoever goes on from there, and for nobody else."""

from __future__ import annotations

import random

import pytest

from tokens.standin_places import place_at
from warmroute.tokens.memory import Memory
from warmroute_policies.blocks import PromptBlocks

SEEDS = range(5)
ALL = 1 << 20


def material(chance: random.Random, pieces: list[bytes]) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


def message(chance: random.Random) -> bytes:
    return b'{"c":"' + bytes(chance.choices(b"abc \n", k=chance.choice((3, 40, 700, 9000)))) + b'"}'


@pytest.mark.parametrize("seed", SEEDS)
def test_the_longest_of_the_ends_that_a_prompt_goes_on_from_is_found(seed: int) -> None:
    """Beside a list of all prompts that were kept, looked through one by one."""
    chance = random.Random(seed)
    memory = Memory(1 << 30)
    kept: dict[tuple[bytes, object], object] = {}
    conversations: list[list[bytes]] = [[message(chance)] for _ in range(3)]
    for _ in range(120):
        pieces = list(chance.choice(conversations))
        pieces += [message(chance) for _ in range(chance.randrange(3))]
        if chance.random() < 0.2 and len(pieces) > 1:
            pieces = pieces[: chance.randrange(1, len(pieces))]
        conversations.append(pieces)
        text, options = material(chance, pieces), (chance.randrange(2),)
        blocks = PromptBlocks(text, 7)
        ends = [
            (len(prefix), place)
            for (prefix, of), place in kept.items()
            if of == options and text.startswith(prefix + b",") and len(prefix) >= 512
        ]
        expected = max(ends, default=(0, None), key=lambda end: end[0])[1]
        assert memory.find(blocks, text, options, ALL) is expected, f"seed {seed}"
        place = place_at(len(text) - 1, options)
        memory.keep(place, None, blocks, text)
        kept[text[:-1], options] = place
        for other in [key for key in kept if key[0] == text[:-1] and key[1] != options]:
            del kept[other]  # one place, one prompt


def test_the_memory_is_bounded_and_forgets_what_was_not_used() -> None:
    chance = random.Random(1)
    memory = Memory(20_000)
    used = [message(chance) + b"," + b'{"c":"' + b"u" * 2000 + b'"}']
    text = material(chance, used)
    memory.keep(place_at(len(text) - 1, ()), None, PromptBlocks(text, 7), text)
    longer = text[:-1] + b',{"c":"more"}]'
    for number in range(100):
        other = material(chance, [b'{"c":"%d' % number + b"o" * 1000 + b'"}'])
        memory.keep(place_at(len(other) - 1, ()), None, PromptBlocks(other, 7), other)
        assert memory.bytes <= 20_000
        assert memory.find(PromptBlocks(longer, 7), longer, (), ALL) is not None
    assert 1 < len(memory) < 20


def test_of_a_conversation_the_last_two_ends_stay() -> None:
    memory = Memory(1 << 30)
    text, before = b'[{"c":"' + b"a" * 1000 + b'"}', None
    for turn in range(10):
        whole = text + b"]"
        place = place_at(len(text), ())
        memory.keep(place, before, PromptBlocks(whole, 7), whole)
        before = place
        text += b',{"c":"%d"}' % turn
    assert len(memory) == 2


def test_a_short_prompt_is_not_worth_remembering() -> None:
    memory = Memory(1 << 30)
    text = b'[{"c":"a"}]'
    memory.keep(place_at(len(text) - 1, ()), None, PromptBlocks(text, 7), text)
    assert len(memory) == 0


def test_far_behind_its_end_a_prompt_is_not_looked_through_on_the_loop() -> None:
    memory = Memory(1 << 30)
    text = b'[{"c":"' + b"a" * 1000 + b'"}'
    memory.keep(place_at(len(text), ()), None, PromptBlocks(text + b"]", 7), text + b"]")
    longer = text + b',{"c":"' + b"b" * 100_000 + b'"}]'
    assert memory.find(PromptBlocks(longer, 7), longer, (), 4) is None
    assert memory.find(PromptBlocks(longer, 7), longer, (), ALL) is not None


def test_clearing_leaves_nothing() -> None:
    memory = Memory(1 << 30)
    text = b'[{"c":"' + b"a" * 1000 + b'"}'
    memory.keep(place_at(len(text), ()), None, PromptBlocks(text + b"]", 7), text + b"]")
    memory.clear()
    longer = text + b",1]"
    assert (len(memory), memory.bytes) == (0, 0)
    assert memory.find(PromptBlocks(longer, 7), longer, (), ALL) is None
