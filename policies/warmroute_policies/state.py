"""What a balancer knows, as values that outlive it: the frames of a snapshot.

Rules kept: hashes, lengths and times, never a prompt's text, and sessions by pseudonym. Workers by id, since
slots are another balancer's. `VERSION` changes whenever an old frame would be read differently.

    Facts       one: token lengths, returns, prices, survivors
    Capacity    per worker
    Prefixes    per worker and epoch, the oldest first: which prompts it holds, by last use
    Conversations, Turns    several: answered prompts, and sessions
"""

from __future__ import annotations

import msgspec

from warmroute_policies.latency import PrefillPrice
from warmroute_policies.types import WorkerId

VERSION = 1


class Frame(msgspec.Struct, frozen=True, tag_field="f", array_like=True):
    """A part of a snapshot."""


class Facts(Frame, frozen=True, tag="facts"):
    """What is believed of all workers together."""

    token_sums: dict[str, tuple[float, float]]
    """By model: decayed bytes and tokens."""
    survivors: float
    used: float
    returns: list[float]
    prices: dict[str, PrefillPrice]


class Capacity(Frame, frozen=True, tag="capacity"):
    """What is believed of one worker's room; None: nothing."""

    worker: WorkerId
    tokens: float | None


class Prefixes(Frame, frozen=True, tag="prefixes"):
    """Prompts that a worker used last in one stretch of time.

    Runs of block ids form a tree over all frames before and with this one: run number `first + i` goes on
    where `parents[i]` ends, -1 being the beginning of a prompt. Runs are numbered over all frames.
    """

    worker: WorkerId
    age_s: float
    """How long ago the stretch of time began."""
    first: int
    parents: list[int]
    runs: list[bytes]
    ends: list[tuple[int, int]]
    """Run in which a prompt ended, and its length in blocks; in order of use."""


class Conversations(Frame, frozen=True, tag="answers"):
    """Answered prompts: id of the last block, worker, the prompt's end (length and hash), tokens in all."""

    rows: list[tuple[int, WorkerId, int, int, int]]


class Turns(Frame, frozen=True, tag="sessions"):
    """Sessions: pseudonym, worker, seconds since the last turn, turns, moves, tokens."""

    rows: list[tuple[str, WorkerId, float, int, int, int]]


AnyFrame = Facts | Capacity | Prefixes | Conversations | Turns
