"""The policy in charge: shown, and changed under load. No request is dropped and nothing learned is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from warmroute.config.policies import Asked, asked_of
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard, view_guard
from warmroute.control.errors import Refused, refusals
from warmroute.gateway import Gateway
from warmroute.wire.replies import RouterError
from warmroute_policies.errors import ConfigError
from warmroute_policies.plugins import available
from warmroute_policies.registry import available as built_in
from warmroute_policies.registry import defaults

# Names of policies and parameters are words; numbers are what a journal can hold.
_NAME_CHARS_MAX = 200
_PARAMS_MAX = 100
_Text = Annotated[str, Field(max_length=_NAME_CHARS_MAX)]
_Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class PolicyChange(BaseModel):
    """The policy that is wanted; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    policy: Annotated[str, Field(min_length=1, max_length=_NAME_CHARS_MAX)] | None = None
    params: Annotated[dict[_Text, bool | _Whole | _Number | _Text], Field(max_length=_PARAMS_MAX)] | None = (
        None
    )
    """Its parameters by name. Left out: those it has, or the defaults where the policy is another one."""
    session_sticky: bool | None = None
    """Keep every session on its worker, whatever the policy."""


class PolicyView(BaseModel):
    """A policy as operators name it."""

    policy: str
    params: dict[str, bool | int | float | str]
    """Those that differ from the defaults."""
    session_sticky: bool


class PolicyState(PolicyView):
    """The one in charge, and what else there is."""

    defaults: dict[str, bool | int | float | str | None]
    """Its parameters with their defaults; empty for one that is not built in."""
    available: list[str]


class PolicyChanged(PolicyView):
    """The one in charge from now on, and the one before."""

    changed: bool
    """False: it was in charge already, and goes on with what it remembers."""
    previous: PolicyView


def endpoints(gateway: Gateway) -> APIRouter:
    """/policy, behind an admin key."""
    router = APIRouter(tags=["routing"], responses=refusals(401, 403))
    views = APIRouter(dependencies=[Depends(view_guard(gateway))])
    changes = APIRouter(dependencies=[Depends(change_guard(gateway))], route_class=changing_route())

    @views.get("/policy")
    async def get_policy() -> PolicyState:
        """The policy in charge, its parameters, and the names of all that could be."""
        asked = asked_of(gateway.settings)
        known = dict(defaults(asked.policy)) if asked.policy in built_in() else {}
        return PolicyState.model_validate(asked.view() | {"defaults": known, "available": list(available())})

    @changes.post("/policy", responses=refusals(400, 422))
    async def set_policy(change: PolicyChange, request: Request) -> PolicyChanged:
        """Another policy decides from the next request on. Books, index, beliefs and sessions stay as they
        are; requests on their way are not touched. A reload, or a restart, brings back what the
        configuration says."""
        now = asked_of(gateway.settings)
        policy = change.policy or now.policy
        kept: Mapping[str, bool | int | float | str] = now.params if policy == now.policy else {}
        asked = Asked(
            policy,
            kept if change.params is None else change.params,
            now.session_sticky if change.session_sticky is None else change.session_sticky,
        )
        try:
            before = gateway.reloader.set_policy(asked, actor_of(request))
        except ConfigError as error:
            raise Refused(RouterError(422, "invalid_policy", str(error), param="policy")) from error
        return PolicyChanged.model_validate(
            asked.view() | {"changed": asked != before, "previous": before.view()}
        )

    router.include_router(views)
    router.include_router(changes)
    return router
