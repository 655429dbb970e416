"""What one routing decision costs: parse + hash + match + score + book, in process, without sockets.

    .venv/bin/python bench/decision.py [--quick] [--json FILE]

What is measured. The steps of `warmroute.exchange` from a whole request body to a booked worker: the
dialect's parser, `PromptBlocks`, `Balancer.route` with `cache_aware`. Prompts are OpenAI chats of 128 KB.
The index is full: a million resident blocks over all workers, each worker at its KV capacity, so every
insert evicts as it does in the steady state of a router. Four kinds of request:

    warm     a conversation's next turn: all but the last ~800 bytes are on one worker
    cold     a new conversation behind the system prompt that every worker holds
    unknown  a prompt of which no worker holds a block
    answer   `first_token` and `finish` with the engine's usage: not part of the decision, for the sum

How to read it. Figures are CPU microseconds of one thread: the median over the requests of a repeat, then
the least of the repeats, because everything that disturbs a loop makes it slower and nothing faster; the
medians' spread stands beside it. `quiet` has no request in flight; `busy` has four on every worker, one of
them before its first token, which is what a router in use sees and what the bars are held against.
`growth` is the cost at 256 workers over the cost at 4. The body is put together just before it is timed,
as it comes fresh from the socket in the router; the collector of cycles is off and large buffers stay with
the process, as in the router.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter_ns

from warmroute.dialects import parser_for
from warmroute.malloc import keep_large_buffers
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import BLOCK_BYTES, PromptBlocks, salt_of
from warmroute_policies.registry import make_policy
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerSpec

MODEL = "m"
PROMPT_BYTES = 128 * 1024
SYSTEM_BYTES = 8 * 1024
RESIDENT_BLOCKS = 1_000_000
TURN_BYTES = 800
BYTES_PER_TOKEN = 4
"""What the balancer assumes before an answer tells otherwise; the usage that is fed back agrees with it."""

IN_FLIGHT_PER_WORKER = 4
"""`busy`: one of them has not seen its first token."""

STEP_S = 0.01
"""Virtual time between two requests: 100 requests/s keep 64 workers busy with such prompts."""

PIECE_BYTES = 32
ESCAPE_EVERY_BYTES = 320
"""A newline after every few sentences. A JSON parser skips a string faster where nothing is escaped: source
code, with an escape about every 40 bytes, costs it some 10 µs more at 128 KB."""

BARS_US = {"warm": 45.0, "cold": 120.0, "unknown": 120.0}
GROWTH_BAR = 4.0
FLEETS = (4, 64, 256)
BAR_FLEET = 64
KINDS = ("warm", "cold", "unknown")
PHASES = ("parse", "hash", "match", "rest")


class Writer:
    """Made-up text from a seed, spelled as in JSON: words, and an escaped newline every so many bytes."""

    def __init__(self, seed: int, escape_every_bytes: int) -> None:
        self.chance = Random(seed)
        letters = "etaoinshrdlucmfw"
        pieces = []
        escaped = PIECE_BYTES / escape_every_bytes if escape_every_bytes else 0.0
        for _ in range(4096):
            words = " ".join(
                "".join(self.chance.choices(letters, k=self.chance.randint(2, 9))) for _ in range(9)
            )
            end = "\\n" if self.chance.random() < escaped else " and"
            pieces.append((words[: PIECE_BYTES - len(end)] + end).encode())
        self._pieces = pieces

    def text(self, size: int) -> bytes:
        """About `size` bytes, to a piece."""
        return b"".join(self.chance.choices(self._pieces, k=max(1, size // PIECE_BYTES)))

    def message(self, role: bytes, size: int) -> bytes:
        return b'{"role":"%b","content":"%b"}' % (role, self.text(size))


@dataclass
class Conversation:
    """Messages as they stand in the body, joined by commas."""

    messages: bytes
    body_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.body_bytes = len(self.messages)

    def body(self) -> bytes:
        return (
            b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"temperature":0.2,'
            b'"max_tokens":256,"messages":[%b]}' % self.messages
        )

    def add_turn(self, writer: Writer) -> None:
        """The answer and the next question, together about `TURN_BYTES`."""
        half = TURN_BYTES // 2
        self.messages = b"%b,%b,%b" % (
            self.messages,
            writer.message(b"assistant", half),
            writer.message(b"user", half),
        )


class Bench:
    """One fleet with a full index. State: the balancer, virtual time, the conversations still warm."""

    def __init__(self, workers: int, writer: Writer, resident_blocks: int = RESIDENT_BLOCKS) -> None:
        self.workers = workers
        self.writer = writer
        self.balancer = Balancer(make_policy("cache_aware"))
        self.parse = parser_for("/v1/chat/completions")
        self.salt = salt_of(MODEL, None, None)
        self.now = 0.0
        self.number = 0
        self.misplaced = 0
        self.warm_turns = 0
        per_worker = resident_blocks // workers
        for index in range(workers):
            spec = WorkerSpec(
                f"http://10.0.{index // 250}.{index % 250}:8000",
                models=(MODEL,),
                kv_capacity_tokens=per_worker * BLOCK_BYTES // BYTES_PER_TOKEN,
            )
            self.balancer.add_worker(spec, self.now)
        self.system = self.writer.message(b"system", SYSTEM_BYTES)
        self.warm: list[Conversation] = []
        self._fill(resident_blocks)

    def _fill(self, resident_blocks: int) -> None:
        """Writes. New conversations until every worker is full, then a tenth more so that all evict."""
        conversations = int(1.1 * resident_blocks * BLOCK_BYTES / PROMPT_BYTES)
        for index in range(conversations):
            conversation = self.new_conversation()
            self.answer(self.route(conversation.body()))
            if index >= conversations - 256:
                self.warm.append(conversation)
            if index % 100 == 0:
                self.balancer.tick(self.now)
        while self.balancer.index.maintain(10_000):
            pass

    def new_conversation(self, *, system: bool = True) -> Conversation:
        """Messages of a few hundred bytes, as a chat or an agent has them."""
        pieces = [self.system if system else self.writer.message(b"system", SYSTEM_BYTES)]
        size = len(pieces[0])
        while size < PROMPT_BYTES - TURN_BYTES:
            pieces.append(self.writer.message(b"user" if len(pieces) % 2 else b"assistant", TURN_BYTES))
            size += len(pieces[-1]) + 1
        return Conversation(b",".join(pieces))

    def make_busy(self) -> None:
        """Writes. Requests that stay in flight on every worker, of which one waits for its first token."""
        for _ in range(IN_FLIGHT_PER_WORKER):
            for _ in range(self.workers):
                decision = self.route(self.new_conversation().body())
                if self.number % IN_FLIGHT_PER_WORKER:
                    self.balancer.first_token(decision.request_id, self.now)

    # --- a request's way, as in `warmroute.exchange` -----------------------------------------------

    def route(self, body: bytes) -> Decision:
        """Writes. From a whole body to a booked worker: what is timed."""
        assert self.parse is not None
        parsed = self.parse(body)
        self.number += 1
        request = RoutingRequest(
            self.number,
            parsed.model,
            PromptBlocks(parsed.material, self.salt),
            None,
            parsed.max_tokens,
            parsed.session,
            parsed.priority,
            parsed.stream,
        )
        decision = self.balancer.route(request, self.now)
        self.now += STEP_S
        return decision

    def phases(self, body: bytes) -> tuple[Decision, list[int]]:
        """Writes. `route` with a look at the clock between its steps, in ns: parse, hash, match, rest.

        `hash` is the coarse chain; the blocks of the stretch that diverges are hashed when the index asks
        for them, inside match and rest. Match is done twice, the second time within route.
        """
        assert self.parse is not None
        began = perf_counter_ns()
        parsed = self.parse(body)
        after_parse = perf_counter_ns()
        blocks = PromptBlocks(parsed.material, self.salt)
        blocks.stretch_ids()
        after_hash = perf_counter_ns()
        self.balancer.index.match(blocks)
        after_match = perf_counter_ns()
        self.number += 1
        request = RoutingRequest(
            self.number, parsed.model, blocks, None, parsed.max_tokens, None, 0, parsed.stream
        )
        again = perf_counter_ns()
        decision = self.balancer.route(request, self.now)
        ended = perf_counter_ns()
        match_ns = after_match - after_hash
        self.now += STEP_S
        return decision, [
            after_parse - began,
            after_hash - after_parse,
            match_ns,
            max(0, ended - again - match_ns),
        ]

    def answer(self, decision: Decision) -> None:
        """Writes. The first token came, and the whole answer with the engine's counts."""
        balancer = self.balancer
        balancer.first_token(decision.request_id, self.now)
        usage = Usage(
            decision.prompt_tokens, TURN_BYTES // 2 // BYTES_PER_TOKEN, decision.predicted_hit_tokens
        )
        balancer.finish(decision.request_id, Outcome.OK, usage, self.now)

    # --- measuring -----------------------------------------------------------------------------------

    def body(self, kind: str, index: int) -> bytes:
        """Writes. The next request of a kind."""
        if kind == "warm":
            conversation = self.warm[index % len(self.warm)]
            if len(conversation.messages) > PROMPT_BYTES * 33 // 32:  # keeps "128 KB" true
                conversation = self.warm[index % len(self.warm)] = self.new_conversation()
                self.answer(self.route(conversation.body()))
            conversation.add_turn(self.writer)
        else:
            conversation = self.new_conversation(system=kind == "cold")
        return conversation.body()

    def check(self, kind: str, decision: Decision) -> None:
        """Writes. A warm turn must have gone where its conversation is, or it was not one."""
        if kind == "warm":
            self.warm_turns += 1
            if decision.predicted_hit_tokens < 0.95 * decision.prompt_tokens:
                self.misplaced += 1

    def sample(self, kind: str, count: int) -> tuple[float, float]:
        """Writes. Medians in µs of the decision, and of what follows it, over `count` requests."""
        decisions, answers = [], []
        for index in range(count):
            body = self.body(kind, index)
            began = perf_counter_ns()
            decision = self.route(body)
            decided = perf_counter_ns()
            self.answer(decision)
            answers.append(perf_counter_ns() - decided)
            decisions.append(decided - began)
            self.check(kind, decision)
        self.balancer.tick(self.now)
        return median(decisions) / 1000, median(answers) / 1000

    def breakdown(self, kind: str, count: int) -> dict[str, float]:
        """Writes. Median µs of each step."""
        rows = []
        for index in range(count):
            decision, phases_ns = self.phases(self.body(kind, index))
            self.answer(decision)
            rows.append(phases_ns)
        return {name: median(row[at] for row in rows) / 1000 for at, name in enumerate(PHASES)}


