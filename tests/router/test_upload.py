"""Bodies that are passed on while they come: forms with files, audio, images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator

import openai
import pytest

from live.fake_worker import Call, Gone, OnHead, chunk, fake_workers, ok
from live.front import CHAT, CHAT_PATH, STREAM, Front
from live.polling import eventually
from live.wire import Answer, Connection, request

StartFront = Callable[..., Front]

KIB, MIB = 1 << 10, 1 << 20
PATH = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=xYz"


def field(name: str, value: str) -> bytes:
    return f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


FILE = (
    b'--xYz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n"
)
END = b"\r\n--xYz--\r\n"


def form(size: int, model: str = "m", *, seed: int = 0) -> bytes:
    """As clients write it: the model, then the file."""
    return field("model", model) + FILE + random.Random(seed).randbytes(size) + END


def head(path: str = PATH, length: int | None = None, *lines: str, content_type: str = FORM) -> bytes:
    """Of an upload; without a length it comes in chunks."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    fields = [f"POST {path} HTTP/1.1", "host: router", f"content-type: {content_type}", framing, *lines]
    return "\r\n".join(fields).encode() + b"\r\n\r\n"


def echo(call: Call, ahead: bytearray) -> None:
    """Answers with what came: its size, its digest, how it was framed."""
    body = call.read_whole(ahead)
    told = {
        "size": len(body),
        "sha": hashlib.sha256(body).hexdigest(),
        "length": call.headers.get("content-length"),
        "worker": call.worker.url,
    }
    call.answer(json.dumps(told).encode())


def on_head(front: Front, does: OnHead) -> None:
    for worker in front.workers:
        worker.on_head = does


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def in_chunks(chance: random.Random, body: bytes) -> bytes:
    pieces, at = [], 0
    while at < len(body):
        size = chance.choice((1, 100, 10 * KIB, 200 * KIB))
        pieces.append(chunk(body[at : at + size]))
        at += size
    return b"".join(pieces) + b"0\r\n\r\n"


def in_pieces(connection: Connection, chance: random.Random, data: bytes) -> None:
    """Cut anywhere, each piece a write of its own."""
    at = 0
    while at < len(data):
        size = chance.choice((1, 3, 500, 30 * KIB, 300 * KIB))
        connection.send(data[at : at + size])
        at += size


# --- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("seed", range(6))
def test_a_body_arrives_as_it_was_sent_whatever_pieces_it_comes_in(
    front: Front, seed: int, framing: str
) -> None:
    on_head(front, echo)
    chance = random.Random(seed)
    bodies = [form(chance.choice((0, 10, 20 * KIB, 700 * KIB, 2 * MIB)), seed=n) for n in range(3)]
    with front.connect() as connection:
        for body in bodies:  # one connection carries them all
            chunked = framing == "chunks"
            sent = in_chunks(chance, body) if chunked else body
            in_pieces(connection, chance, head(length=None if chunked else len(body)) + sent)
            told = connection.answer().json()
            assert (told["size"], told["sha"]) == (len(body), digest(body)), f"seed {seed}"
            assert told["length"] in (None, str(len(body)))


def test_what_is_pipelined_behind_an_upload_is_answered_after_it(front: Front) -> None:
    on_head(front, echo)
    body = form(300 * KIB)
    with front.connect() as connection:
        first, rest = body[: 100 * KIB], body[100 * KIB :]
        connection.send(head(length=len(body)), first)
        front.wait_calls(1)
        connection.send(rest, request("GET", "/liveness"), head(length=len(body)), body)
        assert connection.answer().json()["sha"] == digest(body)
        assert connection.answer().status == 200
        assert connection.answer().json()["sha"] == digest(body)


