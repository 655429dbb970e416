"""`simulator serve` as a server and a process: connections, faults, signals, exit codes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from .conftest import Served, eventually, serving

ENDLESS = {"prompt": "endless", "max_tokens": 100_000, "stream": True}

# For answers that never come.
BRIEFLY = httpx.Timeout(20.0, read=0.5)


def completion(url: str, **fields: object) -> httpx.Response:
    return httpx.post(url + "/v1/completions", json={"prompt": "hello", "max_tokens": 4} | fields)


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_until(sock: socket.socket, marker: bytes) -> bytes:
    data = b""
    while marker not in data:
        received = sock.recv(65536)
        assert received, data
        data += received
    return data


def test_a_client_that_goes_away_aborts_its_request(served: Served) -> None:
    before = served.state()["totals"]["aborted"]
    with httpx.stream("POST", served.url + "/v1/completions", json=ENDLESS) as answer:
        chunks = answer.iter_bytes()
        next(chunks)
        assert httpx.get(served.url + "/load").json() == {"server_load": 1}
    eventually(lambda: served.state()["totals"]["aborted"] == before + 1)
    state = served.state()
    assert (state["running"], state["waiting"], state["blocks"]["referenced"]) == (0, 0, 0)


def test_a_client_that_goes_away_before_a_plain_answer_aborts_too(served: Served) -> None:
    before = served.state()["totals"]["aborted"]
    body = json.dumps(ENDLESS | {"stream": False}).encode()
    with connect(served.url) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: served.state()["running"] == 1)
    eventually(lambda: served.state()["totals"]["aborted"] == before + 1)
    state = served.state()
    assert (state["running"], state["waiting"], state["blocks"]["referenced"]) == (0, 0, 0)


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    def post(tokens: int) -> bytes:
        body = json.dumps({"prompt": "pipeline", "max_tokens": tokens}).encode()
        return b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    with connect(served.url) as sock:
        requests = b"".join(post(tokens) for tokens in range(1, 8)) + b"GET /version HTTP/1.1\r\n\r\n"
        sock.sendall(requests)
        text = read_until(sock, b'"version"').decode()
    lengths = [part.split(",")[0] for part in text.split('"completion_tokens":')[1:]]
    assert lengths == [f"{tokens}" for tokens in range(1, 8)]


def test_a_request_may_come_byte_by_byte_chunked_and_after_a_hundred_continue(served: Served) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    with connect(served.url) as sock:
        for byte in head:
            sock.sendall(bytes([byte]))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        for chunk in (b'{"prompt":', b' "chunked",', b'"max_tokens":3}', b""):
            sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        assert b'"completion_tokens":3' in read_until(sock, b'"usage"')


def test_garbage_is_refused_and_the_server_lives_on(served: Served) -> None:
    with connect(served.url) as sock:
        sock.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert completion(served.url).status_code == 200


def test_refuse_closes_new_connections_until_its_count_is_used_up(served: Served) -> None:
    served.fault("refuse", count=2)
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            completion(served.url)
    assert completion(served.url).status_code == 200


def test_refuse_closes_idle_connections_at_once(served: Served) -> None:
    with httpx.Client() as client:
        client.get(served.url + "/health")
        served.fault("refuse")
        eventually(lambda: refused(client, served.url))
        served.fault("none")
        assert client.get(served.url + "/health").status_code == 200


def refused(client: httpx.Client, url: str) -> bool:
    try:
        client.get(url + "/health")
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("status", [500, 503])
def test_an_injected_error_hits_as_often_as_asked(served: Served, status: int) -> None:
    served.fault(f"error_{status}", count=1)
    assert httpx.get(served.url + "/health").status_code == 200
    assert completion(served.url).status_code == status
    assert completion(served.url).status_code == 200


def test_a_fault_may_hit_the_health_endpoint_too(served: Served) -> None:
    served.fault("error_503", health=True)
    assert httpx.get(served.url + "/health").status_code == 503
    served.fault("none")
    assert httpx.get(served.url + "/health").status_code == 200


def test_hang_takes_a_request_and_never_answers(served: Served) -> None:
    requests = served.state()["totals"]["requests"]
    served.fault("hang", count=1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(served.url + "/v1/completions", json={"prompt": "x"}, timeout=BRIEFLY)
    assert served.state()["totals"]["requests"] == requests
    assert completion(served.url).status_code == 200


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_die_midstream_aborts_after_so_many_tokens(served: Served, chunks: int) -> None:
    served.fault("die_midstream", count=1, after_chunks=chunks)
    received = b""
    url = served.url + "/v1/completions"
    body = {"prompt": "dying", "max_tokens": 50, "stream": True}

    def read() -> None:
        nonlocal received
        with httpx.stream("POST", url, json=body) as answer:
            for data in answer.iter_bytes():
                received += data

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert received.count(b"data: ") == chunks
    eventually(lambda: served.state()["running"] == 0)
    assert completion(served.url).status_code == 200


def test_die_midstream_cuts_a_plain_answer_in_half(served: Served) -> None:
    served.fault("die_midstream", count=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        completion(served.url)


def test_slow_multiplies_engine_time(served: Served) -> None:
    served.fault("slow", factor=1e6)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(served.url + "/v1/completions", json={"prompt": "slow"}, timeout=BRIEFLY)
    served.fault("none")
    assert completion(served.url).status_code == 200


@pytest.mark.parametrize(
    "body",
    ['{"kind":"explode"}', '{"kind":"hang","count":0}', '{"kind":"slow","count":1}', '{"kind":"hang","x":1}',
     '{"kind":"hang","worker":9}', '{"kind":"refuse","health":true}'],
)  # fmt: skip
def test_a_fault_that_makes_no_sense_is_refused(served: Served, body: str) -> None:
    assert httpx.post(served.url + "/__fault", content=body).status_code == 400


def test_an_api_key_guards_what_is_under_v1_and_nothing_else() -> None:
    with serving("--api-key", "one", "--api-key", "two") as fleet:
        assert httpx.get(fleet.url + "/health").status_code == 200
        assert completion(fleet.url).status_code == 401
        for key in ("one", "two", "three"):
            headers = {"authorization": f"Bearer {key}"}
            status = httpx.get(fleet.url + "/v1/models", headers=headers).status_code
            assert status == (401 if key == "three" else 200)


def test_it_ends_cleanly_on_a_signal_and_leaves_its_totals(tmp_path: Path) -> None:
    report = tmp_path / "totals.json"
    with serving("--json", str(report), "--fault", "1:error_500:1", workers=2) as fleet:
        assert [completion(url).status_code for url in fleet.urls] == [200, 500]
        with httpx.stream("POST", fleet.url + "/v1/completions", json=ENDLESS) as answer:
            chunks = answer.iter_bytes()
            next(chunks)
            assert fleet.stop() == 0
    totals = json.loads(report.read_text())
    assert totals["totals"]["requests"] == 2
    assert [worker["totals"]["finished"] for worker in totals["workers"]] == [1, 0]


def test_equal_seeds_give_equal_answers_and_others_do_not() -> None:
    def answer(seed: str) -> str:
        with serving("--seed", seed) as fleet:
            text: str = completion(fleet.url, max_tokens=30).json()["choices"][0]["text"]
            return text

    assert answer("1") == answer("1") != answer("2")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "warmroute_simulator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--workers", "0"], "--workers must be"),
        (["serve", "--port", "65534"], "--port must leave room"),
        (["serve", "--speed", "0"], "--speed must be positive"),
        (["serve", "--preset", "abacus"], "no preset `abacus`"),
        (["serve", "--kv-tokens", "3"], "kv_tokens"),
        (["serve", "--max-model-len", "999999999"], "--max-model-len"),
        (["serve", "--fault", "0:explode"], "expected WORKER:KIND"),
        (["serve", "--fault", "7:hang"], "worker 7"),
        ([], "COMMAND"),
    ],
)
def test_a_usage_error_says_what_is_wrong_and_exits_2(arguments: list[str], message: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_taken_port_exits_1_and_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", "--workers", "1", "--port", str(port))
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
