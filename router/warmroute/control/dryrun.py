"""A dry run: where would this request go, why, at what price. Nothing is sent and nothing is booked."""

from __future__ import annotations

from math import isfinite
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from warmroute.control.auth import view_guard
from warmroute.control.errors import Refused
from warmroute.dialects import BadRequest, parser_for
from warmroute.gateway import Gateway
from warmroute.refusals import routing_error
from warmroute.wire.replies import RouterError
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks
from warmroute_policies.errors import RoutingError
from warmroute_policies.types import CostShares, RoutingRequest

# Ids of live requests count upwards from 1.
_NO_REQUEST_ID = 0


class WorkerCost(BaseModel):
    """One worker's price for the request."""

    worker: str
    eligible: bool
    """Serves the model, is healthy, and does not drain."""
    total_s: float | None
    """Seconds of predicted delay; null: no price, because it is not eligible or the policy has none."""
    shares_s: dict[str, float]
    predicted_hit_tokens: int


class DryRun(BaseModel):
    """Where the request would go now."""

    worker: str
    reason: str
    policy: str
    model: str
    session: str | None
    prompt_tokens: int
    """Estimated from the prompt's bytes."""
    prompt_blocks: int
    predicted_hit_tokens: int
    costs: list[WorkerCost]


def endpoints(gateway: Gateway) -> APIRouter:
    """/route, behind an admin key."""
    router = APIRouter(tags=["routing"], dependencies=[Depends(view_guard(gateway))])

    @router.post(
        "/route",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    )
    async def route(
        request: Request,
        path: Annotated[
            str, Query(description="The endpoint that the body is for.")
        ] = "/v1/chat/completions",
    ) -> DryRun:
        """The body of any inference request, and its session header if it has one."""
        parse = parser_for(path)
        if parse is None:
            text = f"{path} is not an inference endpoint; those are listed at /docs"
            raise Refused(RouterError(400, "invalid_value", text, param="path"))
        try:
            parsed = parse(await request.body())
        except BadRequest as error:
            raise Refused(
                RouterError(400, "invalid_json", f"the request body is not valid: {error}")
            ) from error
        blocks = (
            PromptBlocks(parsed.material, gateway.salt(parsed.model, parsed.cache_salt))
            if parsed.material
            else NO_BLOCKS
        )
        session = _session_header(request, gateway.settings.session_header) or parsed.session
        asked = RoutingRequest(
            _NO_REQUEST_ID,
            parsed.model,
            blocks,
            None,
            parsed.max_tokens,
            session,
            parsed.priority,
            parsed.stream,
        )
        balancer = gateway.balancer
        try:
            worker, reason, shares = balancer.explain(asked, monotonic())
        except RoutingError as error:
            raise Refused(routing_error(error)) from error
        costs = [_cost(share) for share in shares]
        return DryRun(
            worker=worker,
            reason=reason,
            policy=gateway.metrics.policy,
            model=parsed.model,
            session=session,
            prompt_tokens=int(blocks.bytes_len / balancer.beliefs.ratio.bytes_per_token(parsed.model)),
            prompt_blocks=blocks.count,
            predicted_hit_tokens=next((c.predicted_hit_tokens for c in costs if c.worker == worker), 0),
            costs=costs,
        )

    return router


def _session_header(request: Request, names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := request.headers.get(name))), None)


def _cost(share: CostShares) -> WorkerCost:
    """JSON has no infinity."""
    return WorkerCost(
        worker=share.worker,
        eligible=share.eligible,
        total_s=share.total_s if isfinite(share.total_s) else None,
        shares_s={name: value for name, value in share.shares_s.items() if isfinite(value)},
        predicted_hit_tokens=share.predicted_hit_tokens,
    )
