"""What lives in the memory of one worker is asked for there, and found again when nobody remembers where."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from live.fake_worker import Call, FakeWorker, fake_workers
from live.front import Front, die, status
from live.memory import Memory
from live.polling import eventually
from live.processes import spawn_router
from live.wire import Answer, request

StartFront = Callable[..., Front]

COLLECTIONS = ("/v1/responses", "/v1/conversations", "/v1/files", "/v1/batches")

# The body that creates one; the model's name keeps the workers apart from nothing.
NEW = {"model": "m", "input": "hello", "metadata": {"id": "resp_of-a-client"}}


def with_memories(front: Front) -> list[Memory]:
    """Every worker has a memory of its own, named by its number."""
    memories = [Memory(str(number)) for number in range(len(front.workers))]
    for worker, memory in zip(front.workers, memories, strict=True):
        worker.script = memory
    return memories


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Front]]:
    """Two routers in front of the same three workers, for all tests that do not harm them."""
    flags = ("--no-model-discovery", "--policy", "round_robin", "--eject-after-failures", "1000000")
    logs = tmp_path_factory.mktemp("both")
    with fake_workers(3) as workers, contextlib.ExitStack() as stack:
        listed = [word for worker in workers for word in ("--backend", worker.url)]
        fronts = []
        for name in ("one", "other"):
            router = spawn_router(logs / f"{name}.log", *listed, *flags)
            stack.callback(router.kill)
            fronts.append(Front(router, workers))
        yield fronts[0], fronts[1]
        for front in fronts:
            assert not front.router.faults(), front.router.text()


@pytest.fixture
def three(both: tuple[Front, Front]) -> Iterator[Front]:
    """A router in front of three workers with a memory each, in turn."""
    front = both[0]
    for worker in front.workers:
        worker.forget()
    with_memories(front)
    yield front
    front.wait_idle()


@pytest.fixture
def forgetful(both: tuple[Front, Front], three: Front) -> Front:
    """Another router in front of the same workers, which saw nothing being created."""
    return both[1]


@pytest.fixture
def own(start_front: StartFront) -> Front:
    """The same of the test's own: its workers may come to harm."""
    front = start_front("--policy", "round_robin", "--eject-after-failures", "1", count=3)
    with_memories(front)
    return front


def ask(front: Front, method: str, path: str, body: object = None, **headers: str) -> Answer:
    with front.connect() as connection:
        return connection.ask(method, path, body, **headers)


def create(front: Front, path: str = "/v1/responses", **more: object) -> dict[str, Any]:
    """What a worker created."""
    answer = ask(front, "POST", path, NEW | more)
    assert answer.status == 200, answer.body
    thing: dict[str, Any] = answer.json()
    return thing


def owner(front: Front, thing: dict[str, Any]) -> FakeWorker:
    return front.workers[int(thing["worker"])]


def forget_calls(front: Front) -> None:
    for worker in front.workers:
        worker.calls = []


def is_question(call: Call) -> bool:
    """The router's own, of a search: whoever is asked last may see it when the owner is found already."""
    return call.headers.get("user-agent") == "warmroute"


def sent(front: Front) -> list[Call]:
    """What clients sent."""
    return [call for call in front.calls if not is_question(call)]


def found(front: Front, outcome: str = "found") -> float:
    return front.counted("router_owner_searches_total", outcome=outcome)


# --- the owner is known ---------------------------------------------------------------------------


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_whoever_created_a_thing_is_asked_for_it(three: Front, collection: str) -> None:
    things = [create(three, collection) for _ in range(4)]
    assert {thing["worker"] for thing in things} == {"0", "1", "2"}
    forget_calls(three)
    for thing in things:
        path = f"{collection}/{thing['id']}"
        for method, target in (("GET", path), ("GET", f"{path}/content"), ("POST", f"{path}/cancel")):
            answer = ask(three, method, target, {} if method == "POST" else None)
            assert answer.status == 200
            assert (answer.json()["worker"], answer.json()["asked"]) == (thing["worker"], target)
            assert answer.headers["x-router-reason"] == "owner"
            assert answer.headers["x-router-worker"] == owner(three, thing).url
        assert ask(three, "DELETE", path).json()["deleted"] is True
        assert ask(three, "GET", path).status == 404, "its owner says that it is gone"
    assert len(sent(three)) == 4 * 5, "nobody was asked twice, and nobody else"


