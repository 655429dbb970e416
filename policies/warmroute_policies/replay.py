"""The exact replay of a journal: the same inputs in the same order, through a balancer of today.

    for recorded, replayed in replay(open(path, "rb")): assert recorded == replayed

Why it works: the core has no clock and no chance of its own, so its inputs in order are all there is to
know.

    JournalError    the journal cannot be read: which line, and what is wrong with it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

import msgspec

from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import ID_BYTES, PromptBlocks
from warmroute_policies.errors import RoutingError
from warmroute_policies.events import (
    VERSION,
    AnyHeader,
    BlocksChanged,
    BlocksCleared,
    BlocksDoubted,
    BlocksKnown,
    CacheForgotten,
    Finished,
    FirstToken,
    Header,
    HealthSet,
    Hedged,
    Line,
    LoadReported,
    PolicySet,
    Refusal,
    Rerouted,
    Routed,
    Ticked,
    WorkerAdded,
    WorkerDrained,
    WorkerRemoved,
    WorkerUpdated,
)
from warmroute_policies.known import Tier
from warmroute_policies.registry import MakePolicy, make_policy
from warmroute_policies.types import (
    Decision,
    RoutingRequest,
)

_BAD_LINE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding a line may raise."""

Verdict = Decision | Refusal
"""What came of a `route`, a `reroute` or a `hedge`."""


class JournalError(ValueError):
    """A journal that cannot be replayed. `line` counts from 1; 0 stands for the whole of it."""

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        super().__init__(f"journal line {line}: {text}" if line else f"journal: {text}")


class _RecordedBlocks(PromptBlocks):
    """Blocks of a journal: what would take the prompt's bytes is answered as it was answered then."""

    __slots__ = ("continued",)

    continued: bool

    def continues(self, end: object) -> bool:
        """Reads. What the line says."""
        return self.continued


def read(
    lines: Iterable[bytes], torn_line: Callable[[int], object] = lambda number: None
) -> Iterator[tuple[int, Line]]:
    """Line numbers and lines. The last one may be torn (the writer died): without a newline it is dropped,
    and `torn_line` is told its number, so that a person can be.

    Raises JournalError for any other line that cannot be read; it names the field.
    """
    decode = msgspec.json.Decoder(Line).decode
    number = 0
    torn: tuple[int, Exception] | None = None
    for number, line in enumerate(lines, start=1):
        if torn is not None:
            raise _unreadable(*torn)
        try:
            event = decode(line)
        except _BAD_LINE as error:
            if number > 1 and not line.endswith(b"\n"):
                torn = number, error  # torn if nothing follows
                continue
            _check_version(number, line)
            raise _unreadable(number, error) from error
        if number == 1:
            _check_version(number, line)
        yield number, cast("Line", event)
    if torn is not None:
        torn_line(torn[0])
    if number == 0:
        raise JournalError(0, "it is empty; it should begin with a header")


def replay(
    lines: Iterable[bytes],
    make: MakePolicy = make_policy,
    torn_line: Callable[[int], object] = lambda number: None,
) -> Iterator[tuple[Verdict, Verdict]]:
    """For every `route`, `reroute` and `hedge`: what was decided then, and what the same inputs decide now.

    `make` finds the policy; pass `plugins.load_policy` for one that is not built in. `torn_line` as for
    `read`. Raises JournalError, and ConfigError when the policy cannot be made.
    """
    events = read(lines, torn_line)
    _, header = next(events)
    if not isinstance(header, Header):
        raise JournalError(1, "it should be a header")
    spec = header.policy
    policy = make(spec.name, spec.params, spec.seed)
    try:
        balancer = Balancer(policy, header.config)
    except OverflowError as error:  # a number that no run could have written
        raise JournalError(1, str(error)) from error
    blocks: dict[int, _RecordedBlocks] = {}
    for number, event in events:
        try:
            verdicts = _apply(balancer, blocks, event, make)
        except KeyError as error:
            raise JournalError(number, f"unknown here: {error.args[0]!r}") from error
        except (ValueError, OverflowError) as error:  # as above
            raise JournalError(number, str(error)) from error
        if verdicts is not None:
            yield verdicts


