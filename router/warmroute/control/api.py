"""The control plane's application: its endpoints, and what it says to everything else."""

from __future__ import annotations

from importlib.metadata import version
from typing import NoReturn

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

from warmroute.control import (
    debug,
    dryrun,
    engine_metrics,
    engines,
    errors,
    fleet,
    health,
    live,
    models,
    page,
    peers,
    policy,
    reloading,
    stored,
    workers,
)
from warmroute.dialects.endpoints import ENDPOINTS, KINDS, PARSERS, TUNNELS
from warmroute.gateway import Gateway

_NOT_POST = ["GET", "HEAD", "PUT", "PATCH", "DELETE"]

_DESCRIPTION = """\
Everything that the router answers itself. What follows is the workers' own API, to which the router passes
requests on; so it does with any other POST and any WebSocket under /v1/.

{inference}

Errors are `{{"error": {{"message", "type", "code", "param"}}}}`. This page loads its scripts from a CDN;
`/openapi.json` does not need it.
"""


def control_app(gateway: Gateway) -> FastAPI:
    """The application. Its handlers run on the router's event loop, so none of them may block."""
    app = FastAPI(
        title="warmroute",
        version=version("warmroute"),
        description=_DESCRIPTION.format(inference=_inference()),
        redoc_url=None,
        redirect_slashes=False,
        responses=errors.REFUSALS,
    )
    errors.install(app)
    removals = gateway.removals
    app.include_router(health.endpoints(gateway))
    app.include_router(models.endpoints(gateway))
    app.include_router(stored.endpoints(gateway))
    app.include_router(workers.endpoints(gateway, removals))
    app.include_router(fleet.endpoints(gateway))
    app.include_router(policy.endpoints(gateway))
    app.include_router(engines.endpoints(gateway))
    app.include_router(engine_metrics.endpoints(gateway))
    app.include_router(peers.endpoints(gateway))
    app.include_router(reloading.endpoints(gateway))
    app.include_router(dryrun.endpoints(gateway))
    app.include_router(debug.endpoints(gateway, removals))
    app.include_router(live.endpoints(gateway))
    app.include_router(page.endpoints())
    for path in PARSERS:
        app.add_route(path, _post_only, methods=_NOT_POST, include_in_schema=False)
    return app


def _inference() -> str:
    """The endpoints of the workers as a list."""
    lines = [
        f"- {kind}: {', '.join(f'`{endpoint.path}`' for endpoint in ENDPOINTS if endpoint.kind == kind)}"
        for kind in KINDS
    ]
    return "\n".join([*lines, f"- WebSockets: {', '.join(f'`{path}`' for path in TUNNELS)}"])


async def _post_only(_request: Request) -> NoReturn:
    """POST is the data plane's; whatever else arrives here is a mistake with a name."""
    raise HTTPException(405, headers={"Allow": "POST"})
