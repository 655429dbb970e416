"""Every input of a balancer as a value, the lines of a journal.

Rules kept here: one struct per input, told apart by the key `e`; ids, lengths and times, never a prompt's
text, and sessions by pseudonym. A line holds what the balancer was told and what it decided, so that a
replay can compare. `VERSION` changes whenever an old line would be read differently.

    header        made by which policy, parameters, seed and configuration
    add, update, remove, drain, health, forget, load, tick  the fleet
    know, blocks, cleared, doubt                            what engines tell of their caches
    policy        another rule decides from here on
    route, reroute, hedge, first_token, finish      a request's way
"""

from __future__ import annotations

import msgspec

from warmroute_policies.config import BalancerConfig
from warmroute_policies.known import BlockChange
from warmroute_policies.types import Decision, LoadReport, Outcome, TokenPrompt, Usage, WorkerId, WorkerSpec

VERSION = 1


class PolicySpec(msgspec.Struct, frozen=True):
    """All that is needed to make a policy again."""

    name: str
    params: dict[str, str | float | int | bool] = {}
    seed: int = 0


class Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True):
    """A line of the journal."""


class Header(Event, frozen=True, tag="header"):
    """The first line. Two headers in a file are two journals."""

    version: int
    policy: PolicySpec
    config: BalancerConfig


class AnyHeader(msgspec.Struct):
    """A first line of any version."""

    version: int


class WorkerAdded(Event, frozen=True, tag="add"):
    """`add_worker`"""

    worker: WorkerSpec
    now: float


class WorkerUpdated(Event, frozen=True, tag="update"):
    """`update_worker`"""

    worker: WorkerSpec
    now: float


class WorkerRemoved(Event, frozen=True, tag="remove"):
    """`remove_worker`"""

    worker_id: WorkerId
    now: float


class WorkerDrained(Event, frozen=True, tag="drain"):
    """`drain_worker`"""

    worker_id: WorkerId
    draining: bool
    now: float


class HealthSet(Event, frozen=True, tag="health"):
    """`set_health`"""

    worker_id: WorkerId
    healthy: bool
    now: float


class CacheForgotten(Event, frozen=True, tag="forget"):
    """`forget_cache`"""

    worker_id: WorkerId
    now: float


class LoadReported(Event, frozen=True, tag="load"):
    """`report_load`"""

    worker_id: WorkerId
    report: LoadReport
    since: float
    now: float


class Ticked(Event, frozen=True, tag="tick"):
    """`tick`"""

    now: float


class BlocksKnown(Event, frozen=True, tag="know"):
    """`know_blocks`"""

    worker_id: WorkerId
    rank: int
    block_tokens: int
    complete: bool
    now: float


class BlocksChanged(Event, frozen=True, tag="blocks"):
    """`blocks_changed`"""

    worker_id: WorkerId
    rank: int
    changes: list[BlockChange]
    now: float


class BlocksCleared(Event, frozen=True, tag="cleared"):
    """`blocks_cleared`"""

    worker_id: WorkerId
    rank: int
    now: float


class BlocksDoubted(Event, frozen=True, tag="doubt"):
    """`doubt_blocks`"""

    worker_id: WorkerId
    now: float


class PolicySet(Event, frozen=True, tag="policy"):
    """`set_policy`"""

    policy: PolicySpec
    now: float


class Refusal(msgspec.Struct, frozen=True):
    """No decision: the name of the RoutingError that was raised."""

    error: str


class Routed(Event, frozen=True, tag="route"):
    """`route`: the request as hashes and numbers, and what was decided."""

    request_id: int
    model: str
    blocks: bytes
    """The run of block ids, 8 little-endian bytes each."""
    bytes_len: int
    now: float
    decision: Decision | None = None
    refusal: Refusal | None = None
    tokens_per_block: float | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    session: str | None = None
    """A pseudonym."""
    priority: int = 0
    stream: bool = True
    continued: bool = False
    """The prompt was found to go on where an answered one ended, which takes its bytes to see."""
    owner: WorkerId | None = None
    """The only worker that could take it."""
    exact: TokenPrompt | None = None
    """Its token blocks, by ids."""


class Rerouted(Event, frozen=True, tag="reroute"):
    """`reroute`"""

    request_id: int
    now: float
    decision: Decision | None = None
    refusal: Refusal | None = None
    continued: bool = False


class Hedged(Event, frozen=True, tag="hedge"):
    """`hedge`"""

    request_id: int
    hedge_id: int
    now: float
    decision: Decision | None = None
    refusal: Refusal | None = None
    continued: bool = False


class FirstToken(Event, frozen=True, tag="first_token"):
    """`first_token`"""

    request_id: int
    now: float


class Finished(Event, frozen=True, tag="finish"):
    """`finish`"""

    request_id: int
    outcome: Outcome
    now: float
    usage: Usage | None = None


Line = (
    Header
    | WorkerAdded
    | WorkerUpdated
    | WorkerRemoved
    | WorkerDrained
    | HealthSet
    | CacheForgotten
    | LoadReported
    | Ticked
    | BlocksKnown
    | BlocksChanged
    | BlocksCleared
    | BlocksDoubted
    | PolicySet
    | Routed
    | Rerouted
    | Hedged
    | FirstToken
    | Finished
)
"""Any line."""