def _apply(
    balancer: Balancer, blocks: dict[int, _RecordedBlocks], event: Line, make: MakePolicy
) -> tuple[Verdict, Verdict] | None:
    """Writes. One line, as it happened."""
    match event:
        case Routed():
            known = blocks[event.request_id] = _blocks_of(event)
            request = RoutingRequest(
                event.request_id,
                event.model,
                known,
                event.prompt_tokens,
                event.max_tokens,
                event.session,
                event.priority,
                event.stream,
                event.owner,
                event.exact,
            )
            replayed = _verdict(lambda: balancer.route(request, event.now))
            if isinstance(replayed, Refusal):
                del blocks[event.request_id]
            return _recorded(event), replayed
        case Rerouted():
            blocks[event.request_id].continued = event.continued
            return _recorded(event), _verdict(lambda: balancer.reroute(event.request_id, event.now))
        case Hedged():
            known = blocks[event.request_id]
            known.continued = event.continued
            replayed = _verdict(lambda: balancer.hedge(event.request_id, event.hedge_id, event.now))
            if not isinstance(replayed, Refusal):
                blocks[event.hedge_id] = known
            return _recorded(event), replayed
        case FirstToken():
            balancer.first_token(event.request_id, event.now)
        case Finished():
            del blocks[event.request_id]
            balancer.finish(event.request_id, event.outcome, event.usage, event.now)
        case WorkerAdded():
            balancer.add_worker(event.worker, event.now)
        case WorkerUpdated():
            balancer.update_worker(event.worker, event.now)
        case WorkerRemoved():
            balancer.remove_worker(event.worker_id, event.now)
        case WorkerDrained():
            balancer.drain_worker(event.worker_id, event.draining, event.now)
        case HealthSet():
            balancer.set_health(event.worker_id, event.healthy, event.now)
        case CacheForgotten():
            balancer.forget_cache(event.worker_id, event.now)
        case LoadReported():
            balancer.report_load(event.worker_id, event.report, event.since, event.now)
        case Ticked():
            balancer.tick(event.now)
        case BlocksKnown():
            balancer.know_blocks(
                event.worker_id, event.rank, event.block_tokens, complete=event.complete, now=event.now
            )
        case BlocksChanged():
            for change in event.changes:
                if len(change.ids) % ID_BYTES or not 0 <= change.tier < len(Tier):
                    raise ValueError("`changes` are not whole ids of a tier that there is")
            balancer.blocks_changed(event.worker_id, event.rank, event.changes, event.now)
        case BlocksCleared():
            balancer.blocks_cleared(event.worker_id, event.rank, event.now)
        case BlocksDoubted():
            balancer.doubt_blocks(event.worker_id, event.now)
        case PolicySet():
            spec = event.policy
            balancer.set_policy(make(spec.name, spec.params, spec.seed), spec, event.now)
        case Header():
            raise ValueError("a second header; each run of a router is a journal of its own")
    return None


def _blocks_of(event: Routed) -> _RecordedBlocks:
    if len(event.blocks) % ID_BYTES:
        raise ValueError(f"`blocks` is not a whole number of ids: {len(event.blocks)} bytes")
    blocks = _RecordedBlocks.from_ids(
        event.blocks, tokens_per_block=event.tokens_per_block, bytes_len=event.bytes_len
    )
    assert isinstance(blocks, _RecordedBlocks)
    blocks.continued = event.continued
    return blocks


def _recorded(event: Routed | Rerouted | Hedged) -> Verdict:
    verdict = event.refusal if event.decision is None else event.decision
    if verdict is None:
        raise ValueError("neither `decision` nor `refusal` is given")
    return verdict


def _verdict(decide: Callable[[], Decision]) -> Verdict:
    try:
        return decide()
    except RoutingError as error:
        return Refusal(type(error).__name__)


def _unreadable(number: int, error: Exception) -> JournalError:
    return JournalError(number, str(error))


def _check_version(number: int, line: bytes) -> None:
    """Raises JournalError for a header of another version, before its other fields are judged."""
    if number != 1:
        return
    try:
        version = msgspec.json.decode(line, type=AnyHeader).version
    except _BAD_LINE:
        return  # no header at all: the caller says so
    if version != VERSION:
        raise JournalError(number, f"version {version} was written; this release reads version {VERSION}")
