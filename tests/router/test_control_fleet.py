"""Many workers at once: all or nothing, and what a list says is what there is."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from live.fake_worker import FakeWorker, fake_workers
from live.front import CHAT, Front, at_word
from live.polling import eventually
from live.processes import StartRouter
from live.wire import request


def known(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {worker["url"]: worker for worker in client.get("/workers").json()["workers"]}


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=20)


def test_a_list_is_what_there_is_afterwards(start_router: StartRouter) -> None:
    with fake_workers(4) as workers:
        a, b, c, d = (worker.url for worker in workers)
        router = start_router(a, b, flags=("--no-model-discovery",))
        with client_of(router.url) as client:
            body = {"workers": [{"url": b, "weight": 2}, {"url": c}, {"url": d, "models": ["m"]}]}
            answer = client.put("/workers", json=body)
            assert answer.status_code == 200, answer.text
            actions = {row["id"]: row["action"] for row in answer.json()["workers"]}
            assert actions == {a: "removed", b: "changed", c: "added", d: "added"}
            assert [row["worker"] and row["worker"]["status"] for row in answer.json()["workers"]][1:3] == [
                "healthy", "healthy",
            ]  # fmt: skip
            assert known(client).keys() == {b, c, d}
            assert known(client)[b]["weight"] == 2
            again = client.put("/workers", json=body).json()
            assert {row["action"] for row in again["workers"]} == {"kept"}, "the same list changes nothing"
            assert client.put("/workers", json={"workers": []}).json()["total"] == 0
            assert client.get("/readiness").status_code == 503


def test_a_worker_with_requests_drains_first_and_is_taken_back_by_a_list(start_router: StartRouter) -> None:
    go_on = threading.Event()
    with fake_workers(2) as workers:
        front = Front(start_router(workers[0].url, flags=("--no-model-discovery",)), workers)
        front.script(at_word(go_on))
        first, second = (worker.url for worker in workers)
        with front.connect() as connection, client_of(front.router.url) as client:
            connection.send(request("POST", "/v1/chat/completions", CHAT))
            front.wait_calls(1)
            left = client.put("/workers", json={"workers": [{"url": second}]}).json()
            assert {row["id"]: row["action"] for row in left["workers"]} == {
                first: "draining",
                second: "added",
            }
            leaves = known(client)[first]["leaves_in_s"]
            assert 170 < leaves <= 180
            client.put("/workers", params={"deadline_s": 1000}, json={"workers": [{"url": second}]})
            assert known(client)[first]["leaves_in_s"] <= leaves, "said again, it is not put off"
            back = client.put("/workers", json={"workers": [{"url": first}, {"url": second}]}).json()
            assert {row["id"]: row["action"] for row in back["workers"]} == {
                first: "taken_back",
                second: "kept",
            }
            assert known(client)[first]["draining"] is False
            gone = client.put("/workers", params={"drain": False}, json={"workers": [{"url": second}]}).json()
            assert {row["id"]: row["action"] for row in gone["workers"]}[first] == "removed"
            go_on.set()
            assert connection.answer().status == 200, "its answer still arrives"


@pytest.mark.parametrize(
    ("bad", "status", "word"),
    [
        ({"url": "gpu1:8000"}, 422, "did you mean"),
        ({"url": "http://gpu1:8000", "weight": -1}, 422, "workers.1.weight"),
        ({"url": "http://gpu1:8000", "colour": "red"}, 422, "colour"),
        ({"url": "http://169.254.169.254"}, 403, "link-local"),
        ({}, 422, "url"),
    ],
)
def test_one_wrong_entry_and_nothing_changes(
    front: Front, bad: dict[str, Any], status: int, word: str
) -> None:
    with client_of(front.router.url) as client:
        before = client.get("/workers").json()["workers"]
        answer = client.put("/workers", json={"workers": [{"url": "http://127.0.0.1:9"}, bad]})
        assert answer.status_code == status, answer.text
        assert word in answer.json()["error"]["message"]
        assert [worker["url"] for worker in before] == list(known(client))


def test_one_worker_twice_is_a_mistake(front: Front) -> None:
    with client_of(front.router.url) as client:
        twice = {"workers": [{"url": "http://h:1"}, {"url": "http://H:1/"}]}
        for method in ("PUT", "PATCH"):
            answer = client.request(method, "/workers", json=twice)
            assert answer.status_code in (404, 422)
        assert "listed twice" in client.put("/workers", json=twice).json()["error"]["message"]
        assert len(known(client)) == 2


def test_changes_of_several_workers_happen_together_or_not_at_all(front: Front) -> None:
    first, second = (worker.url for worker in front.workers)
    with client_of(front.router.url) as client:
        body = {"workers": [{"url": first, "draining": True}, {"url": "http://127.0.0.1:9", "weight": 2}]}
        answer = client.patch("/workers", json=body)
        assert answer.status_code == 404
        assert known(client)[first]["draining"] is False
        body["workers"][1] = {"url": second, "weight": 2}
        done = client.patch("/workers", json=body).json()
        assert [row["action"] for row in done["workers"]] == ["changed", "changed"]
        assert known(client)[first]["draining"] is True
        assert known(client)[second]["weight"] == 2
        client.patch(
            "/workers", json={"workers": [{"url": first, "draining": False}, {"url": second, "weight": 1}]}
        )


def test_a_list_and_discovery_leave_each_other_alone(start_router: StartRouter, tmp_path: Any) -> None:
    with fake_workers(3) as workers:
        listed, found, more = (worker.url for worker in workers)
        path = tmp_path / "workers.yaml"
        path.write_text(f"backend: [{found!r}]".replace("'", '"'))
        flags = ("--no-model-discovery", "--discover-file", str(path), "--discover-file-interval-s", "0.1")
        router = start_router(listed, flags=flags)
        with client_of(router.url) as client:
            eventually(lambda: found in known(client), "discovery has found its worker")
            rows = client.put("/workers", json={"workers": [{"url": more}, {"url": found}]}).json()["workers"]
            assert {row["id"]: row["action"] for row in rows} == {
                listed: "removed", found: "left_alone", more: "added",
            }  # fmt: skip
            assert client.put("/workers", json={"workers": []}).status_code == 200
            assert list(known(client)) == [found]


def test_only_allowed_workers_are_added_by_people_and_by_discovery(
    start_router: StartRouter, tmp_path: Any
) -> None:
    """127.0.0.2 is loopback too, and not in the list."""
    inside, outside = FakeWorker("127.0.0.1"), FakeWorker("127.0.0.2")
    try:
        path = tmp_path / "workers.yaml"
        path.write_text(f'backend: ["{outside.url}", "{inside.url}"]')
        router = start_router(
            flags=("--no-model-discovery", "--worker-allow", "127.0.0.1", "*.llm.svc", "--discover-file",
                   str(path), "--discover-file-interval-s", "0.1"),
        )  # fmt: skip
        with client_of(router.url) as client:
            eventually(lambda: inside.url in known(client), "what is allowed was found")
            for answer in (
                client.post("/workers", json={"url": outside.url}),
                client.put("/workers", json={"workers": [{"url": outside.url}]}),
                client.post("/add_worker", params={"url": outside.url}),
            ):
                assert answer.status_code == 403
                assert answer.json()["error"]["code"] == "worker_not_allowed"
                assert "127.0.0.1, *.llm.svc" in answer.json()["error"]["message"]
            assert list(known(client)) == [inside.url]
            assert any("may not be added" in message for message in router.messages())
    finally:
        inside.stop()
        outside.stop()


def test_no_spelling_of_a_link_local_address_is_added(front: Front) -> None:
    with client_of(front.router.url) as client:
        for host in ("169.254.169.254", "0xa9fea9fe", "2852039166"):
            for answer in (
                client.post("/workers", json={"url": f"http://{host}:80"}),
                client.post("/add_worker", params={"url": f"http://{host}"}),
            ):
                assert answer.status_code == 403, answer.text
                assert "link-local" in answer.json()["error"]["message"]
