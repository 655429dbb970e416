"""The configuration is read again while the router runs: followed where it can be, or refused whole."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.fake_worker import FakeWorker, fake_workers
from live.polling import eventually
from live.processes import Process, Router, StartRouter, spawn_router
from warmroute.config import Settings, reloading
from warmroute.config.reloading import LIVE, difference
from warmroute.config.settings import FIELDS
from warmroute.gateway import Gateway
from warmroute.reload import Reloader
from warmroute.series import Metrics
from warmroute_policies.balancer import Balancer
from warmroute_policies.registry import make_policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

Configure = Callable[..., None]


@pytest.fixture
def workers() -> Iterator[list[FakeWorker]]:
    with fake_workers(3) as workers:
        yield workers


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes the router's file anew."""

    def write(**settings: object) -> None:
        (tmp_path / "router.json").write_text(json.dumps({"model_discovery": False, **settings}))

    return write


@pytest.fixture
def start(start_router: StartRouter, tmp_path: Path) -> Callable[..., Router]:
    """A router with that file; checks are quick by flags, which a file cannot change."""
    return lambda *flags: start_router(flags=("--config", str(tmp_path / "router.json"), *flags))


def reload(router: Router, key: str | None = None) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{router.url}/reload", headers=headers, trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(router: Router, path: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.get(router.url + path, headers=headers, trust_env=False, timeout=20)


def ask(router: Router, key: str | None = None, **headers: str) -> httpx.Response:
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return httpx.post(
        f"{router.url}/v1/chat/completions", json=CHAT, headers=headers, trust_env=False, timeout=20
    )


