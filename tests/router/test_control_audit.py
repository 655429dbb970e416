"""Every change leaves a line that says who made it, and so does every refused one; no line holds a key."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.fake_worker import fake_workers
from live.polling import eventually
from live.processes import Process, Router, StartRouter, spawn_router

KEYS = ("--admin-api-key", "root-key", "--api-key", "client-key")


def fingerprint(key: str) -> str:
    return "key:" + sha256(key.encode()).hexdigest()[:8]


def audited(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def admin(router: Router, key: str = "root-key") -> httpx.Client:
    return httpx.Client(
        base_url=router.url, trust_env=False, timeout=20, headers={"authorization": f"Bearer {key}"}
    )


def test_who_changed_what_is_told_in_the_log_and_in_the_file(
    start_router: StartRouter, tmp_path: Path
) -> None:
    with fake_workers(2) as workers:
        first, second = (worker.url for worker in workers)
        trail = tmp_path / "audit.log"
        router = start_router(first, flags=("--no-model-discovery", "--audit-log", str(trail), *KEYS))
        with admin(router) as client:
            client.post("/workers", json={"url": second}, headers={"x-request-id": "ticket-7"})
            client.patch(f"/workers/{second}", json={"weight": 2})
            client.patch(f"/workers/{second}", json={"draining": True})
            client.delete(f"/workers/{second}")
            client.post("/policy", json={"policy": "lmetric"})
            client.post("/flush_cache")
            client.post("/reload")
        expected = [
            ("add_worker", second, None, second),
            ("change_worker", second, {"weight": 1.0}, {"weight": 2.0}),
            ("drain_worker", second, {"draining": False}, {"draining": True}),
            ("remove_worker", second, None, None),
            (
                "set_policy", "lmetric",
                {"policy": "cache_aware", "params": {}, "session_sticky": False},
                {"policy": "lmetric", "params": {}, "session_sticky": False},
            ),
            ("flush_cache", "1 workers", None, "flushed on 1 of 1 workers"),
            ("reload", "configuration", {"policy": "lmetric"}, {"policy": "cache_aware"}),
        ]  # fmt: skip
        eventually(lambda: len(audited(trail)) >= len(expected), "all is written")
        lines = audited(trail)
        assert [
            (line["action"], line["subject"], line.get("before"), line.get("after")) for line in lines
        ] == expected
        for line in lines:
            assert line["logger"] == "warmroute.audit"
            assert line["message"] == "audit"
            assert line["level"] == "info"
            assert line["outcome"] == "done"
            assert line["by"] == fingerprint("root-key")
            assert line["client"] == "127.0.0.1"
            assert line["request_id"]
        assert lines[0]["request_id"] == "ticket-7"
        assert [line for line in router.lines() if line["logger"] == "warmroute.audit"] == lines
        for secret in ("root-key", "client-key"):
            assert secret not in trail.read_text() + router.text()
        assert trail.stat().st_mode & 0o007 == 0, "others do not read it"


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/workers", "add_worker"),
        ("PUT", "/workers", "replace_workers"),
        ("PATCH", "/workers", "change_workers"),
        ("PATCH", "/workers/http://h:1", "change_worker"),
        ("DELETE", "/workers/http://h:1", "remove_worker"),
        ("POST", "/policy", "set_policy"),
        ("POST", "/reload", "reload"),
        ("POST", "/flush_cache", "flush_cache"),
        ("GET", "/flush_cache", "flush_cache"),
        ("POST", "/start_profile", "start_profile"),
        ("POST", "/stop_profile", "stop_profile"),
        ("POST", "/add_worker", "add_worker_by_url"),
        ("POST", "/remove_worker", "remove_worker_by_url"),
    ],
)
def test_who_may_not_change_the_router_is_refused_and_remembered(
    guarded: Router, method: str, path: str, action: str
) -> None:
    lines = []
    for key, status, code in (
        (None, 401, "invalid_api_key"),
        ("wrong", 401, "invalid_api_key"),
        ("client-key", 403, "admin_key_needed"),
    ):
        sent: set[str] = set()
        headers = {} if key is None else {"x-api-key": key}

        def told(
            headers: dict[str, str] = headers, status: int = status, code: str = code, sent: set[str] = sent
        ) -> list[dict[str, Any]]:
            answer = httpx.request(method, guarded.url + path, headers=headers, trust_env=False)
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]["code"] == code
            assert code != "invalid_api_key" or answer.headers["www-authenticate"] == "Bearer"
            sent.add(answer.headers["x-request-id"])
            return [line for line in _trail(guarded) if line["request_id"] in sent]

        lines.append(eventually(told, "a refusal is told: of many in one second some are not")[0])
    assert [line["outcome"] for line in lines] == ["invalid_api_key"] * 2 + ["admin_key_needed"]
    assert [line["status"] for line in lines] == [401, 401, 403]
    assert {line["action"] for line in lines} == {action}
    assert [line["by"] for line in lines] == ["anyone", "anyone", fingerprint("client-key")]


def _trail(router: Router) -> list[dict[str, Any]]:
    return [line for line in router.lines() if line["logger"] == "warmroute.audit"]


def _until(router: Router, before: int, request_id: str) -> list[dict[str, Any]]:
    """The lines up to that of a request; none as long as it is not there."""
    lines = _trail(router)[before:]
    return lines if lines and lines[-1]["request_id"] == request_id else []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    log = tmp_path_factory.mktemp("guarded") / "router.log"
    router = spawn_router(log, *KEYS)
    try:
        yield router
    finally:
        Process.kill(router)
    assert not router.faults(), router.text()


def test_a_clients_key_changes_nothing_where_no_admin_key_is_set(start_router: StartRouter) -> None:
    """It shows the state, as before."""
    router = start_router(flags=("--api-key", "ann"))
    with admin(router, "ann") as client:
        assert client.get("/workers").status_code == 200
        assert client.get("/policy").status_code == 200
        for answer in (
            client.post("/policy", json={"policy": "random"}),
            client.post("/workers", json={"url": "http://h:1"}),
            client.post("/reload"),
        ):
            assert answer.status_code == 403
            assert "set admin_api_key" in answer.json()["error"]["message"]


def test_a_page_of_another_site_changes_nothing_where_no_key_is_set(start_router: StartRouter) -> None:
    """A browser says where a request comes from; without that it is no browser, or the router's own page."""
    router = start_router()
    for site, status in (
        ("cross-site", 403),
        ("same-site", 403),
        ("same-origin", 200),
        ("none", 200),
        (None, 200),
    ):
        headers = {} if site is None else {"sec-fetch-site": site}
        for method in ("GET", "POST"):
            answer = httpx.request(method, f"{router.url}/flush_cache", headers=headers, trust_env=False)
            assert answer.status_code == status, site
    assert httpx.get(
        f"{router.url}/workers", headers={"sec-fetch-site": "cross-site"}, trust_env=False
    ).is_success