def test_the_worker_has_the_beginning_before_the_client_has_sent_the_end(front: Front) -> None:
    seen = threading.Event()

    def reads_a_part(call: Call, ahead: bytearray) -> None:
        part = call.read(2 * MIB, ahead)
        seen.set()
        call.answer(digest(part + call.read(len(body) - len(part), ahead)).encode())

    body = form(4 * MIB)
    on_head(front, reads_a_part)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[: 3 * MIB])
        eventually(seen.is_set, "the worker reads before the body is whole")
        connection.send(body[3 * MIB :])
        assert connection.answer().body.decode() == digest(body)


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(front: Front) -> None:
    on_head(front, echo)
    body = form(100 * KIB)
    with front.connect() as connection:
        connection.send(head(PATH, len(body), "expect: 100-continue"))
        assert connection._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        connection.send(body)
        assert connection.answer().json()["sha"] == digest(body)
    assert "expect" not in front.calls[0].headers


def test_openai_transcribes(front: Front) -> None:
    def transcribes(call: Call, ahead: bytearray) -> None:
        body = call.read_whole(ahead)
        call.answer(json.dumps({"text": str(body.count(b"z"))}).encode())

    on_head(front, transcribes)
    client = openai.OpenAI(base_url=f"{front.router.url}/v1", api_key="none", max_retries=0)
    told = client.audio.transcriptions.create(model="m", file=("a.wav", b"z" * MIB))
    assert told.text == str(MIB)
    assert front.counted("router_requests_total", model="m", outcome="ok") >= 1


def test_an_upload_is_counted_with_its_bytes(front: Front) -> None:
    on_head(front, echo)
    body = form(MIB)
    names = "router_uploads_total", "router_upload_bytes_total"
    before = [front.counted(name) for name in names]
    with front.connect() as connection:
        connection.send(head(length=len(body)), body)
        assert connection.answer().status == 200
    assert [front.counted(name) for name in names] == [before[0] + 1, before[1] + len(body)]


# --- memory -------------------------------------------------------------------------------------


def resident_bytes(front: Front) -> int:
    with open(f"/proc/{front.router.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_two_hundred_megabytes_for_a_slow_worker_wait_at_the_client(front: Front) -> None:
    may_read = threading.Event()
    begin, piece, count = field("model", "m") + FILE, bytes(range(256)) * 4 * KIB, 200

    def waits(call: Call, ahead: bytearray) -> None:
        came = hashlib.sha256(call.read(len(begin), ahead))
        assert may_read.wait(60)
        for _ in range(count):
            came.update(call.read(len(piece), ahead))
        call.answer(came.hexdigest().encode())

    on_head(front, waits)
    before = resident_bytes(front)
    with front.connect() as connection:
        sent = threading.Semaphore(0)

        def send_all() -> None:
            for _ in range(count):
                connection.send(piece)
                sent.release()

        connection.send(head(length=len(begin) + count * len(piece)), begin)
        front.wait_calls(1)
        sender = threading.Thread(target=send_all)
        sender.start()
        eventually(lambda: not sent.acquire(timeout=0.5), "the client cannot send any more")
        assert sender.is_alive(), "all of it is in the router"
        assert resident_bytes(front) - before < 32 * MIB
        may_read.set()
        expected = hashlib.sha256(begin)
        for _ in range(count):
            expected.update(piece)
        assert connection.answer().body.decode() == expected.hexdigest()
        assert resident_bytes(front) - before < 32 * MIB
        sender.join()


def test_what_is_held_of_uploads_counts_and_is_turned_away_beyond_the_limit(start_front: StartFront) -> None:
    front = start_front("--max-buffered-bytes", "1MiB")
    on_head(front, echo)
    body = form(10 * MIB)
    with front.connect() as one, front.connect() as two, front.connect() as three:
        for connection in (one, two):
            connection.send(head(length=len(body)), body[: 100 * KIB])
        front.wait_calls(2)
        assert front.state()["held_body_bytes"] == MIB
        three.send(head(length=len(body)), body[: 100 * KIB])
        answer = three.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (503, "buffers_full")
        for connection in (one, two):
            connection.send(body[100 * KIB :])
            assert connection.answer().status == 200
    front.wait_idle()


# --- which worker -------------------------------------------------------------------------------


@pytest.fixture
def two_models(start_front: StartFront) -> Iterator[Front]:
    """The first worker serves `a`, the second one `b`."""
    with fake_workers(2) as workers:
        urls = [f"{worker.url},model={model}" for worker, model in zip(workers, "ab", strict=True)]
        front = start_front("--backend", *urls, count=0)
        front.workers.extend(workers)
        on_head(front, echo)
        yield front
        front.wait_idle()


def upload(front: Front, body: bytes, path: str = PATH, content_type: str = FORM) -> Answer:
    """In two pieces, so that it cannot be there whole."""
    with front.connect() as connection:
        connection.send(head(path, len(body), content_type=content_type))
        front.state()  # the head alone has been read
        connection.send(body)
        return connection.answer()


def test_the_forms_model_chooses_the_worker(two_models: Front) -> None:
    for model, worker in zip("ab", two_models.workers, strict=True):
        for size in (10, 100 * KIB):
            assert upload(two_models, form(size, model)).json()["worker"] == worker.url
            late = FILE + b"z" * 1000 + b"\r\n" + field("model", model) + FILE + b"z" * size + END
            assert upload(two_models, late).json()["worker"] == worker.url
        whole = form(100, model)
        with two_models.connect() as connection:
            connection.send(head(length=len(whole)), whole)  # one write: it is there whole
            assert connection.answer().json()["worker"] == worker.url


def test_a_model_behind_the_file_is_asked_to_come_before_it(two_models: Front) -> None:
    body = FILE + b"z" * 300 * KIB + b"\r\n" + field("model", "a") + END
    answer = upload(two_models, body)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "model_not_named", "model")
    assert "before the file" in error["message"]
    assert upload(two_models, body, f"{PATH}?model=b").json()["worker"] == two_models.workers[1].url