def test_workers_come_and_go_with_the_file(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    a, b, c = (worker.url for worker in workers)
    configure(backend=[a, b])
    router = start()
    configure(backend=[{"url": b, "weight": 3}, c])
    done = reload(router)["workers"]
    assert done == {"added": [c], "changed": [b], "removed": [a], "left_alone": []}
    seen = {worker["url"]: worker for worker in get(router, "/workers").json()["workers"]}
    assert seen.keys() == {b, c}
    assert seen[b]["weight"] == 3
    assert {worker["added_by"] for worker in seen.values()} == {"configuration"}
    assert reload(router)["workers"] == {"added": [], "changed": [], "removed": [], "left_alone": []}


def test_what_people_did_to_workers_is_not_undone(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    """Removed by hand stays removed, added by hand stays, a weight set by hand holds."""
    a, b, c = (worker.url for worker in workers)
    configure(backend=[a, b])
    router = start()
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        assert client.delete(f"/workers/{a}").status_code == 200
        assert client.patch(f"/workers/{b}", json={"weight": 5}).status_code == 200
        assert client.post("/workers", json={"url": c}).status_code == 201
        configure(backend=[a, b, c], retries=1)
        done = reload(router)
        assert done["workers"] == {"added": [], "changed": [], "removed": [], "left_alone": [c]}
        seen = {worker["url"]: worker for worker in client.get("/workers").json()["workers"]}
        assert seen.keys() == {b, c}
        assert (seen[b]["weight"], seen[c]["added_by"]) == (5, "admin")
        configure(backend=[])
        assert reload(router)["workers"]["removed"] == [b], "of the three the configuration's own"


def test_keys_are_changed_without_a_restart(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    """On connections that are open, and for heads that were seen before."""
    configure(backend=[workers[0].url], api_key=["old"], admin_api_key=["root"])
    router = start()
    with httpx.Client(base_url=router.url, trust_env=False) as client:

        def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return client.post("/v1/chat/completions", json=CHAT, headers=headers).status_code

        assert (status("old"), status("new")) == (200, 401)
        configure(backend=[workers[0].url], api_key=["new", "newer"], admin_api_key=["boss"])
        done = reload(router, "root")
        assert done["changed"]["api_key"] == {"before": ["********"], "after": ["********"] * 2}
        assert (status("old"), status("new"), status("newer")) == (401, 200, 200)
        assert get(router, "/workers", "root").status_code == 401
        assert get(router, "/workers", "boss").status_code == 200
        assert get(router, "/v1/models", "new").status_code == 200
    text = router.text()
    assert not any(f'"{key}"' in text for key in ("old", "new", "newer", "root", "boss"))


def test_a_policy_that_was_set_by_hand_is_put_back(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    configure(backend=[workers[0].url], policy="lmetric")
    router = start()
    httpx.post(f"{router.url}/policy", json={"policy": "random"}, trust_env=False).raise_for_status()
    assert reload(router)["changed"] == {"policy": {"before": "random", "after": "lmetric"}}
    assert get(router, "/policy").json()["policy"] == "lmetric"
    configure(backend=[workers[0].url], policy="cache_aware", policy_param={"miss_price": 4})
    assert reload(router)["changed"].keys() == {"policy", "policy_param"}
    assert get(router, "/policy").json()["params"] == {"miss_price": 4}
    assert get(router, "/debug/state").json()["policy"] == "cache_aware"


def test_a_wrong_configuration_changes_nothing_and_says_what_is_wrong(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router], tmp_path: Path
) -> None:
    url = workers[0].url
    configure(backend=[url], policy="lmetric", retries=1)
    router = start()
    before = get(router, "/debug/state").json()["settings"]

    def refused(*words: str) -> None:
        answer = httpx.post(f"{router.url}/reload", trust_env=False, timeout=20)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["code"] == "invalid_configuration"
        for word in ("nothing was changed", *words):
            assert word in error["message"]
        assert get(router, "/debug/state").json()["settings"] == before
        assert [worker["url"] for worker in get(router, "/workers").json()["workers"]] == [url]
        assert any(
            line["message"].startswith("reload refused") and words[0] in line["message"]
            for line in router.lines()
        )

    configure(backend=[], retries=-1, polcy="random")
    refused("retries", "did you mean policy?", "router.json")
    configure(backend=[], retries=2, policy="rondom")
    refused("did you mean `random`")
    configure(backend=[], shadow_policy=["nothing"])
    refused("there is no policy `nothing`")
    preset = tmp_path / "fitted.json"
    preset.write_text(json.dumps({"latency": _fitted()}))
    configure(backend=[url, {"url": workers[1].url, "preset": str(preset)}], retries=2)
    refused("was not named at the start")
    (tmp_path / "router.json").write_text("{")
    refused("router.json")
    (tmp_path / "router.json").unlink()
    refused("no such file")
    assert ask(router).status_code == 200


def _fitted() -> Any:
    import msgspec

    from warmroute_policies.latency import DEFAULT_PRESET, PRESETS

    return msgspec.to_builtins(PRESETS[DEFAULT_PRESET])


def test_sighup_reloads_and_the_log_says_what_came_of_it(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    configure(backend=[workers[0].url])
    router = start()
    configure(backend=[workers[0].url], log_level="debug", port=1234)
    os.kill(router.pid, signal.SIGHUP)
    [line] = eventually(
        lambda: [line for line in router.lines() if line["message"] == "reloaded"], "it reloads"
    )
    assert line["changed"] == ["log_level"]
    assert line["needs_restart"] == [], "the port is given by a flag, which wins"
    configure(backend=[workers[0].url], log_format="console", retries=-1)
    os.kill(router.pid, signal.SIGHUP)
    eventually(lambda: any(text.startswith("reload refused") for text in router.messages()), "it is refused")
    assert ask(router).status_code == 200, "and goes on"
    configure(backend=[workers[0].url], index_max_bytes="2MiB")
    for _ in range(20):
        os.kill(router.pid, signal.SIGHUP)
    eventually(lambda: "settings wait for a restart" in router.messages(), "many signals are no trouble")
    assert get(router, "/debug/state").json()["settings"]["index_max_bytes"] != 2 << 20


BROKEN_POLICIES = {
    "no_python": "def (",
    "no_import": "raise RuntimeError('no such GPU')",
    "no_policy": "class P:\n    def __init__(self) -> None:\n        raise RuntimeError('no such GPU')",
}


def test_a_policy_of_ones_own_that_breaks_refuses_the_reload_and_not_the_next_one(
    workers: list[FakeWorker], configure: Configure, tmp_path: Path
) -> None:
    for name, text in BROKEN_POLICIES.items():
        (tmp_path / f"{name}.py").write_text(text)
    configure(backend=[workers[0].url])
    flags = ("--config", str(tmp_path / "router.json"))
    router = spawn_router(tmp_path / "router.log", *flags, env={"PYTHONPATH": str(tmp_path)})
    try:
        for name in BROKEN_POLICIES:
            configure(backend=[workers[0].url], policy=f"{name}:P", retries=9)
            answer = httpx.post(f"{router.url}/reload", trust_env=False, timeout=20)
            assert answer.status_code == 422, answer.text
            assert f"policy `{name}:P`" in answer.json()["error"]["message"]
        os.kill(router.pid, signal.SIGHUP)
        eventually(lambda: len(refused(router)) == len(BROKEN_POLICIES) + 1, "it is refused by signal too")
        configure(backend=[workers[0].url], retries=5)
        os.kill(router.pid, signal.SIGHUP)
        eventually(lambda: "reloaded" in router.messages(), "a later signal is heard")
        assert get(router, "/debug/state").json()["settings"]["retries"] == 5
        assert not router.faults()
    finally:
        Process.kill(router)


def refused(router: Router) -> list[str]:
    return [text for text in router.messages() if text.startswith("reload refused")]


def test_a_fault_of_the_routers_own_does_not_deafen_it_to_signals() -> None:
    """Signals that come while one is followed are followed by one more reload."""
    read: list[int] = []

    def fails() -> Settings:
        read.append(1)
        raise ZeroDivisionError

    async def signals() -> None:
        reloader = Reloader(Gateway(Settings(), Balancer(make_policy("random")), Metrics("random")), fails)
        for _ in range(3):
            for _ in range(10):
                reloader.at_signal()
            assert reloader._task is not None
            await reloader._task

    asyncio.run(signals())
    assert len(read) == 3


def test_a_signal_before_the_first_worker_has_answered_is_heard(
    workers: list[FakeWorker], configure: Configure, tmp_path: Path
) -> None:
    """Its default is to end the process."""
    log = tmp_path / "router.log"
    words = ["--port", "0", "--log-format", "json", "--config", str(tmp_path / "router.json")]
    with workers[0].full():
        configure(backend=[workers[0].url], health_timeout_s=60)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "warmroute", *words], stdout=output, stderr=output, cwd=tmp_path
            )
        try:
            ignored = 1 << (signal.SIGHUP - 1)
            status = Path(f"/proc/{process.pid}/status")
            eventually(
                lambda: any(
                    line.startswith("SigCgt") and int(line.split()[1], 16) & ignored
                    for line in status.read_text().splitlines()
                ),
                "the signal has a handler",
            )
            configure(backend=[workers[1].url], log_level="debug")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: '"message":"reloaded"' in log.read_text(), "it reloads")
            assert "router ready" not in log.read_text()
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


def test_sessions_limits_health_and_the_access_log_follow_at_once(
    workers: list[FakeWorker], configure: Configure, start: Callable[..., Router]
) -> None:
    first, second, _ = workers
    backend = [first.url, second.url]
    configure(backend=backend, policy="session_sticky")
    router = start()
    assert ask(router, x_request_id="one").status_code == 200
    configure(
        backend=backend, policy="session_sticky", session_header=["x-user"], max_body_bytes=16,
        access_log=True, idle_connections_per_worker=0, kv_capacity_tokens=777, max_connections=3,
    )  # fmt: skip
    changed = reload(router)["changed"]
    assert changed["max_body_bytes"] == {"before": 512 << 20, "after": 16}
    assert ask(router).status_code == 413, "also for a head that was seen before"
    state = get(router, "/debug/state").json()
    assert {worker["kv_capacity_tokens"] for worker in state["workers"]} == {777}
    assert any(line["message"] == "request" and line["status"] == 413 for line in router.lines())
    configure(backend=backend, policy="session_sticky", session_header=["x-user"])
    reload(router)
    homes = {ask(router, **{"x-user": "ann"}).headers["x-router-worker"] for _ in range(6)}
    assert len(homes) == 1, "a session by the new header"
    assert not any(line["message"] == "request" and line["status"] == 200 for line in router.lines()), (
        "the access log is off again"
    )


def test_health_checks_follow_their_new_path_and_interval(
    workers: list[FakeWorker], start_router: StartRouter, tmp_path: Path, configure: Configure
) -> None:
    worker = workers[0]
    configure(backend=[worker.url], retry_budget_ratio=0.5)
    router = start_router(flags=("--config", str(tmp_path / "router.json")))
    configure(backend=[worker.url], health_path="/alive")
    assert reload(router)["changed"].keys() == {"health_path", "retry_budget_ratio"}
    eventually(lambda: get(router, "/readiness").status_code == 503, "nothing answers there")
    worker.pages["/alive"] = (200, b"")
    eventually(lambda: get(router, "/readiness").status_code == 200, "it does now")


def test_a_router_that_was_given_no_file_reads_its_flags_again(start_router: StartRouter) -> None:
    with fake_workers(1) as [worker]:
        router = start_router(worker.url, flags=("--no-model-discovery",))
        done = reload(router)
    assert done == {
        "changed": {},
        "workers": {"added": [], "changed": [], "removed": [], "left_alone": []},
        "needs_restart": [],
    }


# --- which settings -------------------------------------------------------------------------------


def test_every_setting_that_is_called_live_exists() -> None:
    assert FIELDS.keys() >= LIVE


def test_what_needs_a_restart_keeps_its_value_whole() -> None:
    before = Settings(retries=1, port=1, seed=2)
    found = difference(before, Settings(retries=3, port=9, seed=2))
    assert found.effective == Settings(retries=3, port=1, seed=2)
    assert dict(found.changed) == {"retries": (1, 3)}
    assert found.needs_restart == ("port",)


def test_nothing_keeps_a_live_setting_from_its_start() -> None:
    """Constructors that copy one are followed up in `Gateway.reconfigure`, and nowhere else."""
    package = Path(reloading.__file__).parent.parent
    followed = (package / "reload.py").read_text() + "".join(
        ast.unparse(node)
        for node in ast.walk(ast.parse((package / "gateway.py").read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in ("reconfigure", "_planner")
    )
    copies = []
    for path in package.rglob("*.py"):
        if path.parent.name == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                copies += [
                    (path.name, inner.attr)
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Attribute)
                    and inner.attr in LIVE
                    and ast.unparse(inner.value).endswith("settings")
                ]
    assert copies, "the search finds what it should"
    assert [copy for copy in copies if f"settings.{copy[1]}" not in followed] == []
