"""The values that pass between a driver (the live router, the simulator) and the decision core.

Rules kept here: values only, no behaviour beyond derived fields; units are in the names; hashes and
numbers, never prompt text. They are `msgspec.Struct`s and not dataclasses because building one costs
0.05 µs instead of 1.5 µs, several are built for every request, and a journal line is their encoding.

A *slot* is a small non-negative integer that stands for a worker inside the core. It indexes the
fleet's columns and is reused after the worker is gone; a `WorkerId` (the worker's base URL) is what
the world outside knows.
"""

from __future__ import annotations

import enum

import msgspec

from warmroute_policies.blocks import PromptBlocks

WorkerId = str


class TokenPrompt(msgspec.Struct, frozen=True, gc=False):
    """A prompt as engines see it (`kv_blocks`)."""

    tokens: int
    """Its length."""
    runs: dict[int, bytes]
    """By an engine's size of block in tokens: the run of the ids of the prompt's whole blocks."""


class RoutingRequest(msgspec.Struct, frozen=True, gc=False):
    """What the core needs to know of one request."""

    request_id: int
    """Unique among the requests in flight; drivers count upwards."""
    model: str
    blocks: PromptBlocks
    """The prompt's identity; `NO_BLOCKS` when it has none (embeddings, unknown endpoints)."""
    prompt_tokens: int | None = None
    """Exact when the driver has token ids, or what is known of a prompt that its owner puts together; None:
    estimated from the prompt's bytes."""
    max_tokens: int | None = None
    session: str | None = None
    """What the client calls its session, or None."""
    priority: int = 0
    stream: bool = True
    """Whether the first token can be seen; else the books guess when its prefill is done."""
    owner: WorkerId | None = None
    """The only worker that can take it, because what it is about lives there; None: any may."""
    exact: TokenPrompt | None = None
    """Its token blocks, where the driver knows them: then workers that tell what they hold are predicted by
    that (`known`). None: by belief."""


class Outcome(enum.StrEnum):
    """How a request that was routed ended."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    """The worker refused it with a 4xx: the client's fault."""
    CLIENT_GONE = "client_gone"
    """The client closed its connection before the end."""
    WORKER_ERROR = "worker_error"
    """Connection refused or broken, or a 5xx."""
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    """The router itself gave the request up (shutdown, no retry left)."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts that the engine reported. None means "not reported", which is not zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class LoadReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an engine says of its load, whoever sent it. None means "not told", which is not zero."""

    requests: int | None = None
    """Running or waiting."""
    waiting_requests: int | None = None
    """Of these, those that wait for a place in a batch, or for room in the KV cache."""
    waiting_tokens: int | None = None
    """Prompt tokens that are not cached and not computed yet."""
    kv_usage: float | None = None
    """Share of the KV cache that requests hold, 0 to 1. What is only kept for later ones does not count."""


class WorkerSpec(msgspec.Struct, frozen=True):
    """One worker as an operator declares it or as discovery finds it."""

    worker_id: WorkerId
    models: tuple[str, ...] = ()
    """Models it serves; empty: any model."""
    weight: float = 1.0
    """Relative speed: predicted prefill seconds are divided by it."""
    kv_capacity_tokens: int | None = None
    """What the engine says that its KV cache holds; None: unknown, to be learned."""
    engine_block_tokens: int = 16
    """Page size of the engine's cache: a hit is a multiple of it."""
    worker_class: str = "default"
    """Workers of one class have equal latency coefficients."""
    rtt_s: float = 0.0
    max_inflight: int | None = None
    """Requests that it may have in flight, from this router; None: any number."""


class Decision(msgspec.Struct, frozen=True):
    """Where one request goes, and why."""

    request_id: int
    worker: WorkerId
    slot: int
    reason: str
    """Bounded set of words per policy, fit for a metric's label."""
    prompt_tokens: int
    """Exact or estimated length of the prompt."""
    predicted_hit_tokens: int
    """Tokens of the prompt that the worker is believed to hold."""
    reusable_tokens: int
    """The largest predicted hit over all workers: what a router could have captured."""
    attempt: int = 0
    """0 for the first dispatch, then one more for each reroute."""


class CostShares(msgspec.Struct, frozen=True):
    """Why a worker was or was not chosen: the parts of its price, in seconds of predicted delay."""

    worker: WorkerId
    eligible: bool
    total_s: float
    shares_s: dict[str, float]
    predicted_hit_tokens: int
