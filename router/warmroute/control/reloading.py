"""POST /reload: the configuration is read again, as at SIGHUP, and the answer says what came of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from warmroute.config import UsageError
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard
from warmroute.control.errors import Refused, refusals
from warmroute.gateway import Gateway
from warmroute.wire.replies import RouterError
from warmroute_policies.errors import ConfigError


class Change(BaseModel):
    """A setting's value as JSON has it; keys are masked."""

    before: Any
    after: Any


class WorkersChanged(BaseModel):
    """What became of the workers that the configuration names, or named."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    """Those that drain first included."""
    left_alone: list[str]
    """Listed now, but somebody else had added them before."""


class Reloaded(BaseModel):
    """What a reload did."""

    changed: dict[str, Change]
    workers: WorkersChanged
    needs_restart: list[str]
    """Settings whose new value is not in effect: they are read at the start only."""


def endpoints(gateway: Gateway) -> APIRouter:
    """/reload, behind an admin key."""
    router = APIRouter(
        tags=["server"], dependencies=[Depends(change_guard(gateway))], route_class=changing_route()
    )

    @router.post("/reload", responses=refusals(401, 403, 422))
    async def reload(request: Request) -> Reloaded:
        """Reads flags, environment and file again and follows them: keys, limits, time-outs, health checks,
        policy, workers, log level. When anything is wrong, 422 says what, and nothing has changed."""
        try:
            report = await gateway.reloader.reload(actor_of(request))
        except (UsageError, ConfigError) as error:
            text = f"nothing was changed: {error}"
            raise Refused(RouterError(422, "invalid_configuration", text)) from error
        return Reloaded(
            changed={name: Change(before=old, after=new) for name, (old, new) in report.changed.items()},
            workers=WorkersChanged(
                added=report.added,
                changed=report.updated,
                removed=report.removed,
                left_alone=report.left_alone,
            ),
            needs_restart=list(report.needs_restart),
        )

    return router