def test_where_the_browser_does_not_say_the_site_the_origin_does(start_router: StartRouter) -> None:
    """To http:// on another machine browsers send no Sec-Fetch-Site, but Origin with every POST."""
    router = start_router()
    own = router.url.removeprefix("http://")
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        (f"http://{own}1", 403),
        (f"http://{own}", 200),
        (f"https://{own}", 200),  # TLS ends before the router
    ):
        answer = httpx.post(f"{router.url}/flush_cache", headers={"origin": origin}, trust_env=False)
        assert answer.status_code == status, origin
        assert status == 200 or answer.json()["error"]["code"] == "cross_site"


def test_a_body_that_is_no_json_is_a_refusal_and_no_fault_of_the_router(guarded: Router) -> None:
    def told(request_id: str) -> list[dict[str, Any]]:
        return [line for line in _trail(guarded) if line["request_id"] == request_id]

    with admin(guarded) as client:
        for number, body in enumerate((b'{"policy": "\xff"}', b"[" * 100_000, b"{")):
            sent = {"content-type": "application/json", "x-request-id": f"bad-{number}"}
            assert client.post("/policy", content=body, headers=sent).status_code == 400
            [line] = eventually(partial(told, sent["x-request-id"]), "it is told")
            assert line["status"] == 400
            assert line["outcome"] in ("bad_request", "invalid_json")


