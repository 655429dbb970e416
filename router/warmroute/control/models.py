"""The models of all workers as one list, in OpenAI's shape."""

from __future__ import annotations

from time import time
from typing import Any

from fastapi import APIRouter, Depends

from warmroute.control.auth import client_guard
from warmroute.control.errors import Refused
from warmroute.control.health import able_workers
from warmroute.gateway import Gateway
from warmroute.refusals import routing_error
from warmroute_policies.errors import NoWorkers, UnknownModel


def endpoints(gateway: Gateway) -> APIRouter:
    """/v1/models."""
    router = APIRouter(tags=["models"], dependencies=[Depends(client_guard(gateway))])
    started_at = int(time())

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Every model that some worker can serve now. Workers that accept any model add none. 503 when no
        worker can take a request at all."""
        cards = _cards(gateway, started_at)
        if not cards and not able_workers(gateway):
            raise Refused(routing_error(NoWorkers("", len(gateway.workers))))
        return {"object": "list", "data": list(cards.values())}

    @router.get("/v1/models/{model:path}")
    async def get_model(model: str) -> dict[str, Any]:
        """One model. 404 names those that are known; 503 when its workers cannot take requests now."""
        card = _cards(gateway, started_at).get(model)
        if card is not None:
            return card
        known = gateway.balancer.models()
        if model in known:
            serving = sum(model in spec.models for _, spec in gateway.balancer.fleet.slots())
            raise Refused(routing_error(NoWorkers(model, serving)))
        raise Refused(routing_error(UnknownModel(model, known)))

    return router


def _cards(gateway: Gateway, started_at: int) -> dict[str, dict[str, Any]]:
    """Model objects by id: as the first worker that told of it wrote it, else as the operator named it."""
    fleet = gateway.balancer.fleet
    cards: dict[str, dict[str, Any]] = {}
    for slot, spec in fleet.slots():
        if not fleet.healthy[slot] or fleet.draining[slot]:
            continue
        told = {card["id"]: card for card in gateway.workers[spec.worker_id].learned.models}
        for name in spec.models:
            card = {
                "object": "model",
                "created": started_at,
                "owned_by": "warmroute",
                **told.get(name, {}),
                "id": name,
            }
            if name not in cards or (name in told and cards[name]["owned_by"] == "warmroute"):
                cards[name] = card
    return cards
