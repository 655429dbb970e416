"""What it costs to keep a router's knowledge: size, time, and the longest time that the event loop is taken.

    python bench/state.py                   # 1M blocks on 16 workers
    python bench/state.py --blocks 100000

Times are CPU time of the thread, with the collector of cycles off, as in a router.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Iterator

import msgspec

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.keeping import Restoring, restore_prefixes, snapshot
from warmroute_policies.registry import make_policy
from warmroute_policies.state import AnyFrame, Prefixes
from warmroute_policies.types import WorkerSpec

WORKERS = 16


def fleet() -> Balancer:
    balancer = Balancer(make_policy("cache_aware"))
    for number in range(WORKERS):
        balancer.add_worker(WorkerSpec(f"http://worker-{number}:8000"), 0.0)
    return balancer


def fill(balancer: Balancer, blocks: int) -> None:
    """Conversations on a system prompt of 12 blocks; they grow, most on one worker, and end."""
    chance, system = random.Random(1), random.Random(0).randbytes(8 * 12)
    alive: list[tuple[int, bytes]] = []
    while balancer.index.statistics().blocks < blocks:
        if alive and chance.random() < 0.7:
            at = chance.randrange(len(alive))
            slot, ids = alive[at]
            alive[at] = slot, ids + chance.randbytes(8 * chance.randrange(1, 12))
        else:
            at = len(alive)
            alive.append((chance.randrange(WORKERS), system + chance.randbytes(8 * chance.randrange(5, 60))))
        slot, ids = alive[at]
        if chance.random() < 0.05:
            slot = chance.randrange(WORKERS)
        prompt = PromptBlocks.from_ids(ids)
        balancer.index.insert(slot, prompt, balancer.index.match(prompt))


def timed(steps: Iterator[object], each: Callable[[object], None] = lambda step: None) -> tuple[float, float]:
    """Seconds in all, and of the longest step."""
    began = before = time.thread_time()
    longest = 0.0
    for step in steps:
        each(step)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return before - began, longest


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to keep a router's knowledge.")
    parser.add_argument("--blocks", type=int, default=1_000_000)
    gc.disable()
    balancer = fleet()
    fill(balancer, parser.parse_args().blocks)
    held = balancer.index.statistics()
    encode, pieces = msgspec.msgpack.Encoder().encode, list[bytes]()
    seconds, longest = timed(snapshot(balancer, 1.0), lambda frame: pieces.append(encode(frame)))
    size = sum(map(len, pieces))
    print(f"{held.blocks:,} blocks in {held.nodes:,} runs: {size / 1e6:.1f} MB in {len(pieces):,} frames")
    print(f"written in {seconds:.2f} s, longest slice {longest * 1e3:.2f} ms")
    other, restoring, decode = fleet(), Restoring(), msgspec.msgpack.Decoder(AnyFrame).decode

    def restore() -> Iterator[object]:
        for piece in pieces:
            frame = decode(piece)
            if isinstance(frame, Prefixes):
                restoring.read(frame)
                yield from restore_prefixes(other, restoring, frame, 1.0)

    seconds, longest = timed(restore())
    same = "all" if other.index.statistics().blocks == held.blocks else "NOT all"
    print(f"restored in {seconds:.2f} s, longest slice {longest * 1e3:.2f} ms, {same} blocks")


if __name__ == "__main__":
    main()