@pytest.mark.parametrize(
    ("host", "flags", "warned"),
    [("0.0.0.0", (), True), ("127.0.0.1", (), False), ("0.0.0.0", ("--admin-api-key", "x"), False),
     ("0.0.0.0", ("--api-key", "x"), False), ("localhost", (), False)],
)  # fmt: skip
def test_an_open_router_says_so_at_its_start(
    start_router: StartRouter, host: str, flags: tuple[str, ...], warned: bool
) -> None:
    router = start_router(flags=("--host", host, *flags))
    assert any("anybody who reaches the port" in message for message in router.messages()) is warned


def test_the_file_is_made_anew_when_it_was_rotated_away(start_router: StartRouter, tmp_path: Path) -> None:
    trail, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    settings = tmp_path / "router.yaml"
    settings.write_text("log_level: info")
    router = start_router(flags=("--audit-log", str(trail), "--config", str(settings)))
    settings.write_text("log_level: error")
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        client.post("/policy", json={"policy": "random"})
        client.post("/reload")
        eventually(lambda: len(audited(trail)) == 2, "two changes are written")
        trail.rename(old)
        client.post("/policy", json={"policy": "lmetric"})
        eventually(lambda: len(audited(trail)) == 1, "the third one is in the new file")
    assert audited(old)[0]["after"]["policy"] == "random"
    assert audited(trail)[0]["after"]["policy"] == "lmetric"
    assert [line["action"] for line in _trail(router)] == ["set_policy"], "the log's level holds for the log"


def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "audit.log"
    done = subprocess.run(
        [sys.executable, "-m", "warmroute", "serve", "--port", "0", "--audit-log", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"audit_log: {path} cannot be written: No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_can_no_longer_be_written_is_told_once_and_ends_nothing(
    start_router: StartRouter, tmp_path: Path
) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    router = start_router(flags=("--audit-log", str(folder / "audit.log")))
    (folder / "audit.log").unlink()
    folder.rmdir()
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        for name in ("random", "lmetric", "preble"):
            assert client.post("/policy", json={"policy": name}).status_code == 200
        eventually(lambda: len(_trail(router)) == 3, "the log has them")
        told = [text for text in router.messages() if text.startswith("the audit log cannot be written")]
        assert len(told) == 1
        folder.mkdir()
        client.post("/policy", json={"policy": "random"})
        eventually(lambda: len(audited(folder / "audit.log")) == 1, "it is written again")


def test_a_flood_of_refusals_does_not_flood_the_log(guarded: Router) -> None:
    before = len(_trail(guarded))
    with httpx.Client(base_url=guarded.url, trust_env=False) as client:
        for _ in range(300):
            assert client.post("/reload").status_code == 401
    with admin(guarded) as client:
        client.post("/reload", headers={"x-request-id": "behind-the-flood"})
    told = eventually(lambda: _until(guarded, before, "behind-the-flood"), "what comes behind is told")
    assert 1 < len(told) < 300


def test_discovery_and_the_end_of_a_removal_leave_lines_too(
    start_router: StartRouter, tmp_path: Path
) -> None:
    with fake_workers(1) as [worker]:
        path = tmp_path / "workers.yaml"
        path.write_text(f'backend: ["{worker.url}"]')
        router = start_router(
            flags=("--no-model-discovery", "--discover-file", str(path), "--discover-file-interval-s", "0.1",
                   "--discovery-empty-hold-s", "0.1"),
        )  # fmt: skip
        eventually(lambda: len(_trail(router)) == 1, "it is added")
        path.write_text("backend: []")
        eventually(lambda: len(_trail(router)) == 3, "it is drained and removed")
        assert [(line["action"], line["by"]) for line in _trail(router)] == [
            ("add_worker", "discovery:file"), ("drain_worker", "discovery:file"), ("remove_worker", "router"),
        ]  # fmt: skip
