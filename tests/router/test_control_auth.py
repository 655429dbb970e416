"""Which key opens what."""

from __future__ import annotations

import httpx
import pytest

from live.processes import Engines, StartRouter

OPEN = ("/health", "/liveness", "/readiness", "/metrics", "/openapi.json")
STATE = ("/workers", "/workers/10.0.0.1:1", "/debug/state")
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def status(url: str, path: str, key: str | None, header: str = "authorization") -> int:
    """Of a request to any endpoint, with the method that suits it."""
    headers = {} if key is None else {header: f"Bearer {key}" if header == "authorization" else key}
    posts = path in ("/route", "/v1/chat/completions")
    answer = httpx.request(
        "POST" if posts else "GET", url + path, json=BODY if posts else None, headers=headers, trust_env=False
    )
    if answer.status_code == 401:
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status_code


def test_an_admin_key_and_a_clients_key_open_different_doors(
    engines: Engines, start_router: StartRouter
) -> None:
    flags = ("--api-key", "ann", "--api-key", "bob", "--admin-api-key", "root")
    url = start_router(*engines.urls, flags=flags).url
    for path in (*STATE, "/route"):
        assert status(url, path, None) == 401
        assert status(url, path, "ann") == 401, "a client's key does not open the router's state"
        assert status(url, path, "root") in (200, 404)
        assert status(url, path, "root", header="x-api-key") in (200, 404)
    for key in ("ann", "bob"):
        assert status(url, "/v1/models", key) == 200
        assert status(url, "/v1/chat/completions", key) == 200
    assert status(url, "/v1/models", None) == 401
    assert status(url, "/v1/chat/completions", "root") == 401, "an admin key is no client's"
    assert status(url, "/v1/chat/completions", "an") == 401
    for path in OPEN:
        assert status(url, path, None) == 200


def test_nothing_is_changed_without_the_admin_key(engines: Engines, start_router: StartRouter) -> None:
    url = start_router(*engines.urls, flags=("--admin-api-key", "root")).url
    worker = engines.urls[0]
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.post("/workers", json={"url": "http://10.0.0.1:1"}).status_code == 401
        assert client.post("/workers", content=b"{").status_code == 401, "before the body is looked at"
        assert client.patch(f"/workers/{worker}", json={"draining": True}).status_code == 401
        assert client.delete(f"/workers/{worker}").status_code == 401
        assert client.get("/v1/models").status_code == 200, "no client key is set"
        client.headers["authorization"] = "Bearer root"
        listed = client.get("/workers").json()
    assert [seen["url"] for seen in listed["workers"]] == list(engines.urls)
    assert not any(seen["draining"] for seen in listed["workers"])


@pytest.mark.parametrize("keys", [("--api-key", "ann"), ()])
def test_without_admin_keys_the_clients_keys_guard_and_without_any_all_is_open(
    engines: Engines, start_router: StartRouter, keys: tuple[str, ...]
) -> None:
    url = start_router(*engines.urls, flags=keys).url
    for path in ("/workers", "/debug/state", "/route"):
        assert status(url, path, None) == (401 if keys else 200)
        assert status(url, path, "ann") == 200
