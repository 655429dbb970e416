"""Every input of a balancer as one line of JSON.

    RecordedBalancer(policy, config, write=file.write, made_by=PolicySpec(...))

`replay` plays such lines again. Rules kept here: a line is handed over after the call it records succeeded,
or was refused with a RoutingError; no prompt text gets near it; sessions are renamed before the core sees
them, so that the live decisions and the replayed ones rest on the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from warmroute_policies.balancer import Balancer
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import RoutingError
from warmroute_policies.events import (
    VERSION,
    BlocksChanged,
    BlocksCleared,
    BlocksDoubted,
    BlocksKnown,
    CacheForgotten,
    Event,
    Finished,
    FirstToken,
    Header,
    HealthSet,
    Hedged,
    LoadReported,
    PolicySet,
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
from warmroute_policies.ghosts import Ghost
from warmroute_policies.hits import CREDITED
from warmroute_policies.index import Match
from warmroute_policies.known import BlockChange
from warmroute_policies.policy import Policy, View
from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.sessions import Session
from warmroute_policies.types import (
    CostShares,
    Decision,
    LoadReport,
    Outcome,
    RoutingRequest,
    Usage,
    WorkerId,
    WorkerSpec,
)


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
                owner=request.owner,
                exact=request.exact,
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

    def hedge(self, request_id: int, hedge_id: int, now: float) -> Decision:
        """Writes. As the balancer's, one line."""
        self._continued = False
        try:
            decision = super().hedge(request_id, hedge_id, now)
        except RoutingError as error:
            refusal = Refusal(type(error).__name__)
            self._write(Hedged(request_id, hedge_id, now, refusal=refusal, continued=self._continued))
            raise
        self._write(Hedged(request_id, hedge_id, now, decision=decision, continued=self._continued))
        return decision

    def explain(self, request: RoutingRequest, now: float) -> tuple[WorkerId, str, list[CostShares]]:
        """Reads. As the balancer's, no line: sessions are known by their other names here."""
        return super().explain(_renamed(request), now)

    def session(self, name: str) -> Session | None:
        """Reads. As the balancer's."""
        return super().session(pseudonym(name))

    def first_token(self, request_id: int, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().first_token(request_id, now)
        self._write(FirstToken(request_id, now))

    def finish(self, request_id: int, outcome: Outcome, usage: Usage | None, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().finish(request_id, outcome, usage, now)
        self._write(Finished(request_id, outcome, now, usage))

    def set_policy(self, policy: Policy, made_by: PolicySpec, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().set_policy(policy, made_by, now)
        self._write(PolicySet(made_by, now))

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

    def know_blocks(
        self, worker_id: WorkerId, rank: int, block_tokens: int, *, complete: bool, now: float
    ) -> None:
        """Writes. As the balancer's, one line."""
        super().know_blocks(worker_id, rank, block_tokens, complete=complete, now=now)
        self._write(BlocksKnown(worker_id, rank, block_tokens, complete, now))

    def blocks_changed(
        self, worker_id: WorkerId, rank: int, changes: Sequence[BlockChange], now: float
    ) -> None:
        """Writes. As the balancer's, one line."""
        super().blocks_changed(worker_id, rank, changes, now)
        self._write(BlocksChanged(worker_id, rank, list(changes), now))

    def blocks_cleared(self, worker_id: WorkerId, rank: int, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().blocks_cleared(worker_id, rank, now)
        self._write(BlocksCleared(worker_id, rank, now))

    def doubt_blocks(self, worker_id: WorkerId, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().doubt_blocks(worker_id, now)
        self._write(BlocksDoubted(worker_id, now))

    def report_load(self, worker_id: WorkerId, report: LoadReport, since: float, now: float) -> None:
        """Writes. As the balancer's, one line."""
        super().report_load(worker_id, report, since, now)
        self._write(LoadReported(worker_id, report, since, now))

    def tick(self, now: float) -> bool:
        """Writes. As the balancer's, one line."""
        self._write(Ticked(now))
        return super().tick(now)

    def _view(self, request: RoutingRequest, failed: tuple[WorkerId, ...]) -> tuple[View, Match, list[Ghost]]:
        found = super()._view(request, failed)
        # A replay has no bytes to compare with the former prompt's: the line says what came of it.
        self._continued = CREDITED in found[0].hits.tokens_at
        return found


def _renamed(request: RoutingRequest) -> RoutingRequest:
    if request.session is None:
        return request
    return msgspec.structs.replace(request, session=pseudonym(request.session))