@pytest.mark.parametrize("pause", [False, True], ids=["with its head", "behind it"])
def test_a_model_behind_a_file_that_is_here_whole_chooses_the_worker(two_models: Front, pause: bool) -> None:
    body = FILE + random.Random(0).randbytes(80 * KIB) + b"\r\n" + field("model", "b")[:-2] + END
    for _ in range(4):
        with two_models.connect() as connection:
            connection.send(head(length=len(body)), b"" if pause else body)
            if pause:
                eventually(lambda: two_models.state()["held_body_bytes"], "the head was read")
                connection.send(body)
            answer = connection.answer()
        # It may come in pieces after all, and then it has to name its model sooner.
        assert answer.status == 400 or answer.json()["worker"] == two_models.workers[1].url


def test_an_unknown_model_is_refused_before_its_file_was_read(two_models: Front) -> None:
    with two_models.connect() as connection:
        connection.send(head(length=10 * MIB), form(100 * KIB, "c"))
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert answer.headers["connection"] == "close"
        assert connection.at_end()
    assert not two_models.calls


def test_where_a_form_names_no_model_any_worker_will_do(two_models: Front, front: Front) -> None:
    nameless = field("purpose", "batch") + FILE + b"z" * 300 * KIB + END
    assert upload(two_models, nameless, "/v1/files").status == 200
    short = field("language", "en") + FILE + b"z" * 10 * KIB + END
    assert upload(two_models, short).status == 200, "the engine says what it thinks of it"
    on_head(front, echo)
    assert upload(front, nameless).status == 200, "there is only one model"


def test_a_body_that_is_no_form_goes_by_the_url(two_models: Front) -> None:
    audio = b"RIFF" + b"z" * 300 * KIB
    for model, worker in zip("ab", two_models.workers, strict=True):
        answer = upload(two_models, audio, f"/v1/audio/other?model={model}", "audio/wav")
        assert (answer.json()["worker"], answer.json()["sha"]) == (worker.url, digest(audio))