def test_the_id_is_read_from_the_first_event_of_a_stream(three: Front) -> None:
    for _ in range(3):
        answer = ask(three, "POST", "/v1/responses", NEW | {"stream": True})
        event = json.loads(answer.body.split(b"\n")[1].removeprefix(b"data: "))
        forget_calls(three)
        assert ask(three, "GET", f"/v1/responses/{event['response']['id']}").status == 200
        assert len(sent(three)) == 1


def test_a_response_that_goes_on_from_another_goes_to_its_owner(three: Front) -> None:
    before = create(three)
    for _ in range(6):
        after = create(three, previous_response_id=before["id"])
        assert after["worker"] == before["worker"]
        before = after
    talk = create(three, "/v1/conversations")
    assert {create(three, conversation=talk["id"])["worker"] for _ in range(3)} == {talk["worker"]}


def test_a_batch_goes_where_its_file_is(three: Front) -> None:
    for _ in range(4):
        file = create(three, "/v1/files")
        assert create(three, "/v1/batches", input_file_id=file["id"])["worker"] == file["worker"]


def test_a_stored_response_is_streamed_as_it_comes(three: Front) -> None:
    thing = create(three)
    answer = ask(three, "GET", f"/v1/responses/{thing['id']}?stream=true")
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_prompt_that_goes_on_from_a_stored_one_is_not_taken_for_a_whole_prompt(three: Front) -> None:
    before = create(three)
    resident, tokens = three.counted("router_index_blocks"), three.counted("router_prompt_tokens_total")
    create(three, previous_response_id=before["id"], input="x" * 20_000)
    assert three.counted("router_index_blocks") == resident
    assert three.counted("router_prompt_tokens_total") > tokens + 1000, "its length is booked"
    create(three, input="x" * 20_000)
    assert three.counted("router_index_blocks") > resident


# --- the owner is not well ------------------------------------------------------------------------


def test_an_owner_that_drains_is_asked_and_one_that_was_removed_is_named(own: Front) -> None:
    thing = create(own)
    path, url = f"/v1/responses/{thing['id']}", owner(own, thing).url
    name = url.removeprefix("http://")
    patched = httpx.patch(f"{own.router.url}/workers/{name}", json={"draining": True}, trust_env=False)
    assert patched.status_code == 200
    assert ask(own, "GET", path).status == 200
    removed = httpx.delete(f"{own.router.url}/workers/{name}?drain=false", trust_env=False)
    assert removed.is_success
    for method, target, body in (
        ("GET", path, None),
        ("POST", "/v1/responses", NEW | {"previous_response_id": thing["id"]}),
    ):
        answer = ask(own, method, target, body)
        assert (answer.status, answer.json()["error"]["code"]) == (410, "owner_gone")
        assert url in answer.json()["error"]["message"]


def test_an_owner_that_cannot_be_reached_is_named_and_nobody_else_is_asked(own: Front) -> None:
    thing = create(own)
    worker = owner(own, thing)
    worker.stop_listening()
    worker.close_connections()
    forget_calls(own)
    answer = ask(own, "GET", f"/v1/responses/{thing['id']}")
    assert (answer.status, answer.json()["error"]["code"]) == (503, "owner_unavailable")
    assert worker.url in answer.json()["error"]["message"]
    assert "retry-after" in answer.headers
    assert own.calls == []


def test_a_failure_of_the_owner_is_passed_on_and_nobody_else_is_asked(three: Front) -> None:
    thing = create(three)
    owner(three, thing).script = status(500, b"its own words")
    forget_calls(three)
    answer = ask(three, "POST", f"/v1/responses/{thing['id']}/cancel", {})
    assert (answer.status, answer.body) == (500, b"its own words")
    assert len(sent(three)) == 1


def test_an_ejected_owner_is_asked_and_a_look_into_its_memory_does_not_clear_it(own: Front) -> None:
    thing = create(own)
    worker = owner(own, thing)
    memory, worker.script = worker.script, die
    for _ in range(3):
        create(own)  # by the others, once the owner has failed
    assert own.worker_state(worker)["status"] == "ejected"
    worker.script = memory
    assert ask(own, "GET", f"/v1/responses/{thing['id']}").status == 200
    assert own.worker_state(worker)["status"] == "ejected"


# --- nobody remembers -----------------------------------------------------------------------------


