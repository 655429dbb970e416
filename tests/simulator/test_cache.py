"""The paged cache against a naive model, operation by operation."""

from __future__ import annotations

import random

import pytest

from warmroute_simulator.engine import PagedCache, block_keys
from warmroute_simulator.engine.cache import KeyChange, Lease

BLOCK = 4


class NaiveCache:
    """The same cache, written the slow and obvious way: one record per resident block."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.private = 0
        self.users: dict[int, int] = {}
        self.released_at: dict[int, int] = {}
        self.clock = 0

    def hit_blocks(self, keys: list[int], limit: int) -> int:
        count = 0
        for key in keys[:limit]:
            if key not in self.users:
                break
            count += 1
        return count

    def room(self) -> int:
        return self.capacity - self.private - sum(1 for users in self.users.values() if users)

    def use(self, keys: list[int]) -> None:
        for key in keys:
            self.users[key] = self.users.get(key, 0) + 1

    def take(self, blocks: int) -> bool:
        if blocks > self.room():
            return False
        while self.capacity - self.private - len(self.users) < blocks:
            idle = [key for key, users in self.users.items() if not users]
            del self.users[min(idle, key=self.released_at.__getitem__)]
        self.private += blocks
        return True

    def fill(self, key: int) -> None:
        self.private -= 1
        self.use([key])

    def release(self, keys: list[int], private: int) -> None:
        self.private -= private
        for key in reversed(keys):
            self.users[key] -= 1
            self.clock += 1
            self.released_at[key] = self.clock

    def clear(self) -> None:
        self.users = {key: users for key, users in self.users.items() if users}


class Told:
    """What somebody knows of a cache who hears of its changes alone."""

    def __init__(self) -> None:
        self.resident: dict[int, int] = {}
        """Blocks, and those before them; 0: none."""

    def hear(self, changes: list[KeyChange]) -> None:
        for change in changes:
            for place in range(change.first, change.last):
                key = change.keys[place]
                if change.stored:
                    before = change.keys[place - 1] if place else 0
                    assert key not in self.resident
                    assert not before or before in self.resident
                    self.resident[key] = before
                else:
                    del self.resident[key]
                    assert key not in self.resident.values(), "a block went before one that extends it"


def accounts(cache: PagedCache) -> int:
    return cache.free + cache.private + cache.referenced + cache.evictable


def prompts_that_share(chance: random.Random) -> bytes:
    """Prompts that branch: a few roots, each with a few middles, each with a few tails."""
    pieces = [chance.randrange(3), 10 + chance.randrange(4), 100 + chance.randrange(6)]
    tokens = b"".join(piece.to_bytes(4, "little") * chance.choice((3, 5, 9)) for piece in pieces)
    return tokens[: 4 * chance.randint(1, len(tokens) // 4)]


@pytest.mark.parametrize("capacity", [6, 17, 60])
def test_hits_evictions_changes_and_accounts_equal_a_naive_model_over_10_000_operations(
    capacity: int,
) -> None:
    seed = 7 * capacity
    print(f"seed {seed}")
    chance = random.Random(seed)
    cache, naive = PagedCache(capacity), NaiveCache(capacity)
    cache.changes, told = [], Told()
    live: list[tuple[Lease, list[int], int]] = []
    for _ in range(10_000):
        action = chance.random()
        if action < 0.45:
            tokens = prompts_that_share(chance)
            keys, length = block_keys(tokens, BLOCK), len(tokens) // 4
            hits = cache.match(keys, (length - 1) // BLOCK)
            assert hits == naive.hit_blocks(keys, (length - 1) // BLOCK)
            new = -(-length // BLOCK) - hits
            idle_hits = sum(1 for key in keys[:hits] if not naive.users[key])
            fits = cache.fits(keys, hits, new)
            assert fits == (new + idle_hits <= naive.room())
            if fits:
                lease = cache.acquire(keys, hits)
                naive.use(keys[:hits])
                assert cache.grow(lease, hits * BLOCK, length, BLOCK) == naive.take(new)
                for key in keys[hits:]:
                    naive.fill(key)
                live.append((lease, keys, length))
        elif action < 0.6 and live:
            index = chance.randrange(len(live))
            lease, keys, length = live[index]
            grown = length + chance.randint(1, 6)
            wanted = -(-grown // BLOCK) + (-length // BLOCK)
            # The new tokens have no keys: such blocks stay private to their sequence.
            took = cache.grow(lease, length, grown, BLOCK)
            assert took == naive.take(wanted)
            if took:
                live[index] = (lease, keys, grown)
        elif action < 0.98 and live:
            lease, keys, length = live.pop(chance.randrange(len(live)))
            cache.release(lease, length, BLOCK)
            naive.release(keys, -(-length // BLOCK) - len(keys))
        elif action >= 0.98:
            cache.clear()
            naive.clear()
        told.hear(cache.changes)
        cache.changes = []
        assert told.resident.keys() == naive.users.keys()
        assert accounts(cache) == capacity
        assert (cache.private, cache.referenced) == (naive.private, sum(1 for u in naive.users.values() if u))
        assert cache.evictable == sum(1 for users in naive.users.values() if not users)
    assert cache.evictions > 100


def test_what_a_longer_prompt_added_is_evicted_before_the_prefix_it_extends() -> None:
    cache = PagedCache(4)
    tokens = b"".join(token.to_bytes(4, "little") for token in range(16))
    keys = block_keys(tokens, BLOCK)
    lease = cache.acquire(keys, 0)
    cache.grow(lease, 0, 16, BLOCK)
    cache.release(lease, 16, BLOCK)
    other = block_keys(tokens[::-1], BLOCK)
    cache.grow(cache.acquire(other, 0), 0, 8, BLOCK)
    assert cache.match(keys, 4) == 2
    assert cache.evictions == 2


def test_keys_are_equal_up_to_the_first_difference_and_never_after_it() -> None:
    one = bytes(range(256))
    two = one[:100] + b"X" + one[101:]
    first, second = block_keys(one, 4), block_keys(two, 4)
    assert first[:6] == second[:6]
    assert not set(first[6:]) & set(second[6:])
    assert not set(first) & set(block_keys(one, 4, salt="tenant"))