def test_a_form_without_a_boundary_is_refused(front: Front) -> None:
    answer = upload(front, form(100), content_type="multipart/form-data")
    assert (answer.status, "boundary" in answer.json()["error"]["message"]) == (400, True)
    assert not front.calls


def test_an_upload_needs_a_key_as_every_request_does(start_front: StartFront) -> None:
    front = start_front("--api-key", "secret")
    on_head(front, echo)
    body = form(300 * KIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[:1000])
        assert connection.answer().status == 401
        assert connection.at_end()
    with front.connect() as connection:
        connection.send(head(PATH, len(body), "authorization: Bearer secret"), body)
        assert connection.answer().status == 200
    assert len(front.calls) == 1


# --- trouble at the worker ----------------------------------------------------------------------


def test_a_worker_that_refuses_the_connection_is_replaced(start_front: StartFront) -> None:
    front = start_front("--health-interval-s", "60", count=2)
    on_head(front, echo)
    front.workers[0].stop_listening()
    for size in (10 * KIB, 3 * MIB):
        for _ in range(4):
            body = form(size)
            told = upload(front, body).json()
            assert (told["worker"], told["sha"]) == (front.workers[1].url, digest(body))
    assert front.counted("router_retries_total", kind="connect") >= 1
    front.wait_idle()


def answers_503(call: Call, ahead: bytearray) -> None:
    call.read(KIB, ahead)
    call.answer(b"{}", 503, "connection: close")
    call.close()


def dies(call: Call, ahead: bytearray) -> None:
    call.read(KIB, ahead)
    call.reset()


@pytest.mark.parametrize("fails", [answers_503, dies], ids=["503", "dies"])
def test_while_all_of_it_is_held_another_worker_gets_it(front: Front, fails: OnHead) -> None:
    failed: list[Call] = []

    def once(call: Call, ahead: bytearray) -> None:
        if not failed:
            failed.append(call)
            fails(call, ahead)
        else:
            echo(call, ahead)

    on_head(front, once)
    body = form(400 * KIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[: 200 * KIB])
        front.wait_calls(2)
        connection.send(body[200 * KIB :])
        told = connection.answer().json()
    assert told["sha"] == digest(body)
    assert told["worker"] != failed[0].worker.url


def test_a_worker_that_dies_with_the_only_copy_is_a_502_that_says_so(front: Front) -> None:
    dead = threading.Event()

    def dies_late(call: Call, ahead: bytearray) -> None:
        call.read(2 * MIB, ahead)
        call.reset()
        dead.set()

    on_head(front, dies_late)
    body = form(8 * MIB)
    failures = front.counted("router_worker_failures_total", kind="broken")
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[: 3 * MIB])
        assert dead.wait(20)
        answer = connection.answer()
        assert answer.status == 502
        assert "before it had the whole request" in answer.json()["error"]["message"]
        assert connection.at_end()
    assert len(front.calls) == 1, "nobody else can be asked"
    assert front.counted("router_worker_failures_total", kind="broken") == failures + 1


def full(call: Call) -> None:
    call.answer(b"{}", 429, "connection: close")


def drained(call: Call) -> None:
    with Connection(call.headers["x-router"]) as operator:
        path = "/workers/" + call.worker.url.removeprefix("http://")
        assert operator.ask("PATCH", path, {"draining": True, "deadline_s": 0.1}).status == 200