def others(front: Front, thing: dict[str, Any]) -> list[Call]:
    """What workers that do not own the thing were sent about it."""
    mine = owner(front, thing)
    calls = [call for worker in front.workers if worker is not mine for call in worker.calls]
    return [call for call in calls if thing["id"] in call.path]


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_the_owner_of_a_thing_is_found_by_asking_and_remembered(
    three: Front, forgetful: Front, method: str
) -> None:
    things = [create(three) for _ in range(6)]
    forget_calls(three)
    before = found(forgetful)
    for thing in things:
        path = f"/v1/responses/{thing['id']}" + ("/cancel" if method == "POST" else "")
        answer = ask(forgetful, method, path, {} if method == "POST" else None, authorization="Bearer k")
        assert (answer.status, answer.json()["worker"]) == (200, thing["worker"])
        assert answer.headers["x-router-reason"] == "owner"
        strangers = others(three, thing)
        assert all(is_question(call) for call in strangers)
        assert all(call.line.startswith("GET /v1/responses/") for call in strangers), "nothing else is risked"
        assert all(call.headers["authorization"] == "Bearer k" for call in strangers)
        ask(forgetful, "GET", f"/v1/responses/{thing['id']}")
        assert all(is_question(call) for call in others(three, thing))
    assert found(forgetful) == before + 6, "a finding is remembered: nobody was asked twice"


def test_what_goes_on_from_a_response_of_another_router_finds_its_owner(
    three: Front, forgetful: Front
) -> None:
    for _ in range(4):
        before = create(three)
        assert create(forgetful, previous_response_id=before["id"])["worker"] == before["worker"]
        file = create(three, "/v1/files")
        assert create(forgetful, "/v1/batches", input_file_id=file["id"])["worker"] == file["worker"]


def test_what_nobody_has_is_not_found_and_everybody_was_asked(three: Front) -> None:
    for method, path, body in (
        ("GET", "/v1/files/file-none/content", None),
        ("DELETE", "/v1/batches/batch_none", None),
        ("POST", "/v1/responses", NEW | {"previous_response_id": "resp_none"}),
    ):
        forget_calls(three)
        answer = ask(three, method, path, body)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
        assert "none of" not in answer.json()["error"]["message"]
        assert "3 workers" in answer.json()["error"]["message"]
        asked = [call.line.split(" ")[0] for call in three.calls if "none" in call.path]
        assert asked == ["GET"] * 3
    assert found(three, "not_found") >= 3


def test_while_a_worker_is_silent_what_the_others_lack_may_be_there(own: Front) -> None:
    dead = own.workers[1]
    dead.stop_listening()
    dead.close_connections()
    answer = ask(own, "GET", "/v1/responses/resp_lost")
    assert (answer.status, answer.json()["error"]["code"]) == (503, "owner_unknown")
    assert "1 of 3 workers" in answer.json()["error"]["message"]


def test_a_worker_that_forbids_the_question_tells_the_client_itself(three: Front) -> None:
    three.workers[2].script = status(401, b"no key of mine")
    answer = ask(three, "GET", "/v1/responses/resp_lost")
    assert (answer.status, answer.body) == (401, b"no key of mine")


def test_a_client_that_leaves_during_the_search_ends_it(three: Front) -> None:
    held = threading.Event()
    for worker in three.workers:
        worker.script = lambda call: call.hold(held)
    with three.connect() as connection:
        connection.send(request("GET", "/v1/responses/resp_lost"))
        calls = three.wait_calls(3)
    eventually(lambda: all(call.gone.is_set() for call in calls), "the workers see that nobody waits")
    three.wait_idle()


def test_requests_behind_a_search_are_answered_in_their_order(three: Front) -> None:
    thing = create(three)
    with three.connect() as connection:
        connection.send(
            request("GET", "/v1/responses/resp_none"),
            request("GET", f"/v1/responses/{thing['id']}"),
            request("POST", "/v1/responses", NEW),
        )
        assert [connection.answer().status for _ in range(3)] == [404, 200, 200]


# --- what is around -------------------------------------------------------------------------------


def test_things_need_a_key_like_any_request(start_front: StartFront) -> None:
    front = start_front("--api-key", "k")
    assert ask(front, "GET", "/v1/responses/resp_1").status == 401
    assert front.calls == []


def test_a_method_that_no_thing_knows_is_not_sent_to_anybody(three: Front) -> None:
    for method in ("PUT", "PATCH"):
        assert ask(three, method, "/v1/responses/resp_1", {}).status in (404, 405)
    assert sent(three) == []


