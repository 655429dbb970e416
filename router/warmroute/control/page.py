"""The page at /ui: static files that come with the package, and headers that keep anything else out.

The files need no key, for no data is in them; what the page shows it asks for with the operator's key. They
are read when the application is made, so that no request reads a disk.
"""

from __future__ import annotations

from hashlib import blake2s
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # with the tag: asked for each time, sent once per release
}


def assets() -> dict[str, bytes]:
    """Reads the disk. The page's files by name."""
    folder = files("warmroute.live") / "page"
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES
    }


def endpoints() -> APIRouter:
    """/ui and its files, open to all. Links are relative, so the page works below any path of a proxy."""
    router = APIRouter(include_in_schema=False)
    found = assets()
    tags = {name: f'"{blake2s(content, digest_size=12).hexdigest()}"' for name, content in found.items()}

    def answer(request: Request, name: str) -> Response:
        if name not in found:
            raise HTTPException(404)
        headers = _HEADERS | {"etag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(found[name], headers=headers | {"content-type": _TYPES[name.rpartition(".")[2]]})

    @router.get("/")
    async def root() -> Response:
        return Response(status_code=307, headers={"location": "ui"})

    @router.get("/ui/")
    async def slash() -> Response:
        return Response(status_code=307, headers={"location": "../ui"})

    @router.get("/ui")
    async def page(request: Request) -> Response:
        return answer(request, "index.html")

    @router.get("/ui/{name}")
    async def asset(request: Request, name: str) -> Response:
        return answer(request, name)

    return router