@pytest.mark.parametrize(("how", "told"), [(full, 429), (drained, 503)])
def test_what_is_not_held_any_more_goes_to_nobody_in_part(
    start_front: StartFront, how: Callable[[Call], None], told: int
) -> None:
    """In chunks the rest alone would look like a whole body."""
    front = start_front(count=2)
    gave_up, settled = threading.Event(), threading.Event()

    def gives_up(call: Call, ahead: bytearray) -> None:
        call.read(2 * MIB, ahead)
        how(call)
        gave_up.set()
        settled.wait(20)
        call.keep = False

    on_head(front, gives_up)
    body = form(8 * MIB)
    with front.connect() as connection:
        connection.send(head(PATH, None, f"x-router: {front.router.url}"), chunk(body[: 3 * MIB]))
        assert gave_up.wait(20)
        on_head(front, echo)
        eventually(lambda: len(front.calls) > 1 or not front.state()["exchanges"]["total"], "it is settled")
        settled.set()
        with contextlib.suppress(ConnectionError):
            connection.send(chunk(body[3 * MIB :]), b"0\r\n\r\n")
        assert connection.answer().status == told
    assert len(front.calls) == 1, "nobody else was asked"
    front.wait_idle()


def refuses_and_closes(call: Call, ahead: bytearray) -> None:
    call.read(MIB, ahead)
    call.answer(b'{"error": "too long"}', 413, "connection: close")
    call.close()


def refuses_and_resets(call: Call, ahead: bytearray) -> None:
    """What a server does that closes with unread bytes in its socket."""
    call.read(MIB, ahead)
    call.answer(b'{"error": "too long"}', 413, "connection: close")
    call.keep = False
    call.socket.close()


def refuses_and_keeps(call: Call, ahead: bytearray) -> None:
    call.read(MIB, ahead)
    call.answer(b'{"error": "too long"}', 413)
    call.read(64 * MIB, ahead)  # until it ends


@pytest.mark.parametrize("how", [refuses_and_closes, refuses_and_resets, refuses_and_keeps])
def test_an_answer_that_comes_early_reaches_a_client_that_still_sends(front: Front, how: OnHead) -> None:
    on_head(front, how)
    body = form(32 * MIB)
    for _ in range(5):
        with front.connect() as connection:

            def send_all(connection: Connection = connection) -> None:
                with contextlib.suppress(OSError):  # the router has closed: the answer is there
                    connection.send(head(length=len(body)), body)

            sender = threading.Thread(target=send_all)
            sender.start()
            answer = connection.answer()
            assert (answer.status, answer.json()) == (413, {"error": "too long"})
            assert answer.headers["connection"] == "close"
            assert connection.at_end()
            connection.socket.shutdown(socket.SHUT_RDWR)
            sender.join()
    eventually(
        lambda: all(call.gone.is_set() or not call.keep for call in front.calls),
        "the worker's connections end",
    )


def test_a_connection_that_holds_half_a_request_carries_no_other_one(front: Front) -> None:
    body = form(8 * MIB)

    def refuses(call: Call, ahead: bytearray) -> None:
        call.read(MIB, ahead)  # all that is there, so that nothing waits to be written
        call.answer(b"{}", 413)
        stray.append(call.read(1, ahead))

    stray: list[bytes] = []
    on_head(front, refuses)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[:MIB])
        assert connection.answer().status == 413
        (call,) = front.calls
        for worker in front.workers:
            worker.on_head = None
        assert all(front.ask().status == 200 for _ in range(4))
        eventually(call.gone.is_set, "the router closes it")
    assert not stray


def test_an_early_answer_may_be_a_stream_and_the_rest_of_the_body_still_arrives(front: Front) -> None:
    body = form(4 * MIB)

    def both_ways(call: Call, ahead: bytearray) -> None:
        part = call.read(MIB, ahead)
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.chunk(digest(part + call.read(len(body) - MIB, ahead)).encode())
        call.end()

    on_head(front, both_ways)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[: 2 * MIB])
        assert b"connection: close" in connection._until(b"\r\n\r\n")
        assert connection._until(b"\n\n") == b"9\r\ndata: 1"
        connection.send(body[2 * MIB :])
        assert digest(body).encode() in connection._rest()