def test_more_things_than_may_be_remembered_are_found_by_asking(start_front: StartFront) -> None:
    front = start_front("--owners-max", "2", "--policy", "round_robin", count=2)
    with_memories(front)
    things = [create(front) for _ in range(3)]
    assert front.counted("router_owners") == 2
    for thing in things:
        assert ask(front, "GET", f"/v1/responses/{thing['id']}").json()["worker"] == thing["worker"]
    assert found(front) >= 1
    assert front.counted("router_owners") == 2


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", ["/v1/files", "/v1/batches"])
def test_a_list_holds_what_all_workers_keep(three: Front, collection: str) -> None:
    assert ask(three, "GET", collection).json()["data"] == []
    things = [create(three, collection) for _ in range(7)]
    listed = ask(three, "GET", collection)
    assert {thing["id"] for thing in listed.json()["data"]} == {thing["id"] for thing in things}
    assert listed.json()["has_more"] is False
    assert "x-router-silent-workers" not in listed.headers


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_pages_of_a_list_are_in_order_over_all_workers_and_lack_nothing(three: Front, order: str) -> None:
    things = [create(three, "/v1/files") for _ in range(7)]
    expected = [thing["id"] for thing in sorted(things, key=lambda thing: thing["created_at"])]
    pages, after = [], ""
    while True:
        page = ask(three, "GET", f"/v1/files?limit=2&order={order}{after}").json()
        pages.append([thing["id"] for thing in page["data"]])
        assert (page["first_id"], page["last_id"]) == (pages[-1][0], pages[-1][-1])
        after = f"&after={page['last_id']}"
        if not page["has_more"]:
            break
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert [name for page in pages for name in page] == (expected if order == "asc" else expected[::-1])


def test_a_worker_s_own_pages_are_followed_and_it_gets_the_client_s_other_wishes(three: Front) -> None:
    def paged(call: Call) -> None:
        query = dict(httpx.URL(call.path).params)
        assert query.pop("purpose") == "a b"
        at = int(query.get("after", "0"))
        data = [{"id": str(at + 1), "created_at": at}]
        call.answer(json.dumps({"data": data, "has_more": at < 4}).encode())

    three.script(status(404))
    three.workers[0].script = paged
    listed = ask(three, "GET", "/v1/files?purpose=a%20b&order=asc&limit=100")
    assert [thing["id"] for thing in listed.json()["data"]] == ["1", "2", "3", "4", "5"]


def test_an_engine_that_says_the_same_page_for_ever_is_asked_for_no_third(three: Front) -> None:
    three.script(status(404))
    three.workers[0].script = lambda call: call.answer(b'{"data": [{"id": "1"}], "has_more": true}')
    assert [thing["id"] for thing in ask(three, "GET", "/v1/files").json()["data"]] == ["1"]
    assert len([call for call in three.workers[0].calls if call.path.startswith("/v1/files")]) == 2


def test_a_list_without_a_silent_worker_says_so(three: Front) -> None:
    thing = create(three, "/v1/files")
    three.workers[(int(thing["worker"]) + 1) % 3].script = status(500)
    three.workers[(int(thing["worker"]) + 2) % 3].script = lambda call: call.answer(b"no list")
    listed = ask(three, "GET", "/v1/files")
    assert [one["id"] for one in listed.json()["data"]] == [thing["id"]]
    assert listed.headers["x-router-silent-workers"] == "2"


@pytest.mark.parametrize(
    ("answers", "expected", "code"),
    [
        ((404, 405, 404), 404, "unknown_url"),
        ((404, 500, 404), 503, "no_worker"),
        ((404, 500, 401), 401, "invalid_api_key"),
    ],
)
def test_where_nobody_lists_anything_the_client_is_told_why(
    three: Front, answers: tuple[int, ...], expected: int, code: str
) -> None:
    for worker, answer in zip(three.workers, answers, strict=True):
        worker.script = status(answer)
    refused = ask(three, "GET", "/v1/batches")
    assert (refused.status, refused.json()["error"]["code"]) == (expected, code)


def test_a_place_that_is_not_in_the_list_is_refused(three: Front) -> None:
    refused = ask(three, "GET", "/v1/files?after=file-none")
    assert (refused.status, refused.json()["error"]["param"]) == (400, "after")
