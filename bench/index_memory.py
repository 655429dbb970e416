"""What the prefix index costs: memory per resident block, time per call, and its worst call.

    python bench/index_memory.py            # 1M resident blocks on 64 workers, about 90 s
    python bench/index_memory.py --quick    # a tenth of it
    python bench/index_memory.py --json FILE

Each workload runs in a process of its own, fills the index, churns it at fixed capacity for as long
again, and prints

    pairs      resident (worker, block) pairs, and how many distinct blocks that is
    B/pair     growth of the process's RSS over pairs; in brackets the index's own estimate
    churn      growth of RSS during the second churn: what leaks or fragments
    match, insert, maintain   µs: median, 99.99th percentile, maximum over the churn

Times are CPU time of the thread, so that other processes do not count; the clock itself costs 0.4 µs.
What interrupts add is in `idle`, the worst step of an empty loop of the same length. Ids are ready-made
here; the second table has hashing, on real bytes.

Limits that the index is built for: 80 B/pair in every row, no call above 1 ms, a warm turn of a 128 KB
conversation 3 µs to match and 3 µs to insert (10 µs with hashing), a cold 128 KB prompt 50 µs in all.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.index import PrefixIndex

WORKERS = 64

Request = tuple[int, PromptBlocks]


class Timings:
    """Seconds in an array that is there before RSS is taken; the last ones, if they are too many."""

    def __init__(self, room: int) -> None:
        self._seconds = array("d", [0.0]) * room
        self.count = 0

    def add(self, seconds: float) -> None:
        self._seconds[self.count % len(self._seconds)] = seconds
        self.count += 1

    def values(self) -> list[float]:
        return self._seconds[: self.count].tolist()


def conversations(chance: random.Random, pairs: int) -> Iterator[Request]:
    """128 KB and growing by 1 KB a turn, on 20 system prompts of 8 KB; each stays with its worker.

    Sixteen turns, then it ends; a twentieth of the turns goes to another worker.
    """
    systems = [chance.randbytes(8 * 16) for _ in range(20)]
    alive: list[tuple[int, bytes, int]] = []
    target = pairs // 256
    while True:
        if len(alive) < target:
            alive.append((chance.randrange(WORKERS), chance.choice(systems) + chance.randbytes(8 * 224), 0))
            at = len(alive) - 1
        else:
            at = chance.randrange(target)
        slot, ids, turns = alive[at]
        if turns == 16:
            slot, turns = chance.randrange(WORKERS), 0
            ids = chance.choice(systems) + chance.randbytes(8 * 224)
        elif chance.random() < 0.05:
            slot = chance.randrange(WORKERS)
        ids += chance.randbytes(8 * 2)
        alive[at] = (slot, ids, turns + 1)
        yield slot, PromptBlocks.from_ids(ids)


def shared_prefixes(question_blocks: tuple[int, int]) -> Callable[[random.Random, int], Iterator[Request]]:
    """150 prefixes of 24 KB, each on 4 workers, and questions that come once."""

    def requests(chance: random.Random, pairs: int) -> Iterator[Request]:
        prefixes = [(chance.randbytes(8 * 48), chance.sample(range(WORKERS), 4)) for _ in range(150)]
        while True:
            prefix, slots = chance.choice(prefixes)
            question = chance.randbytes(8 * chance.randint(*question_blocks))
            yield chance.choice(slots), PromptBlocks.from_ids(prefix + question)

    return requests


def unique_prompts(chance: random.Random, pairs: int) -> Iterator[Request]:
    """4 to 8 KB that share nothing."""
    while True:
        yield chance.randrange(WORKERS), PromptBlocks.from_ids(chance.randbytes(8 * chance.randint(8, 16)))


WORKLOADS: dict[str, Callable[[random.Random, int], Iterator[Request]]] = {
    "128 KB conversations": conversations,
    "24 KB prefix, 4.5 KB question": shared_prefixes((8, 10)),
    "24 KB prefix, 2 KB question": shared_prefixes((3, 5)),
    "24 KB prefix, 1 KB question": shared_prefixes((1, 3)),
    "unique 4-8 KB": unique_prompts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100,000 resident blocks")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--workload", choices=WORKLOADS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pairs = 100_000 if arguments.quick else 1_000_000
    if arguments.workload:
        print(json.dumps(measure_churn(arguments.workload, pairs)))
        return
    rows = []
    print(f"{'workload':30} {'pairs':>9} {'unique':>9} {'nodes':>8} {'B/pair':>13} {'churn':>8}  "
          f"{'match µs':>19}  {'insert µs':>19}  {'maintain':>9}  {'idle':>6}")  # fmt: skip
    for name in WORKLOADS:
        command = [sys.executable, __file__, "--workload", name, *(["--quick"] if arguments.quick else [])]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        print(f"{name:30} {row['pairs']:9,} {row['unique']:9,} {row['nodes']:8,} "
              f"{row['rss_per_pair']:6.1f} ({row['estimate_per_pair']:4.1f}) {row['churn_mib']:+5.1f} MB  "
              f"{_three(row['match_us'])}  {_three(row['insert_us'])}  {row['maintain_max_us']:9.0f}  "
              f"{row['idle_max_us']:6.0f}")  # fmt: skip
    print()
    hashing = measure_hashing(pairs)
    for name, microseconds in hashing.items():
        print(f"{name:64} {microseconds:6.1f} µs")
    if arguments.json:
        arguments.json.write_text(json.dumps({"churn": rows, "hashing_us": hashing}, indent=2))


def measure_churn(name: str, pairs: int) -> dict[str, Any]:
    """Fills an index of `WORKERS` slots with `pairs` blocks, then churns it and measures."""
    gc.disable()
    chance = random.Random(name)
    index = PrefixIndex()
    for slot in range(WORKERS):
        index.set_capacity(slot, pairs // WORKERS)
    requests = WORKLOADS[name](chance, pairs)
    match_s, insert_s, maintain_s = Timings(pairs), Timings(pairs), Timings(pairs)
    clock = time.thread_time

    def churn(blocks: int) -> None:
        for timings in (match_s, insert_s, maintain_s):
            timings.count = 0
        goal = index.statistics().evicted_blocks_total + blocks
        full = blocks == 0
        done = 0
        while True:
            slot, prompt = next(requests)
            prompt.stretch_ids()
            before = clock()
            match = index.match(prompt)
            matched = clock()
            index.insert(slot, prompt, match)
            inserted = clock()
            match_s.add(matched - before)
            insert_s.add(inserted - matched)
            done += 1
            if done % 64 == 0:
                before = clock()
                index.maintain()
                maintain_s.add(clock() - before)
            if done % 1024 == 0:
                statistics = index.statistics()
                if statistics.blocks > 0.97 * pairs if full else statistics.evicted_blocks_total > goal:
                    return

    base = _rss()
    churn(0)
    churn(pairs)
    first = _rss()
    statistics = index.statistics()
    churn(pairs)
    second = _rss()
    index.check_integrity()
    return {
        "workload": name,
        "pairs": statistics.blocks,
        "unique": statistics.unique_blocks,
        "nodes": statistics.nodes,
        "rss_per_pair": (first - base) / statistics.blocks,
        "estimate_per_pair": statistics.bytes / statistics.blocks,
        "churn_mib": (second - first) / 2**20,
        "match_us": _quantiles(match_s.values()),
        "insert_us": _quantiles(insert_s.values()),
        "maintain_max_us": max(maintain_s.values()) * 1e6,
        "idle_max_us": _idle_pause(sum(match_s.values()) + sum(insert_s.values())) * 1e6,
    }


def measure_hashing(pairs: int) -> dict[str, float]:
    """Median µs of whole calls on real bytes, in an index as full as the others."""
    gc.disable()
    chance = random.Random(0)
    index = PrefixIndex()
    for slot in range(WORKERS):
        index.set_capacity(slot, pairs // WORKERS)
    requests = conversations(chance, pairs)
    while index.statistics().blocks < 0.97 * pairs:
        for _ in range(1000):
            slot, prompt = next(requests)
            index.insert(slot, prompt, index.match(prompt))
    text = chance.randbytes(8192)
    for slot in range(WORKERS):  # every worker holds the system prompt
        prompt = PromptBlocks(text, 1)
        index.insert(slot, prompt, index.match(prompt))
    clock = time.perf_counter
    warm_all, warm_match, warm_insert, cold = [], [], [], []
    for _ in range(400):
        material = text + chance.randbytes(120 * 1024)
        slot = chance.randrange(WORKERS)
        before = clock()
        prompt = PromptBlocks(material, 1)
        index.insert(slot, prompt, index.match(prompt))
        cold.append(clock() - before)
        material += chance.randbytes(1024)
        for _ in range(20):  # others come between
            other, prompt = next(requests)
            index.insert(other, prompt, index.match(prompt))
        before = clock()
        prompt = PromptBlocks(material, 1)
        index.insert(slot, prompt, index.match(prompt))
        warm_all.append(clock() - before)
        material += chance.randbytes(1024)
        prompt = PromptBlocks(material, 1)
        prompt.ids(240, prompt.count)
        before = clock()
        match = index.match(prompt)
        matched = clock()
        index.insert(slot, prompt, match)
        warm_match.append(matched - before)
        warm_insert.append(clock() - matched)
    return {
        "warm turn of a 128 KB conversation: match, without hashing": _median(warm_match),
        "warm turn of a 128 KB conversation: insert, without hashing": _median(warm_insert),
        "warm turn of a 128 KB conversation: hash, match and insert": _median(warm_all),
        "cold 128 KB prompt on a shared system prompt: hash, match, insert": _median(cold),
    }


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _median(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2] * 1e6


def _quantiles(seconds: list[float]) -> tuple[float, float, float]:
    ordered = sorted(seconds)
    return _median(seconds), ordered[int(len(ordered) * 0.9999)] * 1e6, ordered[-1] * 1e6


def _three(microseconds: tuple[float, float, float]) -> str:
    return "{:5.1f} {:6.0f} {:6.0f}".format(*microseconds)


def _idle_pause(for_s: float) -> float:
    """The longest step of a loop that does nothing: what the machine itself adds to a worst call."""
    clock, worst = time.thread_time, 0.0
    last = start = clock()
    while last - start < for_s:
        now = clock()
        worst = max(worst, now - last)
        last = now
    return worst


if __name__ == "__main__":
    main()