def test_a_worker_that_does_not_read_is_given_up_and_blamed(start_front: StartFront) -> None:
    front = start_front("--idle-timeout-s", "1", "--body-timeout-s", "60")
    on_head(front, lambda call, _: call.wait_gone())
    with front.connect() as connection:
        sender = threading.Thread(
            target=suppressed(connection.send), args=(head(length=64 * MIB), b"z" * 64 * MIB)
        )
        sender.start()
        answer = connection.answer()
        assert (answer.status, "has not read" in answer.json()["error"]["message"]) == (504, True)
        connection.socket.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert front.counted("router_worker_failures_total", kind="timeout") == 1
    front.wait_idle()


def suppressed(does: Callable[..., None]) -> Callable[..., None]:
    """What the other side may end at any time."""

    def run(*arguments: bytes) -> None:
        with contextlib.suppress(OSError):
            does(*arguments)

    return run


def test_after_the_last_byte_the_answer_has_its_own_time(start_front: StartFront) -> None:
    front = start_front("--first-byte-timeout-s", "1")

    def silent(call: Call, ahead: bytearray) -> None:
        call.read_whole(ahead)
        call.wait_gone()

    on_head(front, silent)
    body = form(MIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body)
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (504, "worker_timeout")
        assert connection.ask("GET", "/liveness").status == 200, "the request was whole"
    front.wait_idle()


def test_the_time_that_an_upload_waits_for_room_is_not_its_workers(start_front: StartFront) -> None:
    front = start_front("--first-byte-timeout-s", "3", "--max-inflight-per-worker", "1")
    ends, answers = threading.Event(), threading.Event()

    def streams(call: Call) -> None:
        call.stream()
        call.chunk(b"data: 1\n\n")
        call.hold(ends)
        call.end()

    def answers_later(call: Call, ahead: bytearray) -> None:
        call.read_whole(ahead)
        answers.wait(20)
        call.answer(b"{}")

    front.script(streams)
    with front.connect() as one, front.connect() as two:
        one.send(request("POST", CHAT_PATH, STREAM))
        front.wait_calls(1)
        on_head(front, answers_later)
        body = form(10 * KIB)
        two.send(head(length=len(body)), body[:10])
        eventually(lambda: front.state()["held_body_bytes"], "the upload has begun")
        two.send(body[10:])  # all of it at once: the router has it while it waits
        eventually(lambda: (front.state()["admission"]["oldest_s"]["default"] or 0) > 3.5, "it waits")
        ends.set()
        front.wait_calls(2)
        looked = front.counted("router_loop_lag_seconds_count")
        eventually(lambda: front.counted("router_loop_lag_seconds_count") > looked, "the clock is looked at")
        answers.set()
        assert two.answer().status == 200
    front.wait_idle()


# --- trouble at the client ----------------------------------------------------------------------


def reads_on(call: Call, ahead: bytearray) -> None:
    call.read_whole(ahead)


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("sent", [1000, 3 * MIB])
def test_a_client_that_leaves_in_the_middle_stops_its_worker(front: Front, how: str, sent: int) -> None:
    on_head(front, reads_on)
    gone = front.counted("router_requests_total", outcome="client_gone")
    body = form(8 * MIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[:sent])
        (call,) = front.wait_calls(1)
        if how == "resets":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(call.gone.is_set, "the worker sees that it was given up")
    front.wait_idle()
    assert front.counted("router_requests_total", outcome="client_gone") == gone + 1
    assert len(front.calls) == 1


def test_a_client_may_leave_before_its_model_is_known(front: Front) -> None:
    on_head(front, echo)
    with front.connect() as connection:
        connection.send(head(length=MIB), field("language", "en"))
        eventually(lambda: front.state()["held_body_bytes"] > 0, "the upload has begun")
    front.wait_idle()
    assert not front.calls


