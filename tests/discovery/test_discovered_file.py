"""Workers from a watched file: they come and go, people's hands go first, and no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from found.fleet import changes, discovery, wait_looked, wait_workers, workers
from found.traffic import traffic
from live.fake_worker import Call, FakeWorker, Script
from live.front import STREAM, Front
from live.polling import eventually
from live.wire import request
from warmroute.config import UsageError
from warmroute.config.sources import load_backends

Start = Callable[..., Front]
StartWorker = Callable[..., FakeWorker]


def put(path: Path, content: str) -> None:
    """As careful programs do: a new file is renamed into place. One that is written where it stands is empty
    for a moment, and a look may fall into that."""
    new = path.with_suffix(".new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def write(path: Path, *backends: str) -> None:
    listed = "".join(f"  - {backend}\n" for backend in backends)
    put(path, f"backend:\n{listed}" if backends else "backend: []\n")


def answers_after(release: threading.Event) -> Script:
    """A worker that is busy until the event."""

    def run(call: Call) -> None:
        call.hold(release)
        call.answer(b"{}")

    return run


def ready(front: Front) -> int:
    return httpx.get(f"{front.router.url}/readiness", trust_env=False).status_code


def test_the_port_opens_before_there_is_a_worker_and_one_that_appears_serves(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    path = tmp_path / "workers.yaml"
    front = start_finder("--discover-file", str(path))
    assert ready(front) == 503
    wait_looked(front)
    state = discovery(front)
    assert (state["kind"], state["target"], state["workers"]) == ("file", str(path), 0)
    assert "No such file" in state["error"]
    worker = start_worker()
    write(path, worker.url)
    wait_workers(front, worker.url)
    assert ready(front) == 200
    assert front.ask().headers["x-router-worker"] == worker.url
    assert workers(front)[worker.url]["added_by"] == "file"
    labels = {"kind": "file", "target": str(path)}
    assert front.counted("router_discovery_workers", **labels) == 1
    assert front.counted("router_discovery_failures_total", **labels) >= 1
    assert front.counted("router_discovery_syncs_total", **labels) >= 1
    assert front.counted("router_discovery_last_success_timestamp_seconds", **labels) > 1e9
    assert discovery(front)["error"] is None


def test_a_worker_gets_no_request_before_a_check_has_passed(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    well, ill = start_worker(), start_worker()
    ill.healthy = False
    path = tmp_path / "workers.yaml"
    write(path, well.url, ill.url)
    front = start_finder("--discover-file", str(path))
    eventually(lambda: len(workers(front)) == 2 and ready(front) == 200, "both are there")
    with traffic(front.router.url) as load:
        load.wait_answers()
        assert not ill.calls
        ill.healthy = True
        load.wait_worker(ill.url)


def test_a_worker_that_vanishes_is_drained_and_removed_when_its_requests_have_ended(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    stays, leaves, comes = start_worker(), start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, leaves.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, leaves.url)
    release = threading.Event()

    def held_stream(call: Call) -> None:
        call.stream()
        call.chunk(b"data: begin\n\n")
        call.hold(release)
        call.chunk(b"data: end\n\n")
        call.end()

    leaves.script = held_stream
    with front.connect() as streaming:
        streaming.send(request("POST", "/v1/chat/completions", STREAM))
        eventually(lambda: leaves.calls, "the stream has begun")
        write(path, leaves.url, stays.url)
        wait_workers(front, leaves.url, stays.url)
        write(path, stays.url)
        eventually(lambda: workers(front)[leaves.url]["draining"], "it drains")
        with traffic(front.router.url) as load:
            load.wait_answers()
            write(path, stays.url, comes.url)
            load.wait_worker(comes.url)
            assert workers(front)[leaves.url]["inflight_requests"] == 1
            assert len(leaves.calls) == 1, "it got nothing new"
            release.set()
            answer = streaming.answer()
            wait_workers(front, stays.url, comes.url)
            load.wait_answers()
    assert answer.status == 200
    assert answer.body == b"data: begin\n\ndata: end\n\n"


def test_no_request_is_lost_while_workers_come_and_go(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    fleet = [start_worker() for _ in range(3)]
    path = tmp_path / "workers.yaml"
    write(path, *(worker.url for worker in fleet))
    front = start_finder("--discover-file", str(path))
    wait_workers(front, *(worker.url for worker in fleet))
    with traffic(front.router.url) as load:
        for turn in range(6):
            away = fleet[turn % 3]
            rest = [worker.url for worker in fleet if worker is not away]
            write(path, *rest)
            wait_workers(front, *rest)
            away.stop_listening()  # as an engine that ends after it was drained
            load.wait_answers(5)
            away.listen_again()
            write(path, *(worker.url for worker in fleet))
            load.wait_worker(away.url)


def test_the_exchange_of_a_config_maps_links_is_seen(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    one, two = start_worker(), start_worker()
    mount = tmp_path / "mount"

    def publish(version: str, *backends: str) -> None:
        folder = mount / version
        folder.mkdir(parents=True)
        write(folder / "workers.yaml", *backends)
        link = mount / "..data_tmp"
        link.symlink_to(version)
        link.replace(mount / "..data")

    publish("..1", one.url)
    (mount / "workers.yaml").symlink_to("..data/workers.yaml")
    front = start_finder("--discover-file", str(mount / "workers.yaml"))
    wait_workers(front, one.url)
    publish("..2", two.url)
    wait_workers(front, two.url)


def test_a_broken_file_keeps_the_last_good_workers_and_says_so_once(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    worker = start_worker()
    path = tmp_path / "workers.yaml"
    write(path, worker.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, worker.url)
    for content, words in (
        ("backend: [http://gpu1:8000", "expected"),
        ("backend:\n  - {url: http://gpu1:8000, wieght: 2}\n", "did you mean weight?"),
        ("workers: []\n", "expected a list under `backend`"),
        ("", "expected a list under `backend`"),
    ):
        put(path, content)
        eventually(lambda words=words: words in (discovery(front)["error"] or ""), content)  # type: ignore[misc]
        wait_looked(front)
    path.unlink()
    eventually(lambda: "No such file" in (discovery(front)["error"] or ""), "the file is gone")
    wait_looked(front)
    assert workers(front).keys() == {worker.url}
    assert front.ask().status == 200
    complaints = front.router.messages().count("discovery failed, workers stay")
    assert complaints <= 5, "one per change; of two changes within a look only the last is seen"
    write(path, worker.url)
    eventually(lambda: discovery(front)["error"] is None, "it is well again")
    assert len(changes(front)) == 1, "nothing came or went"


def test_a_file_that_is_missing_from_the_start_leaves_no_workers_that_could_stay(
    tmp_path: Path, start_finder: Start
) -> None:
    front = start_finder("--discover-file", str(tmp_path / "missing.yaml"))
    eventually(lambda: "discovery failed, no workers yet" in front.router.messages(), "it is said")
    assert "discovery failed, workers stay" not in front.router.messages()


def test_a_list_that_is_suddenly_empty_is_believed_only_after_a_while(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    worker = start_worker()
    path = tmp_path / "workers.yaml"
    write(path, worker.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, worker.url)
    write(path)
    eventually(
        lambda: "discovery finds no ready worker, all stay for now" in front.router.messages(), "it holds"
    )
    assert front.ask().status == 200
    write(path, worker.url)
    wait_looked(front)
    assert len(changes(front)) == 1, "it never left"
    write(path)
    eventually(lambda: not workers(front), "now it holds for long enough")
    assert ready(front) == 503


def test_a_worker_that_comes_back_while_it_drains_is_taken_back(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    stays, returns = start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, returns.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, returns.url)
    release = threading.Event()
    returns.script = answers_after(release)
    with front.connect() as waiting:
        waiting.send(request("POST", "/v1/chat/completions", STREAM))
        eventually(lambda: returns.calls, "it is busy")
        write(path, stays.url)
        eventually(lambda: workers(front)[returns.url]["draining"], "it drains")
        write(path, stays.url, returns.url)
        wait_workers(front, stays.url, returns.url)
        assert workers(front)[returns.url]["inflight_requests"] == 1, "the same worker, with its books"
        release.set()
        assert waiting.answer().status == 200
    assert changes(front)[-1]["taken_back"] == 1
    assert workers(front)[returns.url]["leaves_in_s"] is None


def test_new_facts_are_taken_over_in_place(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    worker = start_worker()
    path = tmp_path / "workers.json"
    path.write_text(f'{{"backend": [{{"url": "{worker.url}", "model": "a"}}]}}', encoding="utf-8")
    front = start_finder("--discover-file", str(path))
    wait_workers(front, worker.url)
    front.ask({"model": "a", "messages": [{"role": "user", "content": "x " * 9000}]})
    front.wait_idle()
    held = workers(front)[worker.url]["resident_blocks"]
    assert held
    put(path, f'{{"backend": [{{"url": "{worker.url}", "model": "b", "weight": 3}}]}}')
    eventually(lambda: workers(front)[worker.url]["weight"] == 3, "the weight is new")
    view = workers(front)[worker.url]
    assert view["models"] == ["b"]
    assert view["resident_blocks"] == held, "what it caches is still known"


def test_workers_that_people_added_are_left_alone(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    configured, added, found = start_worker(), start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, found.url)
    front = start_finder("--backend", configured.url, "--discover-file", str(path))
    wait_workers(front, configured.url, found.url)
    admin = f"{front.router.url}/workers"
    assert httpx.post(admin, json={"url": added.url}, trust_env=False).status_code == 201
    write(path, found.url, f"{{url: '{configured.url}', weight: 9}}", f"{{url: '{added.url}', weight: 9}}")
    wait_looked(front)
    write(path, found.url)
    wait_looked(front)
    wait_workers(front, configured.url, added.url, found.url)
    assert {url: view["added_by"] for url, view in workers(front).items()} == {
        configured.url: "configuration",
        added.url: "admin",
        found.url: "file",
    }
    assert {view["weight"] for view in workers(front).values()} == {1.0}
    # One that its people remove does not come back as a found one.
    write(path, found.url, added.url)
    wait_looked(front)
    httpx.delete(f"{admin}/{added.url}", trust_env=False).raise_for_status()
    wait_looked(front)
    wait_workers(front, configured.url, found.url)


def test_a_worker_removed_by_hand_stays_away_until_its_source_has_let_go_of_it(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    stays, removed = start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, stays.url, removed.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, stays.url, removed.url)
    httpx.delete(f"{front.router.url}/workers/{removed.url}", trust_env=False).raise_for_status()
    wait_looked(front)
    wait_workers(front, stays.url)
    assert discovery(front)["dismissed"] == [removed.url]
    write(path, stays.url)
    eventually(lambda: not discovery(front)["dismissed"], "the source names it no more")
    write(path, stays.url, removed.url)
    wait_workers(front, stays.url, removed.url)


def test_what_people_did_to_a_found_worker_holds(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    one, two = start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, one.url, two.url)
    front = start_finder("--discover-file", str(path))
    wait_workers(front, one.url, two.url)
    admin = f"{front.router.url}/workers/{one.url}"
    httpx.patch(admin, json={"draining": True, "weight": 4}, trust_env=False).raise_for_status()
    write(path, two.url, one.url)
    wait_looked(front)
    view = workers(front)[one.url]
    assert (view["draining"], view["weight"]) == (True, 4.0)
    # A removal that a person calls off makes the worker theirs.
    release = threading.Event()
    httpx.patch(admin, json={"draining": False}, trust_env=False).raise_for_status()
    one.script = two.script = answers_after(release)
    with front.connect() as first, front.connect() as second:
        for waiting in (first, second):
            waiting.send(request("POST", "/v1/chat/completions", STREAM))
        eventually(lambda: one.calls and two.calls, "both are busy")
        write(path, two.url)
        eventually(lambda: workers(front)[one.url]["leaves_in_s"] is not None, "it leaves")
        httpx.patch(admin, json={"draining": False}, trust_env=False).raise_for_status()
        release.set()
        assert {first.answer().status, second.answer().status} == {200}
    wait_looked(front)
    wait_workers(front, one.url, two.url)
    assert workers(front)[one.url]["added_by"] == "admin"


def test_many_workers_are_added_bit_by_bit_and_told_of_once(tmp_path: Path, start_finder: Start) -> None:
    path = tmp_path / "workers.yaml"
    write(path)
    front = start_finder("--discover-file", str(path))
    write(path, *(f"http://127.0.0.1:{port}" for port in range(1, 101)))
    eventually(lambda: len(workers(front)) == 100, "all are there")
    eventually(lambda: [change["added"] for change in changes(front)] == [100], "one line tells of them")


def test_no_more_workers_are_added_than_allowed(
    tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    one, two = start_worker(), start_worker()
    path = tmp_path / "workers.yaml"
    write(path, one.url, two.url)
    front = start_finder("--discover-file", str(path), "--discovery-max-workers", "1")
    wait_workers(front, one.url)
    wait_looked(front)
    assert discovery(front)["left_out"] == 1
    assert front.router.messages().count("discovery finds more workers than it may add") == 1
    write(path, two.url)
    wait_workers(front, two.url)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.ini", "", "expected a file named .yaml"),
        ("w.yaml", "backend: [gpu1:8000]", "did you mean http://gpu1:8000?"),
        ("w.yaml", "backend: [http://a:1, http://a:1]", "listed twice"),
        ("w.yaml", "backend: []\nport: 1", "unknown key 'port'"),
        ("w.yaml", "backend: [{url: http://a:1, preset: nvidia}]", "no latency preset"),
        ("w.toml", "backend = [", "w.toml"),
        ("w.json", "{", "w.json"),
        ("w.json", "[]", "expected a list under `backend`"),
    ],
)
def test_a_file_that_is_no_list_of_workers_is_refused_in_words(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        load_backends(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.yaml", "backend: [{url: http://a:1, weight: 2}]"),
        ("w.toml", '[[backend]]\nurl = "http://a:1"\nweight = 2\n'),
        ("w.json", '{"backend": ["http://a:1,weight=2"]}'),
    ],
)
def test_every_form_says_the_same(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert [str(backend) for backend in load_backends(path)] == ["http://a:1,weight=2"]