def measure(workers: int, count: int, repeats: int, writer: Writer) -> dict[str, object]:
    """All figures of one fleet size, quiet and busy."""
    gc.collect()
    bench = Bench(workers, writer)
    gc.freeze()
    figures: dict[str, object] = {"workers": workers}
    for state in ("quiet", "busy"):
        if state == "busy":
            bench.make_busy()
        for kind in KINDS:
            bench.sample(kind, count // 4)  # warms caches, branch predictors and the interpreter
            samples = [bench.sample(kind, count) for _ in range(repeats)]
            decisions = [sample[0] for sample in samples]
            figures[f"{state}.{kind}"] = {
                "us": min(decisions),
                "worst_repeat_us": max(decisions),
                "answer_us": min(sample[1] for sample in samples),
                "phases_us": bench.breakdown(kind, count // 2),
            }
    statistics = bench.balancer.statistics().index
    figures["resident_blocks"] = statistics.blocks
    figures["index_bytes_per_block"] = statistics.bytes / max(1, statistics.blocks)
    figures["warm_turns_misplaced"] = bench.misplaced / max(1, bench.warm_turns)
    return figures


def report(fleets: dict[int, dict[str, object]], say: Callable[[str], None]) -> dict[str, object]:
    """Prints the table; returns the bars as {name: {"value", "bar", "held"}}."""
    say(f"{'workers':>7} {'state':<6} {'request':<8} {'µs':>7} {'spread':>15} {'answer':>7}   "
        + " ".join(f"{name:>7}" for name in PHASES))  # fmt: skip
    cost: dict[tuple[int, str], float] = {}
    for workers, figures in fleets.items():
        for state in ("quiet", "busy"):
            for kind in KINDS:
                row = figures[f"{state}.{kind}"]
                assert isinstance(row, dict)
                if state == "busy":
                    cost[workers, kind] = row["us"]
                phases = " ".join(f"{row['phases_us'][name]:>7.1f}" for name in PHASES)
                spread = f"{row['us']:.1f}-{row['worst_repeat_us']:.1f}"
                say(
                    f"{workers:>7} {state:<6} {kind:<8} {row['us']:>7.1f} {spread:>15} "
                    f"{row['answer_us']:>7.1f}   {phases}"
                )
        say(
            f"        {figures['resident_blocks']:,} resident blocks, by the index's own estimate "
            f"{figures['index_bytes_per_block']:.0f} bytes each; "
            f"warm turns away from their worker: {figures['warm_turns_misplaced']:.1%}"
        )
    bars: dict[str, object] = {}
    for kind, bar in BARS_US.items():
        value = cost[BAR_FLEET, kind]
        bars[f"{kind}_us"] = {"value": value, "bar": bar, "held": value <= bar}
    if {4, 256} <= fleets.keys():
        for kind in KINDS:
            value = cost[256, kind] / cost[4, kind]
            bars[f"growth_{kind}"] = {"value": value, "bar": GROWTH_BAR, "held": value <= GROWTH_BAR}
    for name, bar_row in bars.items():
        assert isinstance(bar_row, dict)
        verdict = "held" if bar_row["held"] else "MISSED"
        say(f"{name:<16} {bar_row['value']:>7.2f}   at most {bar_row['bar']:g}   {verdict}")
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="64 workers only, fewer requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts' text")
    parser.add_argument(
        "--escape-every",
        type=int,
        default=ESCAPE_EVERY_BYTES,
        metavar="BYTES",
        help=f"an escaped newline in the prompts' text; 0: none [{ESCAPE_EVERY_BYTES}]",
    )
    options = parser.parse_args()
    fleets = (BAR_FLEET,) if options.quick else FLEETS
    count, repeats = (100, 3) if options.quick else (200, 5)
    gc.disable()
    keep_large_buffers()
    figures = {
        workers: measure(workers, count, repeats, Writer(options.seed, options.escape_every))
        for workers in fleets
    }
    bars = report(figures, print)
    if options.json is not None:
        document = {
            "bars": bars,
            "fleets": figures,
            "seed": options.seed,
            "escape_every_bytes": options.escape_every,
            "python": platform.python_version(),
            "machine": platform.processor() or platform.machine(),
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