@pytest.mark.parametrize("begun", [b"", field("language", "en"), form(MIB)], ids=["nothing", "field", "file"])
def test_a_body_that_comes_too_slowly_is_refused_and_nobody_is_blamed(
    start_front: StartFront, begun: bytes
) -> None:
    front = start_front("--body-timeout-s", "1")
    on_head(front, reads_on)
    with front.connect() as connection:
        connection.send(head(length=8 * MIB), begun)
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "body_timeout")
        assert connection.at_end()
    front.wait_idle()
    assert front.counted("router_worker_failures_total") == 0
    for call in front.calls:
        eventually(call.gone.is_set, "the worker's connection ends")


def test_a_model_that_dribbles_in_is_not_waited_for(start_front: StartFront) -> None:
    front = start_front("--body-timeout-s", "1")
    answered = threading.Event()
    with front.connect() as connection:
        connection.send(head(length=8 * MIB), field("language", "en"))

        def dribble() -> None:
            with contextlib.suppress(OSError):
                while not answered.wait(0.1):
                    connection.send(b"-")

        sender = threading.Thread(target=dribble)
        sender.start()
        answer = connection.answer()
        answered.set()
        sender.join()
    assert (answer.status, answer.json()["error"]["code"]) == (408, "body_timeout")
    assert not front.calls
    front.wait_idle()


def test_a_body_without_a_length_has_a_limit_all_the_same(start_front: StartFront) -> None:
    front = start_front("--max-body-bytes", "2MiB")
    on_head(front, reads_on)
    body = form(3 * MIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)))
        assert connection.answer().status == 413
    assert not front.calls
    with front.connect() as connection:
        connection.send(head(), chunk(body[:MIB]))
        (call,) = front.wait_calls(1)
        connection.send(chunk(body[MIB:]))
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert connection.at_end()
    eventually(call.gone.is_set, "the worker does not get the rest")
    front.wait_idle()
    assert front.counted("router_worker_failures_total") == 0


def test_chunks_that_are_none_end_the_upload(front: Front) -> None:
    on_head(front, reads_on)
    with front.connect() as connection:
        connection.send(head(), chunk(form(MIB)))
        (call,) = front.wait_calls(1)
        connection.send(b"zzz\r\n")
        answer = connection.answer()
        assert (answer.status, "malformed chunks" in answer.json()["error"]["message"]) == (400, True)
        assert connection.at_end()
    eventually(call.gone.is_set, "the worker does not get the rest")


def test_a_stopped_router_ends_uploads_that_outlast_its_grace(start_front: StartFront) -> None:
    front = start_front("--shutdown-grace-s", "0.5", "--shutdown-idle-s", "0.1")
    on_head(front, reads_on)
    with front.connect() as connection:
        connection.send(head(length=8 * MIB), form(MIB))
        (call,) = front.wait_calls(1)
        front.router.terminate()
        assert front.router.wait() == 0
    eventually(call.gone.is_set, "the worker's connection ends")


def test_chats_beside_uploads_are_not_held_up(front: Front) -> None:
    on_head(front, echo)
    body = form(MIB)
    with front.connect() as connection:
        connection.send(head(length=len(body)), body[: 700 * KIB])
        front.wait_calls(1)
        for worker in front.workers:
            worker.on_head = None
        front.script(ok)
        assert all(front.ask(CHAT, CHAT_PATH).status == 200 for _ in range(5))
        connection.send(body[700 * KIB :])
        assert connection.answer().json()["sha"] == digest(body)


def test_a_worker_that_is_gone_is_noticed_by_its_script() -> None:
    """The tests above trust that a script sees its end."""
    with fake_workers(1) as (worker,):
        ended = threading.Event()

        def waits(call: Call, ahead: bytearray) -> None:
            with pytest.raises(Gone):
                call.read_whole(ahead)
            ended.set()

        worker.on_head = waits
        with Connection(worker.url) as connection:
            connection.send(head(length=10), b"x")
        assert ended.wait(20)
