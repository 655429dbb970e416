"""Every input of a balancer as one line of JSON, and the exact replay of such lines.

    live      RecordedBalancer(policy, config, write=file.write, made_by=PolicySpec(...))
    later     for recorded, replayed in replay(open(path, "rb")): assert recorded == replayed

Why it works: the core has no clock and no chance of its own, so its inputs in order are all there is to
know. Rules kept here: a line is handed over after the call it records succeeded, or was refused with a
RoutingError; no prompt text gets near it; sessions are renamed before the core sees them, so that the
live decisions and the replayed ones rest on the same names.

    JournalError    the journal cannot be read: which line, and what is wrong with it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import msgspec

from warmroute_policies.answers import Answered
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import PromptBlocks
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import RoutingError
from warmroute_policies.events import (
    VERSION,
    AnyHeader,
    CacheForgotten,
    Event,
    Finished,
    FirstToken,
    Header,
    HealthSet,
    Line,
    PolicySpec,
    Refusal,
    Rerouted,
    Routed,
    Ticked,
    WorkerAdded,
    WorkerDrained,
    WorkerRemoved,
    WorkerUpdated,
)
from warmroute_policies.hits import Hits
from warmroute_policies.policy import Policy
from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.registry import MakePolicy, make_policy
from warmroute_policies.types import (
    CostShares,
    Decision,
    Outcome,
    RoutingRequest,
    Usage,
    WorkerId,
    WorkerSpec,
)

Verdict = Decision | Refusal
"""What came of a `route` or a `reroute`."""


class JournalError(ValueError):
    """A journal that cannot be replayed. `line` counts from 1; 0 stands for the whole of it."""

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        super().__init__(f"journal line {line}: {text}" if line else f"journal: {text}")


class RecordedBalancer(Balancer):
    """A balancer that hands every input to `write` as one line, newline included, header first.

    `write` is called inside each method and must neither block nor raise: give it a buffer.
    """

    def __init__(
        self,
        policy: Policy,
        config: BalancerConfig | None = None,
        *,
        write: Callable[[bytes], object],
        made_by: PolicySpec,
    ) -> None:
        super().__init__(policy, config)
        self._write_bytes = write
        self._encode = msgspec.json.Encoder().encode
        self._continued = False
        self._write(Header(VERSION, made_by, self.config))

    def _write(self, event: Event) -> None:
        self._write_bytes(self._encode(event) + b"\n")

    def route(self, request: RoutingRequest, now: float) -> Decision:
        """Writes. As the balancer's, one line."""
        request, blocks = _renamed(request), request.blocks
        # Before the decision, because a driver may let go of the material after it.
        ids = blocks.ids(0, blocks.count)
        self._continued = False
        try:
            decision = super().route(request, now)
        except RoutingError as error:
            self._routed(request, ids, now, None, Refusal(type(error).__name__))
            raise
        self._routed(request, ids, now, decision, None)
        return decision

    def _routed(
        self,
        request: RoutingRequest,
        ids: bytes,
        now: float,
        decision: Decision | None,
        refusal: Refusal | None,
    ) -> None:
        self._write(
            Routed(
                request_id=request.request_id,
                model=request.model,
                blocks=ids,
                bytes_len=request.blocks.bytes_len,
                now=now,
                decision=decision,
                refusal=refusal,
                tokens_per_block=request.blocks.tokens_per_block,
                prompt_tokens=request.prompt_tokens,
                max_tokens=request.max_tokens,
                session=request.session,
                priority=request.priority,
                stream=request.stream,
                continued=self._continued,
            )
        )

    def reroute(self, request_id: int, now: float) -> Decision:
        """Writes. As the balancer's, one line."""
        self._continued = False
        try:
            decision = super().reroute(request_id, now)
        except RoutingError as error:
            refusal = Refusal(type(error).__name__)
            self._write(Rerouted(request_id, now, refusal=refusal, continued=self._continued))
            raise
        self._write(Rerouted(request_id, now, decision=decision, continued=self._continued))
        return decision

    def explain(self, request: RoutingRequest, now: float) -> tuple[WorkerId, str, list[CostShares]]:
        """Reads. As the balancer's, no line: sessions are known by their other names here."""
        return super().explain(_renamed(request), now)

    def first_token(self, request_id: int, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().first_token(request_id, now)
        self._write(FirstToken(request_id, now))

    def finish(self, request_id: int, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().finish(request_id, outcome, usage, now)
        self._write(Finished(request_id, outcome, now, usage))

    def add_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().add_worker(spec, now)
        self._write(WorkerAdded(spec, now))

    def update_worker(self, spec: WorkerSpec, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().update_worker(spec, now)
        self._write(WorkerUpdated(spec, now))

    def remove_worker(self, worker_id: WorkerId, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().remove_worker(worker_id, now)
        self._write(WorkerRemoved(worker_id, now))

    def drain_worker(self, worker_id: WorkerId, draining: bool, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().drain_worker(worker_id, draining, now)
        self._write(WorkerDrained(worker_id, draining, now))

    def set_health(self, worker_id: WorkerId, healthy: bool, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().set_health(worker_id, healthy, now)
        self._write(HealthSet(worker_id, healthy, now))

    def forget_cache(self, worker_id: WorkerId, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().forget_cache(worker_id, now)
        self._write(CacheForgotten(worker_id, now))

    def tick(self, now: float) -> bool:
        """Writes. As the balancer's, one line."""
        self._write(Ticked(now))
        return super().tick(now)

    def _credit_answer(
        self, blocks: PromptBlocks, answered: Answered, hits: Hits, limit: int, page: int
    ) -> Hits:
        credited = super()._credit_answer(blocks, answered, hits, limit, page)
        self._continued = credited is not hits
        return credited


def _renamed(request: RoutingRequest) -> RoutingRequest:
    if request.session is None:
        return request
    return msgspec.structs.replace(request, session=pseudonym(request.session))


class _RecordedBlocks(PromptBlocks):
    """Blocks of a journal: what would take the prompt's bytes is answered as it was answered then."""

    __slots__ = ("continued",)

    continued: bool

    def continues(self, end: object) -> bool:
        """Reads. What the line says."""
        return self.continued


def read(lines: Iterable[bytes]) -> Iterator[tuple[int, Line]]:
    """Line numbers and lines. The last one may be torn (the writer died): without a newline it is dropped.

    Raises JournalError for any other line that cannot be read; it names the field.
    """
    decode = msgspec.json.Decoder(Line).decode
    number = 0
    torn: tuple[int, msgspec.MsgspecError] | None = None
    for number, line in enumerate(lines, start=1):
        if torn is not None:
            raise _unreadable(*torn)
        try:
            event = decode(line)
        except msgspec.MsgspecError as error:
            if number > 1 and not line.endswith(b"\n"):
                torn = number, error  # torn if nothing follows
                continue
            _check_version(number, line)
            raise _unreadable(number, error) from error
        if number == 1:
            _check_version(number, line)
        yield number, cast("Line", event)
    if number == 0:
        raise JournalError(0, "it is empty; it should begin with a header")


def replay(lines: Iterable[bytes], make: MakePolicy = make_policy) -> Iterator[tuple[Verdict, Verdict]]:
    """For every `route` and `reroute`: what was decided then, and what the same inputs decide now.

    `make` finds the policy; pass `plugins.load_policy` for one that is not built in. Raises JournalError,
    and ConfigError when the policy cannot be made.
    """
    events = read(lines)
    _, header = next(events)
    if not isinstance(header, Header):
        raise JournalError(1, "it should be a header")
    spec = header.policy
    balancer = Balancer(make(spec.name, spec.params, spec.seed), header.config)
    blocks: dict[int, _RecordedBlocks] = {}
    for number, event in events:
        try:
            verdicts = _apply(balancer, blocks, event)
        except KeyError as error:
            raise JournalError(number, f"unknown here: {error.args[0]!r}") from error
        except ValueError as error:
            raise JournalError(number, str(error)) from error
        if verdicts is not None:
            yield verdicts


def _apply(
    balancer: Balancer, blocks: dict[int, _RecordedBlocks], event: Line
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
            )
            replayed = _verdict(lambda: balancer.route(request, event.now))
            if isinstance(replayed, Refusal):
                del blocks[event.request_id]
            return _recorded(event), replayed
        case Rerouted():
            blocks[event.request_id].continued = event.continued
            return _recorded(event), _verdict(lambda: balancer.reroute(event.request_id, event.now))
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
        case Ticked():
            balancer.tick(event.now)
        case Header():
            raise ValueError("a second header; each run of a router is a journal of its own")
    return None


def _blocks_of(event: Routed) -> _RecordedBlocks:
    blocks = _RecordedBlocks.from_ids(
        event.blocks, tokens_per_block=event.tokens_per_block, bytes_len=event.bytes_len
    )
    assert isinstance(blocks, _RecordedBlocks)
    blocks.continued = event.continued
    return blocks


def _recorded(event: Routed | Rerouted) -> Verdict:
    verdict = event.refusal if event.decision is None else event.decision
    if verdict is None:
        raise ValueError("neither `decision` nor `refusal` is given")
    return verdict


def _verdict(decide: Callable[[], Decision]) -> Verdict:
    try:
        return decide()
    except RoutingError as error:
        return Refusal(type(error).__name__)


def _unreadable(number: int, error: msgspec.MsgspecError) -> JournalError:
    return JournalError(number, str(error))


def _check_version(number: int, line: bytes) -> None:
    """Raises JournalError for a header of another version, before its other fields are judged."""
    if number != 1:
        return
    try:
        version = msgspec.json.decode(line, type=AnyHeader).version
    except msgspec.MsgspecError:
        return  # no header at all: the caller says so
    if version != VERSION:
        raise JournalError(number, f"version {version} was written; this release reads version {VERSION}")
