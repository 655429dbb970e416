"""Seeded traffic through a router, and how much of each prompt it expected to be cached beside what was.

Requests go one after the other: what is measured is what the router knows, not who was first. The same
traffic serves both ways of knowing: by belief (approximate) and by what engines tell (exact).
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Final

import httpx

from e2e.asking import Answer, Message, ask, assistant, prose, system, user
from live.processes import Router

APPROXIMATE: Final = "approximate"
EXACT: Final = "exact"


@cache
def knows_kv_events() -> bool:
    """Whether this router can be told by engines what they hold."""
    said = subprocess.run(
        [sys.executable, "-m", "warmroute", "serve", "--help"], check=True, capture_output=True, text=True
    )
    return "--kv-events" in said.stdout and "--tokenizer" in said.stdout


def flags(mode: str, home: Path) -> tuple[str, ...]:
    """What a router is started with in this mode."""
    if mode == APPROXIMATE:
        return ()
    # A busy machine may take its time; what is measured is what was known, not when.
    patient = ("--tokenizer-timeout-s", "10")
    return ("--kv-events", "auto", "--tokenizer", str(home / "tiny-llama"), *patient)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the traffic, and its answer."""

    kind: str
    known_before: bool
    """Whether some of its prompt had been sent before."""
    answer: Answer


def _nothing(_: Answer) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Turn:
    """One request to come: its messages as they are then, and what its answer changes."""

    kind: str
    known_before: bool
    messages: list[Message]
    answered: Callable[[Answer], None] = _nothing


def conversations(seed: str) -> list[list[Turn]]:
    """Conversations that grow, first turns behind a shared system prompt, prompts that repeat. The turns of
    each list are in order; lists are independent."""
    lists = [_growing(f"{seed} growing {number}") for number in range(3)]
    for number in range(2):
        instructions = system(prose(f"{seed} instructions {number}", 3000))
        prompts = [user(prose(f"{seed} shared {number}.{index}", 700)) for index in range(4)]
        lists.append([Turn("shared", bool(index), [instructions, one]) for index, one in enumerate(prompts)])
    for number in range(4):
        messages = [user(prose(f"{seed} repeated {number}", 1500 + 900 * number))]
        lists.append([Turn("repeated", again, messages) for again in (False, True, True)])
    return lists


def _growing(seed: str) -> list[Turn]:
    messages = [user(prose(seed, 2200))]

    def grow(answer: Answer) -> None:
        messages.append(assistant(answer.text))
        messages.append(user(prose(f"{seed} {len(messages)}", 500)))

    return [Turn("growing", index > 0, messages, grow) for index in range(5)]


def crowding(seed: str) -> list[list[Turn]]:
    """Prompts that come back, more of them than two engines' caches hold."""
    prompts = [[user(prose(f"{seed} crowding {number}", 5500))] for number in range(28)]
    rng = random.Random(f"{seed} crowding")
    order = [*range(28), *(rng.randrange(28) for _ in range(40))]
    return [[Turn("crowding", at >= 28, prompts[number]) for at, number in enumerate(order)]]


def play(router: Router, lists: list[list[Turn]], seed: str, settled: Callable[[], None]) -> list[Asked]:
    """Asks in a random order that keeps each list's, every other one streamed; `settled` returns when the
    router knows what it can know of the answer before."""
    rng = random.Random(f"{seed} order")
    waiting = [iter(turns) for turns in lists]
    asked: list[Asked] = []
    while waiting:
        turns = rng.choice(waiting)
        turn = next(turns, None)
        if turn is None:
            waiting.remove(turns)
            continue
        settled()
        answer = ask(router, turn.messages, 24, stream=len(asked) % 2 == 1)
        turn.answered(answer)
        asked.append(Asked(turn.kind, turn.known_before, answer))
    return asked


def settled(router: Router, mode: str) -> Callable[[], None]:
    """A wait until no event of an engine is on its way to the router any more."""
    if mode == APPROXIMATE:
        return lambda: None

    def told() -> str:
        page = httpx.get(f"{router.url}/metrics", trust_env=False, timeout=20).text
        return "\n".join(line for line in page.splitlines() if line.startswith("router_kv_event"))

    def wait() -> None:
        before = told()
        while True:
            time.sleep(QUIET_S)
            now = told()
            if _without_ages(now) == _without_ages(before):
                return
            before = now

    return wait


QUIET_S: Final = 0.1
"""A step of an engine takes some 10 ms, and its events leave with it."""


def _without_ages(page: str) -> list[str]:
    return [line for line in page.splitlines() if "seconds" not in line]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How predictions of one lot of requests went."""

    requests: int
    equal: int
    mean_off_tokens: float
    worst_off_tokens: int
    mean_cached_tokens: float

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.equal} exactly right; off by {self.mean_off_tokens:.1f} tokens "
            f"on average, {self.worst_off_tokens} at worst; cached {self.mean_cached_tokens:.0f} on average"
        )


def accuracy(asked: list[Asked]) -> Accuracy:
    """Of all these requests; there must be some."""
    offs = [one.answer.off_tokens for one in asked]
    return Accuracy(
        len(asked),
        offs.count(0),
        mean(offs),
        max(offs),
        mean(one.answer.cached_tokens for one in asked),
    )


def by_kind(asked: list[Asked]) -> Iterator[tuple[str, list[Asked]]]:
    """The requests of each kind of traffic."""
    for kind in sorted({one.kind for one in asked}):
        yield kind, [one for one in asked if one.kind == kind]
